"""The runs side by side: one row of cells for each."""

import math
import statistics
from collections.abc import Mapping
from typing import Any

from offdiag.report.numbers import Cell, cell, duration, epoch, percent, significant
from offdiag.results.history import RunRecord
from offdiag.results.readings import Readings

GROUPS = (
    ("Method", ("",)),
    ("Head", ("",)),
    ("Loss", ("",)),
    ("Effective rank", ("features", "projection")),
    ("Nearest neighbours", ("features", "projection")),
    ("Linear probe", ("features", "projection")),
    ("Off-diagonal norm of the head", ("peak", "end")),
)
"""Headings of the table's columns, and what each is split into."""
COSTS = ("Time", "Images/s", "Waiting for images", "Peak memory")
"""Headings of the second table's columns."""


def overview(record: RunRecord) -> list[Cell]:
    """The cells of one run, in the order of `GROUPS`."""
    last = record.history[-1]
    return [
        Cell(text=record.description.method),
        cell(record.description.head, otherwise="this method has no head"),
        cell(significant(last.loss), otherwise="the last loss is not a finite number"),
        _rank(last.features),
        _rank(last.projection),
        *(_accuracy(record, "knn", part) for part in ("features", "projection")),
        *(_accuracy(record, "linear", part) for part in ("features", "projection")),
        *_norms(record),
    ]


def costs(record: RunRecord) -> list[Cell]:
    """What one run took, in the order of `COSTS`."""
    last = record.history[-1]
    return [
        cell(duration(last.seconds), otherwise="no time was recorded"),
        cell(
            significant(statistics.median(row.images_per_second for row in record.history)),
            otherwise="no speed was recorded",
        ),
        cell(percent(last.waiting_share), otherwise="not recorded"),
        cell(_gib(last.peak_memory_gib), otherwise="not recorded"),
    ]


def _gib(value: float) -> str | None:
    return f"{value:.1f} GiB" if math.isfinite(value) else None


def _rank(readings: Readings) -> Cell:
    if not math.isfinite(readings.effective_rank):
        return cell(None, otherwise="all outputs are the same, so the spectrum has no rank")
    return Cell(text=f"{readings.effective_rank:.1f} of {readings.dim}")


def _accuracy(record: RunRecord, kind: str, part: str) -> Cell:
    evaluation: Mapping[str, Any] = record.evaluation or {}
    value = evaluation.get(kind, {}).get(part)
    if value is None and kind == "knn" and record.evaluation is None:
        reading = (record.history[-1].knn or {}).get(part)
        if reading is not None:
            return Cell(text=percent(reading) or "", why="reading during training, on a part")
    labelled = any(row.knn is not None for row in record.history)
    why = "not evaluated yet" if labelled else "needs labels; no evaluation is recorded"
    return cell(percent(value), otherwise=why)


def _norms(record: RunRecord) -> list[Cell]:
    norms = [
        (row.head.off_diagonal_norm, row.epoch)
        for row in record.history
        if row.head is not None and math.isfinite(row.head.off_diagonal_norm)
    ]
    if not norms:
        bare = record.description.head is None
        why = "this method has no head" if bare else "this head is not a single matrix"
        none = cell(None, otherwise=why)
        return [none, none]
    peak, at = max(norms, key=lambda pair: pair[0])
    final = significant(norms[-1][0])
    if peak == 0:
        return [Cell(text="0"), Cell(text="0")]
    return [Cell(text=f"{significant(peak)} (epoch {epoch(at)})"), Cell(text=final or "")]
