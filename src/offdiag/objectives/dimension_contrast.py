"""Dimension contrast (Garrido et al. 2023): the dual of the spectral contrastive loss."""

from typing import Annotated

import torch
import torch.nn.functional as F
from torch import nn

from offdiag._checks import at_least
from offdiag._types import Embeddings, Scalar
from offdiag.objectives.objective import Loss, detached, full_precision


class DimensionContrast(nn.Module):
    """1 - mean cos(z_a, z_b) + weight * mean over views of |off-diagonal of Z^T Z|_F^2 / n^2 * dim.

    Rows of length 1. With columns of equal length it differs from the sample-contrastive square
    loss |off-diagonal of Z Z^T|_F^2 by a constant: |off Z^T Z|^2 + sum_j |Z_j|^4 =
    |off Z Z^T|^2 + sum_i |Z_i|^4, exactly. 0 for equal views with orthogonal columns.
    """

    def __init__(
        self, *, weight: Annotated[float, "weight of the off-diagonal products"] = 1.0
    ) -> None:
        super().__init__()
        at_least("the weight of the off-diagonal products", weight, 0)
        self.weight = weight

    def forward(self, z_a: Embeddings, z_b: Embeddings) -> Loss:
        z_a, z_b = (F.normalize(full_precision(z), dim=1) for z in (z_a, z_b))
        invariance = 1 - (z_a * z_b).sum(1).mean()
        n, dim = z_a.shape
        products = off_diagonal_square(z_a.T @ z_a) + off_diagonal_square(z_b.T @ z_b)
        covariance = products * dim / (2 * n**2)
        return Loss(
            total=invariance + self.weight * covariance,
            terms=detached(invariance=invariance, covariance=covariance),
        )


def off_diagonal_square(matrix: Embeddings) -> Scalar:
    """Sum of the squared off-diagonal entries of a square matrix."""
    return matrix.square().sum() - torch.diagonal(matrix).square().sum()
