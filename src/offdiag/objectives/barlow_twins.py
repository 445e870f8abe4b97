"""Barlow Twins (Zbontar et al. 2021): the cross-correlation of two views towards the identity."""

from typing import Annotated

from torch import nn

from offdiag._checks import at_least
from offdiag._types import Embeddings
from offdiag.objectives.objective import Loss, detached


class BarlowTwins(nn.Module):
    """scale * [sum_i (1 - C_ii)^2 + redundancy * sum_{i != j} C_ij^2], in [0, inf).

    C is the cross-correlation over the batch of the two projections, each coordinate with mean 0
    and variance 1 (divided by n, 1e-5 added). 0 for two equal views with uncorrelated
    coordinates; scale * dim where both views are constant; scale * redundancy * dim (dim - 1)
    where all coordinates are copies of one. No stop-gradient.
    """

    def __init__(
        self,
        *,
        redundancy: Annotated[float, "weight of the off-diagonal correlations"] = 5e-3,
        scale: Annotated[float, "factor of the whole loss"] = 0.025,
    ) -> None:
        super().__init__()
        at_least("the weight of the redundancy", redundancy, 0)
        at_least("the scale of the loss", scale, 0)
        self.redundancy, self.scale = redundancy, scale

    def forward(self, z_a: Embeddings, z_b: Embeddings) -> Loss:
        z_a, z_b = (nn.functional.batch_norm(z, None, None, training=True) for z in (z_a, z_b))
        C = z_a.T @ z_b / len(z_a)
        diagonal = C.diagonal()
        invariance = (1 - diagonal).square().sum()
        redundancy = C.square().sum() - diagonal.square().sum()
        return Loss(
            total=self.scale * (invariance + self.redundancy * redundancy),
            terms=detached(invariance=invariance, redundancy=redundancy),
        )
