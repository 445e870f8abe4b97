"""Marks of what enters the encoder: scale, constants, duplicates, and whether two views match."""

import torch
from torch import Tensor
from torch.nn.functional import normalize

from offdiag.results.readings import NAN

ROWS = 256
"""Rows of a batch that are looked at."""
VALUES = 4_096
"""Values of a row that are looked at, spread evenly."""


@torch.no_grad()
def rows_of(inputs: Tensor) -> Tensor:
    """A matrix of a few rows, float32, without what an input has between its values."""
    rows = inputs.detach()[:ROWS]
    rows = rows.reshape(len(rows), -1)
    stride = -(-rows.shape[1] // VALUES) if rows.shape[1] else 1
    return rows[:, ::stride].float()


@torch.no_grad()
def scale_marks(views: list[Tensor]) -> dict[str, float]:
    """Of rows of one view or two: their scale, and the share that is constant or not finite."""
    whole = torch.cat([view for view in views if view.shape[1] == views[0].shape[1]])
    finite = whole.isfinite()
    marks = {"inputs/finite": float(finite.float().mean())}
    if not finite.all():
        return marks
    spread = whole.std(1, unbiased=False) if whole.shape[1] > 1 else whole.std(0, unbiased=False)
    return marks | {
        "inputs/mean": float(whole.mean()),
        "inputs/std": float(whole.std(unbiased=False)),
        "inputs/largest": float(whole.abs().max()),
        "inputs/constant": float(
            (spread <= 1e-6 * whole.abs().amax().clamp_min(1e-30)).float().mean()
        ),
        "inputs/alike": float(_alike(views[0])),
        "inputs/rows": float(len(views[0])),
    }


@torch.no_grad()
def _alike(rows: Tensor) -> float:
    """The share of rows that another row of the batch equals in every value."""
    if len(rows) < 2:
        return 0.0
    _, counts = torch.unique(rows, dim=0, return_counts=True)
    return float(counts[counts > 1].sum()) / len(rows)


@torch.no_grad()
def identical(view_a: Tensor, view_b: Tensor) -> float:
    """The share of rows that are the same in both views, value by value."""
    if view_a.shape != view_b.shape:
        return NAN
    return float((view_a == view_b).all(1).float().mean())


@torch.no_grad()
def partners(view_a: Tensor, view_b: Tensor) -> float:
    """The share of rows whose nearest row of the other view is their partner; chance: 1 / rows.

    By the cosine around the mean of both views, so that a common vector does not count.
    """
    if view_a.shape != view_b.shape or len(view_a) < 2:
        return NAN
    a, b = view_a[:ROWS].float(), view_b[:ROWS].float()
    if not (a.isfinite().all() and b.isfinite().all()):
        return NAN
    centre = torch.cat((a, b)).mean(0)
    alike = normalize(a - centre) @ normalize(b - centre).T
    # A row that ties with its partner counts as a hit in part: equal rows know no partner.
    best = alike.max(1, keepdim=True).values
    ties = alike >= best - 1e-6
    hit = ties.diagonal().float() / ties.sum(1)
    return float(hit.mean())
