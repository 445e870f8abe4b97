"""Finite scalar quantisation (Mentzer et al. 2024), as iQRL's target and the discrete projector."""

import math
from typing import Annotated

import torch
from torch import nn

from offdiag._checks import at_least
from offdiag._types import Embeddings

EPS = 1e-3


class FSQ(nn.Module):
    """Each coordinate onto `levels` values in [-1, 1], with a straight-through gradient.

    Bounded by tanh, rounded, and divided by half the levels: 5 levels are -1, -.5, 0, .5, 1, and
    an even number has one more value below 0 than above. The gradient is the bound's, as if
    there were no rounding. An output of 0 stays at the middle.
    """

    def __init__(
        self, *, levels: Annotated[int, "values of each coordinate, at least 2"] = 8
    ) -> None:
        super().__init__()
        at_least("the number of levels", levels, 2)
        self.levels = levels

    def forward(self, rows: Embeddings) -> Embeddings:
        bounded = bound(rows, self.levels)
        rounded = bounded + (bounded.round() - bounded).detach()
        return rounded / (self.levels // 2)


def bound(rows: Embeddings, levels: int) -> Embeddings:
    """The coordinates squeezed so that rounding gives exactly `levels` whole numbers, 0 at 0."""
    half = (levels - 1) * (1 + EPS) / 2 if levels == 2 else (levels - 1) * (1 - EPS) / 2
    offset = 0.5 if levels % 2 == 0 else 0.0
    shift = math.atanh(offset / half) if offset else 0.0
    return (rows + shift).tanh() * half - offset


def active_codes(codes: Embeddings) -> int:
    """How many different rows a batch of codes has."""
    return len(torch.unique(codes, dim=0))
