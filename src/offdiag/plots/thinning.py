"""Fewer points for drawing: long curves lose points, never their extremes."""

from collections.abc import Sequence

import numpy as np


def kept_points(curves: Sequence[Sequence[float | None]], points: int) -> list[int]:
    """Indices to draw of curves that share one axis: at most about `points` for each curve.

    The axis is cut into equal stretches and each curve keeps the lowest and the
    highest value of every stretch, so no peak is drawn lower than it was. First and
    last are always kept. What one curve keeps is kept of all, so that they can be
    read side by side. Missing values (None, nan) are no extremes.
    """
    length = max((len(curve) for curve in curves), default=0)
    if length <= points:
        return list(range(length))
    keep = {0, length - 1}
    edges = np.linspace(0, length, max(points // 2, 1) + 1).astype(int)
    for curve in curves:
        values = np.array([np.nan if value is None else value for value in curve], dtype=float)
        for low, high in zip(edges[:-1], edges[1:], strict=True):
            stretch = values[low:high]
            if np.isfinite(stretch).any():
                keep.add(int(low + np.nanargmin(stretch)))
                keep.add(int(low + np.nanargmax(stretch)))
    return sorted(keep)


def evenly(length: int, points: int) -> list[int]:
    """At most `points` indices of `length`, evenly spread, first and last among them."""
    if length <= points:
        return list(range(length))
    return sorted({int(index) for index in np.linspace(0, length - 1, points).round()})
