"""Lines of many runs on one axis, with a rule and all values under the pointer.

Names must be distinct. A parameter `focus`, a list of names or null, fades the others: the
page sets it from its legend.
"""

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import altair as alt

from offdiag.plots.theme import PALETTE


@dataclass(frozen=True, kw_only=True)
class Line:
    """One line. `spread`, where there is one, is drawn as a band of y - spread to y + spread."""

    name: str
    x: list[float]
    y: list[float | None]
    spread: list[float | None] | None = None


def draw_lines(
    lines: Sequence[Line],
    *,
    x: alt.X,
    y: alt.Y,
    x_name: str,
    format: str,
    levels: Sequence[tuple[float, str]],
    height: int,
    legend: bool,
    description: str,
) -> alt.LayerChart:
    """The lines over `x`, dashed levels with their words, and a rule that follows the pointer."""
    names = [line.name for line in lines]
    focus = alt.param(name="focus", value=None)
    in_focus = "focus == null || indexof(focus, datum.run) >= 0"
    hover = alt.selection_point(
        name="hover",
        fields=["x"],
        nearest=True,
        on="pointermove, pointerdown",
        clear="pointerout",
        empty=False,
    )
    colour = alt.Color(
        "run:N", scale=alt.Scale(domain=names), legend=alt.Legend() if legend else None
    )
    # Past one round of the palette the dashes tell two runs of one colour apart.
    dash = alt.StrokeDash(
        "run:N",
        scale=alt.Scale(domain=names, range=[_DASHES[_round(i)] for i in range(len(names))]),
        legend=None,
    )
    base = alt.Chart(
        alt.InlineData(values=[{"run": n.name, "x": n.x, "y": n.y} for n in lines])
    ).transform_flatten(["x", "y"])
    strokes = (
        base.mark_line(point=any(len(line.x) < 3 for line in lines))
        .encode(
            x=x,
            y=y,
            color=colour,
            strokeDash=dash,
            opacity=alt.condition(in_focus, alt.value(1), alt.value(0.25)),
        )
        .add_params(focus)
    )
    points = base.transform_filter(hover).transform_filter("isValid(datum.y)")
    dots = points.mark_point(filled=True, size=42, opacity=1).encode(x=x, y=y, color=colour)
    rule = (
        alt.Chart(alt.InlineData(values=[_under_pointer(lines, format)]))
        .transform_flatten(["x", *(f"r{i}" for i in range(len(lines)))])
        .mark_rule(strokeWidth=1, aria=False, tooltip=alt.ExprRef(expr=_tooltip(names, x_name)))
        .encode(x=x, opacity=alt.condition(hover, alt.value(0.55), alt.value(0)))
        .add_params(hover)
    )
    bands = [line for line in lines if line.spread is not None]
    layers: list[Any] = [_bands(bands, x, y, colour, in_focus)] if bands else []
    layers.append(strokes)
    if levels:
        reference = alt.Chart(
            alt.InlineData(values=[{"level": level, "word": word} for level, word in levels])
        )
        layers.append(
            reference.mark_rule(strokeDash=[5, 4], opacity=0.8).encode(y=alt.Y("level:Q"))
        )
        layers.append(
            reference.mark_text(align="right", baseline="bottom", dy=-3, fontSize=11).encode(
                x=alt.value("width"), y=alt.Y("level:Q"), text="word:N"
            )
        )
    return alt.LayerChart(
        layer=[*layers, rule, dots], width="container", height=height, description=description
    )


def _bands(
    lines: Sequence[Line], x: alt.X, y: alt.Y, colour: alt.Color, in_focus: str
) -> alt.Chart:
    about: Any = y.to_dict()
    log = about.get("scale", {}).get("type") == "log"
    values = []
    for line in lines:
        assert line.spread is not None
        drawn = [
            # A log axis has no place for 0 and below: there the band goes to the axis' end.
            (
                at,
                digits(max(mean - spread, 1e-3 * mean) if log else mean - spread),
                digits(mean + spread),
            )
            for at, mean, spread in zip(line.x, line.y, line.spread, strict=True)
            if mean is not None and spread is not None
        ]
        at, low, high = zip(*drawn, strict=True) if drawn else ((), (), ())
        values.append({"run": line.name, "x": at, "low": low, "high": high})
    return (
        alt.Chart(alt.InlineData(values=values))
        .transform_flatten(["x", "low", "high"])
        .mark_area(clip=True, aria=False)
        .encode(
            x=x,
            y=alt.Y("low:Q", title=about.get("title")),
            y2="high:Q",
            color=colour,
            opacity=alt.condition(in_focus, alt.value(0.16), alt.value(0.04)),
        )
    )


_DASHES = ([1, 0], [6, 3], [2, 2])


def _round(index: int) -> int:
    return index // len(PALETTE) % len(_DASHES)


def _under_pointer(lines: Sequence[Line], format: str) -> dict[str, list[Any]]:
    """What the tooltip says at each x, already in words: runs need not share their readings."""
    at = [
        {
            x: (y, None if line.spread is None else line.spread[i])
            for i, (x, y) in enumerate(zip(line.x, line.y, strict=True))
        }
        for line in lines
    ]
    xs = sorted({x for line in lines for x in line.x})
    said = {
        f"r{i}": [_said(*values.get(x, (None, None)), format) for x in xs]
        for i, values in enumerate(at)
    }
    return {"x": xs, **said}


def _tooltip(names: Sequence[str], x_name: str) -> str:
    """The tooltip of a rule as an expression.

    Not by encoding: Vega-Lite forgets that what the pointer is nearest to wraps its
    datum when a field is text, and leaves backslashes in titles unescaped.
    """
    fields = {x_name: "x"} | {name: f"r{i}" for i, name in enumerate(names)}
    said = (f"{json.dumps(title)}: (datum.datum || datum).{f}" for title, f in fields.items())
    return f"{{{', '.join(said)}}}"


def _said(value: float | None, spread: float | None, format: str) -> str:
    if value is None:
        return "–"
    if spread is not None:
        return f"{_said(value, None, format)} ± {_said(spread, None, format)}"
    if "%" in format:
        return f"{100 * value:.1f}\u00a0%"
    return f"{value:.2e}" if "e" in format else f"{value:.3g}"


def finite(value: float | None) -> float | None:
    """The value, or None if it is missing, infinite or not a number."""
    return None if value is None or not math.isfinite(value) else float(value)


def digits(value: float | None, count: int = 4) -> float | None:
    """The value to `count` significant digits, so that the page stays small."""
    value = finite(value)
    return None if value is None else float(f"{value:.{count}g}")
