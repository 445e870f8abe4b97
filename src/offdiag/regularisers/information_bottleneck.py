"""Matrix mutual information between features and projection (Ouyang et al. 2025)."""

from typing import Annotated

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from offdiag._checks import above_zero, at_least
from offdiag._distributed import whole_batch
from offdiag._types import Scalar
from offdiag.methods.method import Embedded
from offdiag.objectives.objective import Loss, detached, full_precision

Gram = Float[Tensor, "rows rows"]


class InformationBottleneck(nn.Module):
    """weight * I_alpha(features; projection) of the Gram matrices of all views' rows, length 1.

    I = S(K_1) + S(K_2) - S(K_1 o K_2) with the matrix Renyi entropy S of `order` alpha; each
    entropy lies in [0, log rows]. The gradient reaches both. alpha 2 can be slightly negative.
    """

    def __init__(
        self,
        *,
        weight: Annotated[float, "factor of the term"] = 0.1,
        order: Annotated[
            float, "alpha of the entropy; 1 is von Neumann's, 2 needs no spectrum"
        ] = 2.0,
    ) -> None:
        super().__init__()
        at_least("the weight of the regulariser", weight, 0)
        above_zero("the order of the entropy", order)
        self.weight, self.order = weight, order

    def forward(self, embedded: Embedded) -> Loss:
        K_features, K_projection = (
            gram(torch.cat([whole_batch(x) for x in part]))
            for part in (embedded.features, embedded.projection)
        )
        information = matrix_information(K_features, K_projection, order=self.order)
        return Loss(total=self.weight * information, terms=detached(mutual_information=information))


def gram(rows: Float[Tensor, "rows dim"]) -> Gram:
    """Cosines of all pairs of rows."""
    z = F.normalize(full_precision(rows), dim=1)
    return z @ z.T


def matrix_entropy(K: Gram, *, order: float) -> Scalar:
    """(1 - alpha)^-1 log tr((K / rows)^alpha), in [0, log rows]; alpha 1 is von Neumann's.

    0 where all rows are equal, log rows where they are orthogonal.
    """
    A = K / len(K)
    if order == 2:
        return -A.square().sum().log()
    values = torch.linalg.eigvalsh(A.double()).clamp_min(1e-12).to(K.dtype)
    if order == 1:
        return torch.special.entr(values).sum()
    return (values**order).sum().log() / (1 - order)


def matrix_information(K_1: Gram, K_2: Gram, *, order: float) -> Scalar:
    """S(K_1) + S(K_2) - S(K_1 o K_2): S(K) of itself with the identity, 0 with constant rows."""
    joint = matrix_entropy(K_1 * K_2, order=order)
    return matrix_entropy(K_1, order=order) + matrix_entropy(K_2, order=order) - joint
