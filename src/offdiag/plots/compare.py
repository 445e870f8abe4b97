"""Charts of a grid of runs: each seed as a point, and means over the epochs with their spread."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import altair as alt

from offdiag.plots.lines import Line, digits, draw_lines
from offdiag.plots.theme import PALETTE
from offdiag.plots.thinning import kept_points
from offdiag.plots.training import CURVE_POINTS, Curve, log_axis, plain_axis
from offdiag.results.comparison import MeanCurve, Spread

ROW = 26
LABEL_PIXELS = 150


@dataclass(frozen=True, kw_only=True)
class Row:
    """One combination: its label, the group that colours it, its value at each seed, the mean."""

    label: str
    group: str
    by_seed: Sequence[tuple[int, float]]
    spread: Spread


def seeds(
    rows: Sequence[Row], groups: Sequence[str], *, title: str, format: str, description: str
) -> alt.LayerChart:
    """A point for each seed of each combination, with a tick at the mean; labels are distinct.

    `groups` are all groups of the page in order, so that each keeps its colour.
    """
    percent = "%" in format
    x = alt.X(
        "value:Q",
        title=title,
        scale=alt.Scale(zero=False, padding=8),
        axis=alt.Axis(format=".0%" if percent else "~g", tickCount=4),
    )
    y = alt.Y(
        "run:N",
        title=None,
        sort=[row.label for row in rows],
        axis=alt.Axis(labelLimit=LABEL_PIXELS, ticks=False, domain=False, grid=True),
    )
    colours = [PALETTE[i % len(PALETTE)] for i in range(len(groups))]
    colour = alt.Color("group:N", scale=alt.Scale(domain=list(groups), range=colours), legend=None)
    points = [
        {"run": row.label, "group": row.group, "seed": seed, "value": digits(value)}
        for row in rows
        for seed, value in row.by_seed
    ]
    means = [
        {
            "run": row.label,
            "group": row.group,
            "value": digits(row.spread.mean),
            "seeds": row.spread.n,
        }
        for row in rows
    ]
    value = alt.Tooltip("value:Q", format=format, title="value")
    dots = (
        alt.Chart(alt.InlineData(values=points))
        .mark_point(filled=True, size=46, opacity=0.75)
        .encode(x=x, y=y, color=colour, tooltip=["run:N", "seed:O", value])
    )
    mean = alt.Tooltip("value:Q", format=format, title="mean")
    ticks = (
        alt.Chart(alt.InlineData(values=means))
        .mark_tick(thickness=2.5, size=18)
        .encode(x=x, y=y, color=colour, tooltip=["run:N", mean, "seeds:Q"])
    )
    return alt.LayerChart(
        layer=[dots, ticks], width="container", height=ROW * len(rows), description=description
    )


def mean_curves(
    curves: Sequence[tuple[str, MeanCurve]], reading: Curve, *, height: int = 220
) -> alt.LayerChart:
    """Means over the epochs with bands of one standard deviation, a colour for each name.

    A curve may be empty: its name then only keeps its colour.
    """
    lines = [_line(name, mean) for name, mean in curves]
    means = [value for line in lines for value in line.y if value is not None]
    # Over less than half a decade a logarithmic axis has no marks to show for it.
    log = reading.log and 0 < 3 * min(means, default=0) <= max(means, default=0)
    return draw_lines(
        lines,
        x=alt.X("x:Q", title="epoch", scale=alt.Scale(nice=False)),
        y=log_axis(means, reading) if log else plain_axis(reading),
        x_name="epoch",
        format=reading.format,
        levels=[],
        height=height,
        legend=False,
        description=f"{reading.title} over the epochs, mean over the seeds with a band of one "
        f"standard deviation. {reading.how}",
    )


def _line(name: str, mean: MeanCurve) -> Line:
    kept = kept_points([[one.mean for one in mean.at]], CURVE_POINTS)
    deviations = [mean.at[i].std for i in kept]
    return Line(
        name=name,
        x=[round(mean.epoch[i], 6) for i in kept],
        y=[digits(mean.at[i].mean) for i in kept],
        spread=[digits(one) for one in deviations]
        if any(not math.isnan(one) for one in deviations)
        else None,
    )
