"""How alike two embeddings of the same images are; their widths may differ.

Row i of both must be the same image. Nothing here changes when either is rotated, shifted or
rescaled as a whole.
"""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from offdiag._checks import DataError
from offdiag._types import Scalar

NEIGHBOURS = 10
IN_USE = 1e-2
"""A direction is in use if its singular value exceeds this share of the largest."""
FOUND = 0.5
"""A direction is found in the other embeddings if they explain this share of its variance."""
ROWS_PER_DIRECTION = 4
"""Directions that are compared: at most one for so many rows. More would explain anything."""

First = Float[Tensor, "rows first"]
Second = Float[Tensor, "rows second"]


@dataclass(frozen=True, kw_only=True)
class Similarity:
    """Two embeddings of the same `rows` images compared; see the functions of the same names.

    `lost` are the directions in use in the first that are not found in the second, `gained` those
    in use in the second that are not found in the first, each counted from 1 by their variance;
    `compared` says how many of each were looked at. `angles` are in degrees, ascending.
    `neighbours_by_chance` is the overlap of unrelated embeddings.
    """

    rows: int
    cka: float
    neighbours: float
    neighbours_by_chance: float
    angles: tuple[float, ...]
    lost: tuple[int, ...]
    gained: tuple[int, ...]
    compared: tuple[int, int]


@torch.no_grad()
def similarity(first: First, second: Float[Tensor, "others second"]) -> Similarity:
    """All comparisons of two embeddings; DataError if the rows differ in number or are too few."""
    if len(first) != len(second):
        raise DataError(
            "two embeddings are compared row by row, so they need the same images in the same "
            f"order; got {len(first):,} and {len(second):,} rows."
        )
    rows = len(first)
    if rows < NEIGHBOURS + 2:
        raise DataError(
            f"a comparison needs at least {NEIGHBOURS + 2} rows; got {rows}: embed more images."
        )
    a, b = scores(first), scores(second)
    return Similarity(
        rows=rows,
        cka=linear_cka(first, second).item(),
        neighbours=neighbour_overlap(first, second).item(),
        neighbours_by_chance=NEIGHBOURS / (rows - 1),
        angles=tuple(subspace_angles(a, b).tolist()),
        lost=_missing(a, b),
        gained=_missing(b, a),
        compared=(a.shape[1], b.shape[1]),
    )


def linear_cka(first: First, second: Second) -> Scalar:
    """Linear centred kernel alignment (Kornblith et al. 2019, section 3), in [0, 1].

    1: equal up to rotation, shift and scale; near 0: unrelated. Strong directions decide it: two
    embeddings that share only their strongest one are near 1. Not corrected for few rows, where
    it is too high. Constant embeddings give nan.
    """
    x, y = (z.double() - z.double().mean(0) for z in (first, second))
    return torch.linalg.norm(x.T @ y).square() / (
        torch.linalg.norm(x.T @ x) * torch.linalg.norm(y.T @ y)
    )


def neighbour_overlap(first: First, second: Second, *, neighbours: int = NEIGHBOURS) -> Scalar:
    """Share of a row's nearest neighbours by cosine that are the same in both, in [0, 1].

    Averaged over the rows; 1: the same neighbours, neighbours / (rows - 1): by chance.
    """
    found = []
    for z in (first, second):
        unit = torch.nn.functional.normalize(z.double(), dim=1)
        cosines = unit @ unit.T
        found.append(cosines.fill_diagonal_(-math.inf).topk(neighbours, dim=1).indices)
    same = (found[0][:, :, None] == found[1][:, None, :]).any(2)
    return same.double().mean()


def scores(embeddings: Float[Tensor, "rows dim"]) -> Float[Tensor, "rows directions"]:
    """The directions in use, as orthonormal columns over the rows, the strongest first.

    Left singular vectors of the centred embeddings: at most a quarter as many as rows.
    """
    z = embeddings.double()
    z = z - z.mean(0)
    left, singular, _ = torch.linalg.svd(z, full_matrices=False)
    used = int((singular > IN_USE * singular[0]).sum()) if singular[0] > 0 else 0
    return left[:, : min(used, max(len(z) // ROWS_PER_DIRECTION, 1))]


def subspace_angles(
    first: Float[Tensor, "rows a"], second: Float[Tensor, "rows b"]
) -> Float[Tensor, " angles"]:
    """Principal angles in degrees between two spans of orthonormal columns, ascending, 0 to 90.

    0: a direction that both have; 90: one that the other lacks (Bjorck & Golub 1973).
    """
    cosines = torch.linalg.svdvals(first.T @ second).clamp(0, 1)
    return cosines.arccos().rad2deg()


def explained(
    first: Float[Tensor, "rows a"], second: Float[Tensor, "rows b"]
) -> Float[Tensor, " a"]:
    """For each orthonormal column of the first, the share that the second's span explains."""
    return (second.T @ first).square().sum(0)


def _missing(first: Float[Tensor, "rows a"], second: Float[Tensor, "rows b"]) -> tuple[int, ...]:
    shares = explained(first, second).tolist()
    return tuple(number for number, share in enumerate(shares, 1) if share < FOUND)
