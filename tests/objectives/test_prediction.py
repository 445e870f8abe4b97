"""Laws of the objective."""

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st

from offdiag.losses import NORMALISERS
from offdiag.normalisers import batch_normalise, l2_normalise
from offdiag.objectives.prediction import prediction_loss


@pytest.fixture
def pair(generator):
    p = torch.randn(32, 5, generator=generator, requires_grad=True)
    z = torch.randn(32, 5, generator=generator, requires_grad=True)
    return p, z


def test_bn_form_is_the_papers_loss_over_dim(pair):
    # Wen & Li: 0.5 E || BN F - sg BN G ||^2, written without the library's normaliser
    p, z = (x.double() for x in pair)

    def bn(x):
        return (x - x.mean(0)) / (x.var(0, correction=0) + 1e-5).sqrt()

    paper = 0.5 * (bn(p) - bn(z)).square().sum(1).mean()
    torch.testing.assert_close(prediction_loss(p, z), paper / 5)


def test_bn_form_is_one_minus_the_mean_correlation(pair):
    p, z = pair
    correlations = torch.stack(
        [torch.corrcoef(torch.stack([p[:, j], z[:, j]]))[0, 1] for j in range(5)]
    )
    torch.testing.assert_close(prediction_loss(p, z), 1 - correlations.mean(), atol=1e-4, rtol=0)


def test_l2_form_is_one_minus_cosine(pair):
    p, z = pair
    expected = 1 - F.cosine_similarity(p, z, dim=1).mean()
    torch.testing.assert_close(prediction_loss(p, z, normalise=l2_normalise), expected)


@pytest.mark.parametrize("normalise", NORMALISERS.values(), ids=NORMALISERS)
@pytest.mark.parametrize(
    ("stop", "reached"),
    [("target", (True, False)), ("none", (True, True)), ("online", (False, True))],
)
def test_gradient_reaches_exactly_the_sides_that_are_not_stopped(pair, normalise, stop, reached):
    p, z = pair
    prediction_loss(p, z, normalise=normalise, stop_gradient=stop).backward()
    assert tuple(x.grad is not None and bool(x.grad.abs().sum() > 0) for x in pair) == reached


@pytest.mark.parametrize("normalise", [batch_normalise, l2_normalise], ids=["bn", "l2"])
@given(scale=st.floats(0.5, 100), seed=st.integers(0, 99))
def test_normalised_loss_is_blind_to_scale_and_lies_in_its_range(normalise, scale, seed):
    draw = torch.Generator().manual_seed(seed)
    p, z = torch.randn(16, 4, generator=draw), torch.randn(16, 4, generator=draw)
    loss = prediction_loss(p, z, normalise=normalise)
    assert 0 <= loss.item() <= 2
    torch.testing.assert_close(
        prediction_loss(scale * p, z, normalise=normalise), loss, atol=1e-3, rtol=0
    )


@pytest.mark.parametrize("normalise", NORMALISERS.values(), ids=NORMALISERS)
def test_a_collapsed_representation_is_a_global_optimum(normalise):
    same = torch.ones(8, 3)
    assert prediction_loss(same, same, normalise=normalise).item() == 0
