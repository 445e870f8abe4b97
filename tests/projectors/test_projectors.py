"""Projectors: exam for all rows, and the laws of those that change what the loss sees."""

import pytest
import torch

from offdiag._checks import ConfigError
from offdiag.projectors import Reweighting, SparseAutoencoder, slice_projector
from offdiag.registry import PROJECTORS


@pytest.mark.parametrize("name", sorted(PROJECTORS))
def test_every_projector_goes_from_features_to_the_last_width(name, generator):
    torch.manual_seed(0)
    rows = torch.randn(8, 16, generator=generator)
    project = PROJECTORS[name]((16, 12, 6))
    assert project(rows).shape == (8, 6)
    other = PROJECTORS[name]((16, 12, 6))
    other.load_state_dict(project.state_dict())
    assert torch.equal(other.eval()(rows), project.eval()(rows))


def test_a_sparse_code_has_at_most_its_active_entries(generator):
    code = SparseAutoencoder(6, atoms=32, active=5).code(torch.randn(64, 6, generator=generator))
    assert (code > 0).sum(1).max() <= 5 and (code >= 0).all()


def test_the_weights_of_the_reweighting_fall_geometrically():
    ones = torch.ones(1, 8)
    assert torch.equal(Reweighting(8, kappa=1.0)(ones), ones)
    weights = Reweighting(8, kappa=2.0)(ones)[0]
    torch.testing.assert_close(weights, 2.0 ** -torch.arange(8.0))
    assert weights.square().sum().item() == pytest.approx(1 / (1 - 2.0**-2), rel=1e-4)


def test_the_slice_gives_no_gradient_to_the_other_coordinates():
    rows = torch.ones(4, 16, requires_grad=True)
    slice_projector((16, 6))(rows).sum().backward()
    assert rows.grad[:, :6].abs().min() > 0 and rows.grad[:, 6:].abs().max() == 0
    with pytest.raises(ConfigError, match="cannot be wider than the features: 4; got 6"):
        slice_projector((4, 6))
