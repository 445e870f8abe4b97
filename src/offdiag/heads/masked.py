"""The paper's head: the identity plus trainable off-diagonal entries, and its relatives.

They differ only in which entries train, so they are rows of `MASKS`.
"""

from collections.abc import Callable, Mapping

import torch
from jaxtyping import Bool
from torch import Tensor, nn

from offdiag._checks import at_least, choice
from offdiag._types import Covariance, Embeddings

MASKS: Mapping[str, Callable[[int], Bool[Tensor, "dim dim"]]] = {
    "off-diagonal": lambda dim: ~torch.eye(dim, dtype=torch.bool),
    "full": lambda dim: torch.ones(dim, dim, dtype=torch.bool),
    "lower": lambda dim: torch.ones(dim, dim, dtype=torch.bool).tril(-1),
    "upper": lambda dim: torch.ones(dim, dim, dtype=torch.bool).triu(1),
    "symmetric": lambda dim: ~torch.eye(dim, dtype=torch.bool),
    "identity": lambda dim: torch.zeros(dim, dim, dtype=torch.bool),
}
"""Which entries of the head train, by name. `symmetric` also ties entry (i, j) to (j, i)."""


class IdentityInitHead(nn.Module):
    """Linear head `I + mask * A` without bias, A = 0 at the start (Wen & Li 2022, section 2).

    The parameter is A, not the weight: weight decay, LARS or a norm act on A and
    so cannot touch the diagonal, which stays exactly 1 (except with the mask
    `full`, where it trains as 1 + A_ii). `entries` is a name in `MASKS`:
    off-diagonal (the paper's), full, lower, upper (strictly triangular),
    symmetric, or identity, which trains nothing and is the frozen head.
    """

    mask: Tensor

    def __init__(self, dim: int, *, entries: str = "off-diagonal") -> None:
        super().__init__()
        at_least("the head's width", dim, 1)
        self.dim = dim
        self.entries = choice("set of head entries", entries, MASKS)
        mask = MASKS[entries](dim)
        self.register_buffer("mask", mask, persistent=False)
        self.offset = nn.Parameter(torch.zeros(dim, dim), requires_grad=bool(mask.any()))

    @property
    def weight(self) -> Covariance:
        """The matrix applied, shape (dim, dim): prediction = weight @ projection."""
        offset = (self.offset + self.offset.T) / 2 if self.entries == "symmetric" else self.offset
        eye = torch.eye(self.dim, dtype=offset.dtype, device=offset.device)
        return eye + offset * self.mask

    def forward(self, projection: Embeddings) -> Embeddings:
        if not self.offset.requires_grad:
            return projection
        return projection @ self.weight.T

    def extra_repr(self) -> str:
        return f"{self.dim}, entries={self.entries!r}"
