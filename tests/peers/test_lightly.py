"""The same values and gradients as lightly's losses, or the difference of convention, stated."""

import pytest
import torch
import torch.nn.functional as F

from offdiag.normalisers import l2_normalise
from offdiag.objectives.assignment import sinkhorn
from offdiag.objectives.barlow_twins import BarlowTwins
from offdiag.objectives.coding_rate import EMPSSL
from offdiag.objectives.frossl import FroSSL
from offdiag.objectives.infonce import InfoNCE
from offdiag.objectives.koleo import KoLeo
from offdiag.objectives.mmcr import MMCR
from offdiag.objectives.prediction import prediction_loss
from offdiag.objectives.sigreg import epps_pulley, random_directions
from offdiag.objectives.vicreg import VICReg

lightly = pytest.importorskip("lightly.loss", reason="needs lightly: install offdiag[dev]")
N, DIM = 64, 16


@pytest.fixture
def views(generator):
    z = torch.randn(N, DIM, generator=generator)
    return z, z + 0.3 * torch.randn(N, DIM, generator=generator)


SAME = {
    "Barlow Twins, scale 1": (
        lambda a, b: BarlowTwins(scale=1.0)(a, b).total,
        lambda a, b: lightly.BarlowTwinsLoss()(a, b),
    ),
    "VICReg": (lambda a, b: VICReg()(a, b).total, lambda a, b: lightly.VICRegLoss()(a, b)),
    "InfoNCE is NTXent": (
        lambda a, b: InfoNCE()(a, b).total,
        lambda a, b: lightly.NTXentLoss(temperature=0.5)(a, b),
    ),
    "DCL": (
        lambda a, b: InfoNCE(temperature=0.1, decoupled=True)(a, b).total,
        lambda a, b: lightly.DCLLoss(temperature=0.1)(a, b),
    ),
    "KoLeo of one view": (lambda a, b: KoLeo()(a).total, lambda a, b: lightly.KoLeoLoss()(a)),
    "FroSSL: lightly's is the sum over views, its invariance times their number": (
        lambda a, b: 2 * FroSSL(invariance=2.0)(a, b).total,
        lambda a, b: lightly.FroSSLLoss()([a, b]),
    ),
    "MMCR: ours is divided by sqrt(n min(n, dim)); rows normed by the caller there": (
        lambda a, b: MMCR()(a, b).total * (N * DIM) ** 0.5,
        lambda a, b: lightly.MMCRLoss(lmda=0.0)(
            F.normalize(a, dim=1)[:, None], F.normalize(b, dim=1)[:, None]
        ),
    ),
    "SimSiam: ours is 1 more": (
        lambda a, b: prediction_loss(a, b, normalise=l2_normalise) - 1,
        lambda a, b: lightly.NegativeCosineSimilarity()(a, b.detach()),
    ),
}


@pytest.mark.parametrize("name", SAME)
def test_value_and_gradient_are_lightlys(name, views):
    found = []
    for loss in SAME[name]:
        a, b = (view.clone().requires_grad_() for view in views)
        value = loss(a, b)
        value.backward()
        found.append((value.detach(), a.grad))
    torch.testing.assert_close(found[0][0], found[1][0], rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(found[0][1], found[1][1], rtol=1e-4, atol=1e-6)


def test_sinkhorn_assignments_are_lightlys(generator):
    from lightly.loss.swav_loss import sinkhorn as theirs

    scores = 0.1 * torch.randn(N, 10, generator=generator)
    torch.testing.assert_close(
        sinkhorn(scores, eps=0.05, iterations=3), theirs(scores, 3, 0.05), atol=1e-6, rtol=1e-5
    )


def test_sigregs_statistic_is_lightlys_for_the_same_directions(views, monkeypatch):
    directions = random_directions(64, like=views[0], step=0)
    theirs = lightly.SIGReg(num_vectors=64)
    monkeypatch.setattr(theirs, "_generate_unit_vectors", lambda *_: directions)
    torch.testing.assert_close(epps_pulley(views[0], directions), theirs(views[0]))


def test_emp_ssl_of_lightly_1_6_0_rewards_collapse_and_ours_does_not():
    """Its coding rate has the other sign: equal rows have the lower loss there.

    Two lines of proof: the coding rate of equal rows is the smallest that there is, and what
    is added to a loss is made small. If this fails with a newer lightly, the sign was mended.
    """
    frame = torch.eye(DIM).repeat(N // DIM, 1)
    equal = F.normalize(torch.ones(N, DIM), dim=1)
    ours = EMPSSL()
    assert ours(frame, frame).total < ours(equal, equal).total
    import lightly as package

    if package.__version__ == "1.6.0":
        theirs = lightly.EMPSSLLoss()
        assert theirs([equal, equal]) < theirs([frame, frame])
