"""MMCR (Yerxa et al. 2023): spread the centroids of the views, shrink what is around them."""

from typing import Annotated

import torch
import torch.nn.functional as F
from torch import nn

from offdiag._checks import at_least
from offdiag._types import Embeddings, Scalar
from offdiag.objectives.objective import Loss, detached, full_precision


class MMCR(nn.Module):
    """-|C|_* + local * mean over samples of |Z_i|_*, nuclear norms, divided by sqrt(n min(n, dim)).

    Rows of length 1; C holds the mean of each sample's views, Z_i the views of sample i. The first
    term is at best -1, for equal views that form a tight frame, and -1 / sqrt(min(n, dim)) where
    all outputs are equal. The published loss is not divided.
    """

    def __init__(
        self, *, local: Annotated[float, "weight of the spread of a sample's views"] = 0.0
    ) -> None:
        super().__init__()
        at_least("the weight of the local term", local, 0)
        self.local = local

    def forward(self, *projections: Embeddings) -> Loss:
        views = torch.stack([F.normalize(full_precision(z), dim=1) for z in projections], 1)
        n, _, dim = views.shape
        scale = (n * min(n, dim)) ** 0.5
        centroids = nuclear_norm(views.mean(1)) / scale
        total, terms = -centroids, {"centroids": centroids}
        if self.local:
            spread = torch.linalg.svdvals(views).sum(1).mean() / scale
            total, terms = total + self.local * spread, {**terms, "local": spread}
        return Loss(total=total, terms=detached(**terms))


def nuclear_norm(rows: Embeddings) -> Scalar:
    """The sum of the singular values, from the smaller Gram matrix.

    Directions within rounding of 0 are left out: a singular value has no slope there.
    """
    gram = rows.T @ rows if rows.shape[1] <= len(rows) else rows @ rows.T
    values = torch.linalg.eigvalsh(gram.double())
    kept = values > values.detach().max() * len(values) * torch.finfo(rows.dtype).eps
    return values[kept].sqrt().sum().to(rows.dtype)
