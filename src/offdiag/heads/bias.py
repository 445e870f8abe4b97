"""A head that adds a trainable vector."""

import torch
from torch import nn

from offdiag._checks import at_least
from offdiag._types import Embeddings


class BiasHead(nn.Module):
    """`projection + bias`, bias = 0 at the start (Zhang et al. 2022).

    Reported to be enough against complete collapse with l2 normalisation. Under
    output BatchNorm it does nothing: the mean is taken off again.
    """

    def __init__(self, dim: int) -> None:
        super().__init__()
        at_least("the head's width", dim, 1)
        self.dim = dim
        self.bias = nn.Parameter(torch.zeros(dim))

    def forward(self, projection: Embeddings) -> Embeddings:
        return projection + self.bias
