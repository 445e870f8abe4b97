"""KoLeo (Sablayrolles et al. 2019): push each row away from its nearest neighbour."""

import torch
import torch.nn.functional as F
from torch import nn

from offdiag._types import Embeddings, Scalar
from offdiag.objectives.objective import Loss, full_precision

EPS = 1e-8


class KoLeo(nn.Module):
    """-mean over rows and views of log(distance to the nearest other row of the view + 1e-8).

    Rows of length 1. 18.4 where all outputs are equal; about -log of the typical spacing. As a
    term of its own it has no invariance: DINOv2 adds .1 of it.
    """

    def forward(self, *projections: Embeddings) -> Loss:
        return Loss(total=torch.stack([koleo(z) for z in projections]).mean())


def koleo(rows: Embeddings) -> Scalar:
    """-mean log(distance to the nearest other row + 1e-8) of rows brought to length 1."""
    z = F.normalize(full_precision(rows), dim=1)
    with torch.no_grad():
        products = z @ z.T
        products.fill_diagonal_(-2)
        nearest = products.argmax(1)
    # the root has no slope at 0: a little is added under it, as in torch's pairwise distance
    distance = ((z - z[nearest]).square().sum(1) + EPS**2).sqrt()
    return -(distance + EPS).log().mean()
