"""What a target goes through: exam for all rows, and the laws of each."""

import pytest
import torch

from offdiag.registry import TRANSFORMS
from offdiag.transforms.centre import Centre
from offdiag.transforms.fsq import FSQ, active_codes
from offdiag.transforms.whiten import cholesky_whitened, iteratively_whitened, zca_whitened

DIM = 6


@pytest.fixture
def batch(generator):
    mixed = torch.randn(DIM, DIM, generator=generator, dtype=torch.float64)
    return torch.randn(128, DIM, generator=generator, dtype=torch.float64) @ mixed + 3


@pytest.mark.parametrize("name", sorted(TRANSFORMS))
def test_every_transform_keeps_the_shape_and_stays_finite(name, generator):
    for rows in (
        torch.randn(16, DIM, generator=generator),
        torch.ones(4, DIM),
        torch.zeros(2, DIM),
    ):
        out = TRANSFORMS[name](DIM)(rows)
        assert out.shape == rows.shape and out.isfinite().all()


@pytest.mark.parametrize("whitened", [zca_whitened, cholesky_whitened])
def test_whitened_rows_have_the_identity_as_covariance(whitened, batch):
    w = whitened(batch)
    n = len(w) if whitened is zca_whitened else len(w) - 1
    torch.testing.assert_close(w.T @ w / n, torch.eye(DIM, dtype=torch.float64), atol=1e-9, rtol=0)


def test_two_whitenings_differ_by_one_rotation_and_zca_is_the_nearest(batch):
    centred = batch - batch.mean(0)
    zca, cholesky = zca_whitened(batch), cholesky_whitened(batch) * (128 / 127) ** 0.5
    Q = torch.linalg.lstsq(zca, cholesky).solution
    torch.testing.assert_close(Q @ Q.T, torch.eye(DIM, dtype=torch.float64), atol=1e-8, rtol=0)
    assert (zca - centred).norm() <= (cholesky - centred).norm()


def test_cholesky_whitening_ignores_a_lower_triangular_map(batch):
    lower = torch.tril(torch.ones(DIM, DIM, dtype=torch.float64)) + torch.eye(DIM)
    torch.testing.assert_close(cholesky_whitened(batch @ lower.T), cholesky_whitened(batch))


def test_four_newton_steps_leave_a_third_of_the_variance_at_64_dimensions(generator):
    w = iteratively_whitened(torch.randn(20_000, 64, generator=generator))
    assert w.var(0).mean().item() == pytest.approx(0.33, abs=0.03)


def test_a_constant_vector_is_gone_once_the_centre_has_followed(generator):
    centre, plain = Centre(DIM), Centre(DIM)
    shift = torch.arange(DIM, dtype=torch.float32)
    for step in range(200):
        rows = torch.randn(16, DIM, generator=generator)
        centre.refit((rows + shift,), step=step)
        plain.refit((rows,), step=step)
    rows = torch.randn(16, DIM, generator=generator)
    torch.testing.assert_close(centre(rows + shift), plain(rows), atol=1e-4, rtol=0)


@pytest.mark.parametrize("levels", range(2, 9))
def test_fsq_has_exactly_its_levels(levels):
    rows = torch.linspace(-8, 8, 4001)[:, None]
    values = FSQ(levels=levels)(rows).unique()
    assert len(values) == levels and values.abs().max() <= 1
    middle = FSQ(levels=levels)(torch.zeros(1, 1)).item()
    assert middle == 0


def test_fsq_passes_the_gradient_of_its_bound():
    rows = torch.tensor([[0.3, -2.0]], requires_grad=True)
    FSQ(levels=5)(rows).sum().backward()
    half = 4 * (1 - 1e-3) / 2
    expected = (1 - rows.detach().tanh().square()) * half / 2
    torch.testing.assert_close(rows.grad, expected)


def test_active_codes_counts_different_rows():
    assert active_codes(torch.tensor([[0.0, 1.0], [0.0, 1.0], [1.0, 1.0]])) == 2
