"""Charts of a diagnosis: a spectrum against its references, and readings over the steps.

The colours of the lines go by `PALETTE`, in order; the page says whose they are.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import altair as alt

from offdiag.plots.lines import Line, digits, draw_lines
from offdiag.plots.thinning import kept_points
from offdiag.plots.training import CURVE_POINTS, SHARE_FLOOR, draw_spectra

NOW, START, NOISE = "now", "initialisation", "Gaussian noise"


@dataclass(frozen=True, kw_only=True)
class Course:
    """One reading of several parts over the steps: `values` has one number a step for each.

    `levels` are heights to compare with, and their words; a value that is missing is None.
    """

    key: str
    title: str
    axis: str
    how: str
    steps: Sequence[int]
    values: Mapping[str, Sequence[float | None]]
    levels: Sequence[tuple[float, str]] = ()
    log: bool = False
    format: str = ".3~g"
    zero: bool = True


def spectra(
    now: Sequence[float | None],
    *,
    noise: Sequence[float | None] = (),
    start: Sequence[float | None] = (),
    dim: int,
    part: str,
    height: int = 260,
) -> alt.LayerChart:
    """Shares of the variance, largest first, of a part, of noise and of the random start."""
    named = ((NOW, now), (NOISE, noise), (START, start))
    lines = [
        Line(
            name=name,
            x=[float(index + 1) for index in range(len(shares))],
            y=[None if s is None else digits(max(s, SHARE_FLOOR)) for s in shares],
        )
        for name, shares in named
        if shares
    ]
    return draw_spectra(
        lines,
        levels=[(digits(1 / dim) or 1 / dim, "flat spectrum")],
        height=height,
        legend=False,
        description=f"Share of the variance of {part} along each direction, on a logarithmic axis, "
        "beside Gaussian noise of the same shape and the initialisation where they are known.",
    )


def two_spectra(
    shares: Mapping[str, Sequence[float | None]],
    *,
    dims: Sequence[int],
    part: str,
    height: int = 260,
) -> alt.LayerChart:
    """Shares of the variance, largest first, of the same part of two runs or files."""
    lines = [
        Line(
            name=name,
            x=[float(index + 1) for index in range(len(values))],
            y=[None if s is None else digits(max(s, SHARE_FLOOR)) for s in values],
        )
        for name, values in shares.items()
    ]
    levels = [(digits(1 / dim) or 1 / dim, "flat spectrum") for dim in dict.fromkeys(dims)]
    return draw_spectra(
        lines,
        levels=levels,
        height=height,
        legend=False,
        description=f"Share of the variance of the {part} along each direction, one line each for "
        f"{' and '.join(shares)}, on a logarithmic axis.",
    )


def over_steps(
    course: Course,
    *,
    since_step: int | None = None,
    best_step: int | None = None,
    height: int = 220,
) -> alt.LayerChart:
    """A course with a line for each part; steps that the verdict names are marked."""
    columns = [list(values) for values in course.values.values()]
    kept = kept_points(columns, max(CURVE_POINTS // max(len(columns), 1), 40))
    lines = [
        Line(
            name=name,
            x=[float(course.steps[i]) for i in kept],
            y=[digits(values[i]) for i in kept],
        )
        for name, values in course.values.items()
    ]
    drawn = [y for line in lines for y in line.y if y is not None]
    log = course.log and min(drawn, default=0) > 0
    scale = alt.Scale(type="log") if log else alt.Scale(zero=course.zero)
    percent = "%" in course.format
    axis = alt.Axis(format=".0%", tickCount=5) if percent else alt.Axis(tickCount=5)
    x = alt.X(
        "x:Q", title="step", scale=alt.Scale(nice=False), axis=alt.Axis(format=",", tickCount=6)
    )
    chart = draw_lines(
        lines,
        x=x,
        y=alt.Y(
            "y:Q", title=f"{course.axis} (log)" if log else course.axis, scale=scale, axis=axis
        ),
        x_name="step",
        format=course.format,
        levels=list(course.levels),
        height=height,
        legend=False,
        description=f"{course.title} over the steps, one line for each part. {course.how}",
    )
    marks = [
        {"at": step, "word": word}
        for step, word in ((since_step, "collapse"), (best_step, "best"))
        if step is not None
    ]
    if marks:
        chart.layer = [*chart.layer, *_marks(marks)]
    return chart


def _marks(marks: Sequence[Mapping[str, Any]]) -> list[alt.Chart]:
    base = alt.Chart(alt.InlineData(values=list(marks)))
    rule = base.mark_rule(strokeDash=[2, 3], opacity=0.9, aria=False).encode(x=alt.X("at:Q"))
    word = base.mark_text(align="left", baseline="top", dx=4, fontSize=11).encode(
        x=alt.X("at:Q"), y=alt.value(0), text="word:N"
    )
    return [rule, word]
