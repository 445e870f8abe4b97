"""Matrix-SSL (Zhang et al. 2024): matrix cross-entropies between target and prediction."""

from typing import Annotated

import torch
import torch.nn.functional as F
from torch import nn

from offdiag._checks import at_least, within
from offdiag._types import Covariance, Embeddings, Scalar
from offdiag.objectives.objective import Loss, detached, full_precision

ORDER = 4


class MatrixSSLObjective(nn.Module):
    """MCE(I / dim, C(t, p)) + alignment * MCE(C(t, t), C(p, p)), matrices scaled by dim.

    Rows of length 1, centred; C(x, y) = (1 - ridge) dim X^T H Y / n + ridge I, so that a white
    batch has the identity (published: not scaled by dim, entries then are O(1 / dim)). MCE(A, B)
    = [-tr(A log B) + tr B] / dim, log by its Taylor series of order 4 at I. At least its value
    at B = A for symmetric A and B. No gradient reaches the target.
    """

    def __init__(
        self,
        *,
        alignment: Annotated[float, "weight of the second cross-entropy"] = 1.0,
        ridge: Annotated[float, "share of the identity in each matrix, in [0, 1]"] = 0.5,
    ) -> None:
        super().__init__()
        at_least("the weight of the alignment", alignment, 0)
        within("the ridge", ridge, 0, 1)
        self.alignment, self.ridge = alignment, ridge

    def forward(self, prediction: Embeddings, target: Embeddings) -> Loss:
        p, t = (F.normalize(full_precision(x), dim=1) for x in (prediction, target.detach()))
        dim = p.shape[1]
        eye = torch.eye(dim, device=p.device)
        across, own, aim = (
            _scaled_covariance(x, y, ridge=self.ridge) for x, y in ((t, p), (p, p), (t, t))
        )
        uniformity = matrix_cross_entropy(eye, across)
        alignment = matrix_cross_entropy(aim, own)
        return Loss(
            total=uniformity + self.alignment * alignment,
            terms=detached(uniformity=uniformity, alignment=alignment),
        )


def matrix_cross_entropy(A: Covariance, B: Covariance) -> Scalar:
    """[-tr(A log B) + tr B] / dim, log by its series to order 4: exact near the identity only."""
    eye = torch.eye(len(B), dtype=B.dtype, device=B.device)
    X = B - eye
    power, log = X, X
    for k in range(2, ORDER + 1):
        power = power @ X
        log = log + (-1) ** (k + 1) / k * power
    return ((B.diagonal().sum()) - (A * log.T).sum()) / len(B)


def _scaled_covariance(x: Embeddings, y: Embeddings, *, ridge: float) -> Covariance:
    """dim X^T H Y / n, a share `ridge` of it replaced by the identity: its trace is at most dim."""
    dim = x.shape[1]
    x, y = x - x.mean(0), y - y.mean(0)
    eye = torch.eye(dim, device=x.device)
    return (1 - ridge) * dim * (x.T @ y) / len(x) + ridge * eye
