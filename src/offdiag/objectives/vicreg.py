"""VICReg (Bardes et al. 2022): invariance between views, variance and covariance within each."""

from typing import Annotated

from torch import nn

from offdiag._checks import at_least
from offdiag._types import Embeddings, Scalar
from offdiag.objectives.objective import Loss, detached


class VICReg(nn.Module):
    """invariance * mean (z_a - z_b)^2 + variance * mean relu(1 - std) + covariance * |off|^2 / dim.

    The variance term is the mean over coordinates and over the two views of
    relu(1 - sqrt(var + 1e-4)); the covariance term is the sum over the two views of the squared
    off-diagonal covariances, divided by dim. Both divide by n - 1. 0 for two equal views with
    uncorrelated coordinates of variance 1 or more; .99 `variance` where all outputs are equal.
    No stop-gradient.
    """

    def __init__(
        self,
        *,
        invariance: Annotated[float, "weight of the distance between the views"] = 25.0,
        variance: Annotated[float, "weight of the hinge on each coordinate's deviation"] = 25.0,
        covariance: Annotated[float, "weight of the off-diagonal covariances"] = 1.0,
    ) -> None:
        super().__init__()
        for name, weight in (
            ("invariance", invariance),
            ("variance", variance),
            ("covariance", covariance),
        ):
            at_least(f"the weight of the {name}", weight, 0)
        self.invariance, self.variance, self.covariance = invariance, variance, covariance

    def forward(self, z_a: Embeddings, z_b: Embeddings) -> Loss:
        invariance = (z_a - z_b).square().mean()
        variance = (hinge(z_a) + hinge(z_b)) / 2
        covariance = off_diagonal_covariance(z_a) + off_diagonal_covariance(z_b)
        return Loss(
            total=self.invariance * invariance
            + self.variance * variance
            + self.covariance * covariance,
            terms=detached(invariance=invariance, variance=variance, covariance=covariance),
        )


def hinge(z: Embeddings) -> Scalar:
    """Mean over coordinates of relu(1 - sqrt(var + 1e-4)), in [0, .99]."""
    return (1 - (z.var(0) + 1e-4).sqrt()).relu().mean()


def off_diagonal_covariance(z: Embeddings) -> Scalar:
    """Sum of the squared off-diagonal covariances, divided by dim."""
    centred = z - z.mean(0)
    C = centred.T @ centred / (len(z) - 1)
    return (C.square().sum() - C.diagonal().square().sum()) / z.shape[1]
