"""Prediction heads: plain modules that map (batch, dim) to (batch, dim).

The paper's head is the identity plus trainable off-diagonal entries. Its
relatives differ only in which entries train, so they are rows of `MASKS`.
"""

from collections.abc import Callable, Mapping

import torch
from jaxtyping import Bool, Float
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


class LinearHead(nn.Module):
    """Linear head without bias from a random start, uniform in +-1/sqrt(dim) (torch's default)."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        at_least("the head's width", dim, 1)
        self.dim = dim
        self.linear = nn.Linear(dim, dim, bias=False)

    @property
    def weight(self) -> Covariance:
        """The matrix applied, shape (dim, dim)."""
        return self.linear.weight

    def forward(self, projection: Embeddings) -> Embeddings:
        output: Tensor = self.linear(projection)
        return output


class MLPHead(nn.Module):
    """Linear, BatchNorm, ReLU, Linear: the head of BYOL and SimSiam.

    `hidden` is the width between; None takes dim. SimSiam uses a bottleneck of
    dim/4, BYOL a widening (256 -> 4096 -> 256). BatchNorm's statistics are those
    of the batch it is called on, one view at a time.
    """

    def __init__(self, dim: int, *, hidden: int | None = None) -> None:
        super().__init__()
        at_least("the head's width", dim, 1)
        width = dim if hidden is None else hidden
        at_least("the head's hidden width", width, 1)
        self.dim = dim
        self.net = nn.Sequential(
            nn.Linear(dim, width, bias=False),
            nn.BatchNorm1d(width),
            nn.ReLU(inplace=True),
            nn.Linear(width, dim),
        )

    def forward(self, projection: Embeddings) -> Embeddings:
        output: Tensor = self.net(projection)
        return output


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


HEADS: Mapping[str, Callable[[int], nn.Module]] = {
    "none": lambda dim: IdentityInitHead(dim, entries="identity"),
    "off-diagonal": lambda dim: IdentityInitHead(dim, entries="off-diagonal"),
    "full": lambda dim: IdentityInitHead(dim, entries="full"),
    "lower": lambda dim: IdentityInitHead(dim, entries="lower"),
    "upper": lambda dim: IdentityInitHead(dim, entries="upper"),
    "symmetric": lambda dim: IdentityInitHead(dim, entries="symmetric"),
    "linear": LinearHead,
    "mlp": MLPHead,
    "bias": BiasHead,
}
"""The heads by the names that the command line uses; `none` is the frozen identity."""


def head_matrix(head: nn.Module) -> Float[Tensor, "dim dim"] | None:
    """A detached copy of the matrix that `head` applies, or None if it is not one matrix."""
    if isinstance(head, (IdentityInitHead, LinearHead)):
        return head.weight.detach().clone()
    return None
