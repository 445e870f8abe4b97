"""CCA-SSG (Zhang et al. 2021): canonical correlation with a soft decorrelation."""

from typing import Annotated

import torch
from torch import nn

from offdiag._checks import at_least
from offdiag._types import Embeddings, Scalar
from offdiag.objectives.objective import Loss, detached, full_precision


class CCASSG(nn.Module):
    """|y_a - y_b|^2 + decorrelation * (|Y_a^T Y_a - I|_F^2 + |Y_b^T Y_b - I|_F^2), over dim.

    y are the outputs standardised over the batch and divided by sqrt(n), so that Y^T Y is the
    correlation matrix. 0 for two equal views with uncorrelated coordinates; made for graphs.
    """

    def __init__(
        self, *, decorrelation: Annotated[float, "weight of the decorrelation"] = 1e-1
    ) -> None:
        super().__init__()
        at_least("the weight of the decorrelation", decorrelation, 0)
        self.decorrelation = decorrelation

    def forward(self, z_a: Embeddings, z_b: Embeddings) -> Loss:
        n, dim = z_a.shape
        y_a, y_b = (
            full_precision(nn.functional.batch_norm(z, None, None, training=True)) / n**0.5
            for z in (z_a, z_b)
        )
        invariance = (y_a - y_b).square().sum() / dim
        decorrelation = (_from_identity(y_a) + _from_identity(y_b)) / dim
        return Loss(
            total=invariance + self.decorrelation * decorrelation,
            terms=detached(invariance=invariance, decorrelation=decorrelation),
        )


def _from_identity(y: Embeddings) -> Scalar:
    C = y.T @ y
    return (C - torch.eye(len(C), device=C.device)).square().sum()
