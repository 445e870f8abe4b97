"""A run's record to charts: curves over training, spectra, and the head as a picture.

Every chart takes the width of what holds it (`width="container"`). Run names must
be distinct. A parameter `focus`, a list of run names or null, fades the others:
the page sets it from its legend.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Literal

import altair as alt
import numpy as np
from jaxtyping import Float

from offdiag.diagnostics.catalogue import head_reading, reading
from offdiag.plots.lines import Line, digits, draw_lines, finite
from offdiag.plots.thinning import evenly, kept_points
from offdiag.results.history import Row, RunRecord
from offdiag.results.readings import HeadReadings, Readings

CURVE_POINTS = 320
HEATMAP_COLUMNS, HEATMAP_ROWS = 90, 64
MATRIX_CELLS = 64
SHARE_FLOOR = 1e-6
"""Smallest share of variance drawn: below it float32 training leaves noise."""

_MANY: dict[str, Any] = {"aria": False, "tooltip": {"content": "data"}}
"""For marks by the thousand: words for each of them would take longer than all the rest."""


@dataclass(frozen=True, kw_only=True)
class Curve:
    """One reading over training: where it is in a row, its words, and how to read it."""

    key: str
    title: str
    axis: str
    of: Callable[[Row], float | None]
    how: str
    format: str = ".3~g"
    zero: bool = True
    log: bool = False
    healthy: Callable[[Row], float | None] = lambda row: None
    healthy_word: str = ""

    @property
    def share(self) -> bool:
        """Whether the reading is a share in [0, 1], shown in per cent."""
        return self.format.endswith(("%", "p"))

    def values(self, record: RunRecord) -> list[float | None]:
        """The reading at each row of a record; None where it is missing or not finite."""
        return [finite(self.of(row)) for row in record.history]

    def drawn(self, records: Sequence[RunRecord]) -> list[RunRecord]:
        """The records that have this reading at all."""
        return [r for r in records if any(value is not None for value in self.values(r))]


def _part(part: str, reading: str) -> Callable[[Row], float | None]:
    def of(row: Row) -> float | None:
        readings: Readings = getattr(row, part)
        value: float | None = getattr(readings, reading, None)  # None: this method has no head
        return value

    return of


def _curve(key: str, part: str, name: str, *, how: str = "") -> Curve:
    """A reading of one part, in the words of the catalogue; `how` adds what the part is."""
    row = reading(name)
    title = f"{row.title[:1].upper()}{row.title[1:]} of the {part}"
    chart = row.chart
    return Curve(
        key=key,
        title=title,
        axis=f"{row.title} ({row.unit})" if row.unit else row.title,
        of=_part(part, name),
        how=" ".join(text for text in (row.caption, how) if text),
        format=chart.format if chart is not None else ".3~g",
    )


def _knn(part: str) -> Callable[[Row], float | None]:
    return lambda row: None if row.knn is None else row.knn.get(part)


def _head(reading: str) -> Callable[[Row], float | None]:
    def of(row: Row) -> float | None:
        head: HeadReadings | None = row.head
        return None if head is None else getattr(head, reading)

    return of


def _healthy_std(part: str) -> Callable[[Row], float]:
    def of(row: Row) -> float:
        readings: Readings = getattr(row, part)
        return readings.dim**-0.5

    return of


def term_curves(records: Sequence[RunRecord]) -> tuple[Curve, ...]:
    """A curve for each named term of the losses of these runs, without its weight."""
    names = dict.fromkeys(n for record in records for row in record.history for n in row.terms)
    return tuple(
        Curve(
            key=f"term-{number}",
            title=f"Term of the loss: {name.replace('_', ' ')}",
            axis=name.replace("_", " "),
            of=partial(_term, name=name),
            zero=False,
            how="One part of the objective, without its weight." if number == 0 else "",
        )
        for number, name in enumerate(names)
    )


def _term(row: Row, *, name: str) -> float | None:
    return row.terms.get(name)


WHAT_CURVES = (
    Curve(
        key="loss",
        title="Loss",
        axis="loss",
        of=lambda row: row.loss,
        zero=False,
        log=True,
        how="What training lowers: the objective of the method. A collapsed representation can "
        "have a low one: low is not the same as good. Not comparable between methods.",
    ),
    Curve(
        key="knn-features",
        title="Nearest neighbours on the features",
        axis="accuracy (share of images)",
        of=_knn("features"),
        format=".1%",
        zero=False,
        how="Share of images whose nearest neighbours among the encoder's features vote for the "
        "right class. Higher is better.",
    ),
    Curve(
        key="knn-projection",
        title="Nearest neighbours on the projection",
        axis="accuracy (share of images)",
        of=_knn("projection"),
        format=".1%",
        zero=False,
        how="The same vote on the projection, the layer that the loss sees and where collapse "
        "happens.",
    ),
)

DIMENSION_CURVES = (
    _curve(
        "rank-projection",
        "projection",
        "effective_rank",
        how="1 is a line, its width a flat spectrum. A curve that falls and stays low is "
        "dimensional collapse.",
    ),
    _curve(
        "rank-features",
        "features",
        "effective_rank",
        how="The encoder's features are what you keep after training.",
    ),
    _curve(
        "rank-prediction",
        "prediction",
        "effective_rank",
        how="Where it is lower than the projection's, the head makes the spectrum more uneven; "
        "where it is higher, the head evens it out.",
    ),
    _curve(
        "rankme-projection",
        "projection",
        "rankme",
        how="Compare RankMe with RankMe only.",
    ),
    replace(
        _curve(
            "std-projection",
            "projection",
            "std",
            how="Near the dashed line the outputs spread over the sphere. Compare it with the "
            "rank.",
        ),
        healthy=_healthy_std("projection"),
        healthy_word="healthy: 1/√width",
    ),
    _curve(
        "top-projection",
        "projection",
        "top_share",
        how="100\u00a0% means everything is on one line.",
    ),
)


def _head_curve(key: str, name: str) -> Curve:
    """A reading of the head, in the words of the catalogue."""
    chart = head_reading(name).chart
    assert chart is not None
    return Curve(key=key, title=chart.title, axis=chart.axis, of=_head(name), how=chart.caption)


HEAD_CURVES = (
    _head_curve("head-norm", "off_diagonal_norm"),
    _head_curve("head-asymmetry", "asymmetry"),
    _head_curve("head-identity", "identity_distance"),
)


def curve(
    records: Sequence[RunRecord], reading: Curve, *, height: int = 220, legend: bool = True
) -> alt.LayerChart:
    """One reading of all runs over the epochs, with a rule and all values under the pointer."""
    kept = _kept_epochs(records, reading)
    values = [v for r in records for v in reading.values(r) if v is not None]
    log = reading.log and min(values, default=0) > 0
    lines: list[Line] = []
    healthy: dict[float, None] = {}
    for record in records:
        rows = [row for row in record.history if row.epoch in kept]
        lines.append(
            Line(
                name=record.name,
                x=[round(row.epoch, 6) for row in rows],
                y=[digits(reading.of(row)) for row in rows],
            )
        )
        level = finite(reading.healthy(record.history[-1]))
        if level is not None:
            healthy[digits(level) or level] = None
    return draw_lines(
        lines,
        x=alt.X("x:Q", title="epoch", scale=alt.Scale(nice=False)),
        y=log_axis(values, reading) if log else plain_axis(reading),
        x_name="epoch",
        format=reading.format,
        levels=[(level, reading.healthy_word) for level in healthy],
        height=height,
        legend=legend,
        description=f"{reading.title} over the epochs, one line for each run. {reading.how}",
    )


def draw_spectra(
    lines: Sequence[Line],
    *,
    levels: Sequence[tuple[float, str]],
    height: int,
    legend: bool,
    description: str,
) -> alt.LayerChart:
    """Shares of the variance, largest first, on the logarithmic axis that all spectra have."""
    return draw_lines(
        lines,
        x=alt.X("x:Q", title="eigenvalue, from largest to smallest", scale=alt.Scale(nice=False)),
        y=alt.Y(
            "y:Q",
            title="share of the variance (log)",
            scale=alt.Scale(type="log", domain=[SHARE_FLOOR, 1]),
            axis=alt.Axis(format="~g", values=[10.0**-k for k in range(7)]),
        ),
        x_name="eigenvalue",
        format=".2~e",
        levels=levels,
        height=height,
        legend=legend,
        description=description,
    )


def final_spectra(
    records: Sequence[RunRecord],
    *,
    part: str = "projection",
    height: int = 260,
    legend: bool = True,
) -> alt.LayerChart:
    """The last spectrum of each run on one log axis, with the flat spectrum dashed."""
    lines: list[Line] = []
    levels: dict[float, None] = {}
    for record in records:
        readings: Readings = getattr(record.history[-1], part)
        shares = [finite(share) for share in readings.spectrum]
        lines.append(
            Line(
                name=record.name,
                x=[float(index + 1) for index in range(len(shares))],
                y=[None if s is None else digits(max(s, SHARE_FLOOR)) for s in shares],
            )
        )
        levels[digits(1 / readings.dim) or 1 / readings.dim] = None
    return draw_spectra(
        lines,
        levels=[(level, "flat spectrum") for level in levels],
        height=height,
        legend=legend,
        description=f"Share of the variance of the {part} along each direction at the last "
        "reading, one line for each run, on a logarithmic axis.",
    )


def spectrum_over_time(
    record: RunRecord, *, part: str = "projection", height: int = 240
) -> alt.Chart:
    """Share of variance by eigenvalue (up) and epoch (right), on a logarithmic colour scale."""
    rows = [record.history[i] for i in evenly(len(record.history), HEATMAP_COLUMNS)]
    following = [row.epoch for row in rows[1:]] + [rows[-1].epoch + _last_step(rows)]
    width = max(len(getattr(row, part).spectrum) for row in rows)
    indices = evenly(width, HEATMAP_ROWS)
    columns = [
        {
            "epoch": round(row.epoch, 6),
            "next reading": round(end, 6),
            "eigenvalue": [index + 1 for index in indices],
            "share": [_drawn_share(getattr(row, part).spectrum, index) for index in indices],
        }
        for row, end in zip(rows, following, strict=True)
    ]
    return (
        alt.Chart(
            alt.InlineData(values=columns),
            width="container",
            height=height,
            description=f"Heat map of the spectrum of the {part} of run {record.name}: epochs to "
            "the right, eigenvalues from largest (bottom) to smallest (top), brighter is more "
            "variance.",
        )
        .transform_flatten(["eigenvalue", "share"])
        .mark_rect(x2Offset=1, height=_band(len(indices)), **_MANY)
        .encode(
            x=alt.X("epoch:Q", title="epoch", scale=alt.Scale(nice=False, zero=False)),
            x2="next reading:Q",
            y=alt.Y(
                "eigenvalue:O",
                title="eigenvalue (1 is the largest)",
                sort="descending",
                axis=alt.Axis(values=_ticks([index + 1 for index in indices])),
            ),
            color=alt.Color(
                "share:Q",
                scale=alt.Scale(type="log", domain=[SHARE_FLOOR, 1], clamp=True),
                legend=alt.Legend(
                    title="share of the variance (log)",
                    orient="bottom",
                    gradientThickness=8,
                    values=[1e-6, 1e-3, 1],
                    format="~g",
                ),
            ),
        )
    )


def matrix_scale(matrices: Sequence[Float[np.ndarray, "dim dim"]]) -> float:
    """The largest off-diagonal magnitude in `matrices`: the end of their common colour scale.

    The diagonal has no say, or a linear head, whose diagonal of E - I is near -1,
    would drown what it does elsewhere.
    """
    off = [np.abs(m - np.diag(np.diag(m))).max(initial=0.0) for m in matrices]
    return float(np.nanmax(off, initial=0.0))


def head_matrix(
    matrix: Float[np.ndarray, "dim dim"],
    *,
    limit: float,
    title: str,
    height: int | Literal["container"] = 240,
) -> alt.Chart:
    """E - I as a picture: colours centred on 0 and ending at +-`limit`.

    The identity is taken off so that its diagonal does not drown the rest. A matrix
    wider than 64 is drawn in blocks, each with its entry of largest magnitude.
    """
    size = len(matrix)
    block = -(-size // MATRIX_CELLS)
    cells = strongest_of_blocks(matrix - np.eye(size), block)
    firsts = [index * block + 1 for index in range(len(cells))]
    rows = [
        {"i": i, "j": firsts, "E − I": [digits(value, 3) for value in row]}
        for i, row in zip(firsts, cells.tolist(), strict=True)
    ]
    axis = alt.Axis(values=_ticks(firsts), labelAngle=0)
    band = _band(len(cells))
    return (
        alt.Chart(
            alt.InlineData(values=rows),
            width="container",
            height=height,
            description=f"{title}: the head's matrix minus the identity, {size} by {size}, blue "
            "below 0 and orange above.",
        )
        .transform_flatten(["j", "E − I"])
        .mark_rect(width=band, height=band, **_MANY)
        .encode(
            x=alt.X("j:O", title="j (from)", axis=axis),
            y=alt.Y("i:O", title="i (to)", axis=axis),
            color=alt.Color(
                "E − I:Q",
                scale=alt.Scale(domain=[-limit, limit], domainMid=0, clamp=True, interpolate="rgb"),
                legend=alt.Legend(
                    title="entry of E − I",
                    orient="bottom",
                    gradientThickness=8,
                    tickCount=3,
                    format=".2~g",
                ),
            ),
        )
    )


def strongest_of_blocks(
    matrix: Float[np.ndarray, "dim dim"], block: int
) -> Float[np.ndarray, "cells cells"]:
    """Each block of `block` x `block` entries as its entry of largest magnitude, sign kept."""
    if block == 1:
        return matrix
    missing = -len(matrix) % block
    padded = np.pad(matrix, ((0, missing), (0, missing)))
    cells = len(padded) // block
    blocks = padded.reshape(cells, block, cells, block).swapaxes(1, 2).reshape(cells, cells, -1)
    strongest = np.abs(blocks).argmax(-1)
    return np.take_along_axis(blocks, strongest[..., None], -1)[..., 0]


def plain_axis(reading: Curve) -> alt.Y:
    """The axis of a reading, in per cent where it is a share."""
    axis = alt.Axis(format=".3~p", tickCount=5) if reading.share else alt.Axis(tickCount=5)
    return alt.Y("y:Q", title=reading.axis, scale=alt.Scale(zero=reading.zero), axis=axis)


def log_axis(values: Sequence[float], reading: Curve) -> alt.Y:
    """A logarithmic axis that ends where the values do, marked at 1, 2 and 5 of each decade."""
    low, high = min(values), max(values)
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    marks = [float(f"{digit}e{decade}") for decade in decades for digit in (1, 2, 5)]
    return alt.Y(
        "y:Q",
        title=f"{reading.axis} (log)",
        scale=alt.Scale(type="log", domain=[low / 1.05, high * 1.05], nice=False),
        axis=alt.Axis(values=[mark for mark in marks if low <= mark <= high], format="~g"),
    )


def _kept_epochs(records: Sequence[RunRecord], reading: Curve) -> set[float]:
    epochs = sorted({row.epoch for record in records for row in record.history})
    if len(epochs) <= CURVE_POINTS:
        return set(epochs)
    curves = []
    for record in records:
        at = dict(zip((r.epoch for r in record.history), reading.values(record), strict=True))
        curves.append([at.get(epoch) for epoch in epochs])
    # The runs share the budget: what one keeps is drawn of all.
    kept = {epochs[i] for i in kept_points(curves, max(CURVE_POINTS // len(records), 40))}
    # The ends of each run, which need not be the ends of the longest one.
    return kept | {record.history[i].epoch for record in records for i in (0, -1)}


def _last_step(rows: Sequence[Row]) -> float:
    return rows[-1].epoch - rows[-2].epoch if len(rows) > 1 else 1.0


def _drawn_share(spectrum: Sequence[float], index: int) -> float | None:
    if index >= len(spectrum) or not math.isfinite(spectrum[index]):
        return None
    return digits(max(spectrum[index], SHARE_FLOOR), 2)


def _band(cells: int) -> alt.RelativeBandSize:
    """About a pixel more than a cell's own: cells that only touch show hairlines between them."""
    return alt.RelativeBandSize(band=1 + cells / 200)


def _ticks(indices: Sequence[int]) -> list[int]:
    """The first and every n-th of the indices, n a power of 2, about five of them."""
    step = 2 ** max(math.ceil(math.log2(len(indices) / 5)), 0)
    return [indices[0], *indices[max(step, 2) - 1 :: step]]
