"""Linear heads whose matrix is constrained after each step (SimSiam and DirectPred ablations)."""

from typing import Annotated

import torch
from torch import nn

from offdiag._checks import at_least, choice
from offdiag._types import Covariance, Embeddings

CONSTRAINTS = ("symmetric", "diagonal", "spectral")


class ConstrainedHead(nn.Module):
    """A linear head without bias whose matrix is put back onto a set after each optimiser step.

    symmetric: (W + W^T) / 2, as DirectPred's analysis assumes; diagonal: off-diagonal entries 0;
    spectral: symmetric with largest absolute eigenvalue 1. From the identity plus `noise` times
    a Gaussian matrix over sqrt(dim), constrained.
    """

    def __init__(
        self,
        dim: int,
        *,
        constraint: str = "symmetric",
        noise: Annotated[float, "size of the random part at the start"] = 0.1,
    ) -> None:
        super().__init__()
        at_least("the head's width", dim, 1)
        at_least("the noise at the start", noise, 0)
        self.dim = dim
        self.constraint = choice("constraint of the head", constraint, CONSTRAINTS)
        start = torch.eye(dim) + noise * torch.randn(dim, dim) / dim**0.5
        self.weight = nn.Parameter(constrained(start, self.constraint))

    def forward(self, projection: Embeddings) -> Embeddings:
        return projection @ self.weight.T

    @torch.no_grad()
    def refit(self, views: tuple[Embeddings, ...], *, step: int) -> None:
        """Put the matrix back onto its set."""
        self.weight.copy_(constrained(self.weight, self.constraint))


def constrained(matrix: Covariance, constraint: str) -> Covariance:
    """The matrix made symmetric, diagonal, or symmetric with spectral norm 1."""
    if constraint == "diagonal":
        return matrix.diagonal().diag()
    symmetric = (matrix + matrix.T) / 2
    if constraint == "symmetric":
        return symmetric
    norm = torch.linalg.eigvalsh(symmetric.double()).abs().max().to(matrix.dtype)
    return symmetric / norm.clamp_min(torch.finfo(matrix.dtype).tiny)
