"""FroSSL (Skean et al. 2024): the Frobenius norm of a trace-one covariance, and invariance."""

from typing import Annotated

import torch
from torch import nn

from offdiag._checks import at_least
from offdiag._types import Embeddings, Scalar
from offdiag.objectives.objective import Loss, detached, full_precision


class FroSSL(nn.Module):
    """mean over views of log |K / tr K|_F^2 + invariance * dim * mean (z_v - mean over views)^2.

    Columns are of length 1 over the batch, not centred; K is their Gram matrix, of the samples or
    of the coordinates, whichever is smaller: the norm is the same. The first term is log(1 / dim)
    for a white batch and 0 where all coordinates are copies of one.
    """

    def __init__(
        self, *, invariance: Annotated[float, "weight of the distance between the views"] = 1.0
    ) -> None:
        super().__init__()
        at_least("the weight of the invariance", invariance, 0)
        self.invariance = invariance

    def forward(self, *projections: Embeddings) -> Loss:
        views = torch.stack([unit_columns(full_precision(z)) for z in projections])
        entropy = torch.stack([log_purity(z) for z in views]).mean()
        dim = views.shape[2]
        invariance = dim * (views - views.mean(0)).square().mean()
        return Loss(
            total=entropy + self.invariance * invariance,
            terms=detached(entropy=entropy, invariance=invariance),
        )


def unit_columns(rows: Embeddings) -> Embeddings:
    """Each coordinate of length 1 over the batch, not centred; one that is 0 throughout stays 0."""
    return nn.functional.normalize(rows, dim=0)


def log_purity(rows: Embeddings) -> Scalar:
    """log of |K / tr K|_F^2, in [-log dim, 0]; 0 too for rows that are all 0."""
    gram = rows.T @ rows if rows.shape[1] <= len(rows) else rows @ rows.T
    small = torch.finfo(rows.dtype).tiny
    trace = gram.trace()
    return torch.where(
        trace > 1e-6,
        (gram.square().sum() + small).log() - 2 * (trace + small).log(),
        0 * trace,
    )
