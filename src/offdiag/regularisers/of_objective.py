"""An objective on the projections as a term that is added to another method's loss."""

from typing import Annotated

from torch import nn

from offdiag._checks import at_least
from offdiag._distributed import whole_batch
from offdiag.methods.method import Embedded, Views
from offdiag.objectives.koleo import KoLeo
from offdiag.objectives.objective import Loss, Objective
from offdiag.objectives.sigreg import SIGReg
from offdiag.objectives.vicreg import VICReg


class OnProjections(nn.Module):
    """weight * objective(z_a, z_b, ...)."""

    def __init__(self, objective: Objective, *, weight: float) -> None:
        super().__init__()
        at_least("the weight of the regulariser", weight, 0)
        self.objective, self.weight = objective, weight

    def forward(self, embedded: Embedded) -> Loss:
        loss = self.objective(*(whole_batch(z) for z in embedded.projection))
        return Loss(total=self.weight * loss.total, terms=loss.terms)

    def refit(self, views: Views, *, step: int) -> None:
        """Pass the step on."""
        refit = getattr(self.objective, "refit", None)
        if refit is not None:
            refit(views, step=step)


def koleo(*, weight: Annotated[float, "factor of the term"] = 0.1) -> OnProjections:
    """KoLeo (Sablayrolles et al. 2019), as in DINOv2."""
    return OnProjections(KoLeo(), weight=weight)


def variance_covariance(
    *,
    weight: Annotated[float, "factor of both terms"] = 0.04,
    variance: Annotated[float, "weight of the hinge on each coordinate's deviation"] = 25.0,
    covariance: Annotated[float, "weight of the off-diagonal covariances"] = 1.0,
) -> OnProjections:
    """VICReg's variance and covariance terms, without its invariance."""
    return OnProjections(
        VICReg(invariance=0.0, variance=variance, covariance=covariance), weight=weight
    )


def sigreg(
    *,
    weight: Annotated[float, "factor of the term"] = 0.02,
    slices: Annotated[int, "random directions at each step"] = 256,
) -> OnProjections:
    """SIGReg's Gaussian term, without its invariance."""
    return OnProjections(SIGReg(weight=1.0, slices=slices), weight=weight)
