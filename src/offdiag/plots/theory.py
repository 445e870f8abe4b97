"""Pictures of the theory lab: trajectories, laws and phase diagrams. They compute nothing
that is worth a name; the readings come from `theory`."""

from collections.abc import Mapping, Sequence
from typing import Any

import altair as alt
import numpy as np

from offdiag.plots.theme import INK, PALETTE, SEQUENTIAL
from offdiag.results.trajectory import Trajectory

HEIGHT = 190
WIDTH = 430  # of a panel in a still picture; in a page panels take the width they get
TIME_TITLE = "time (learning rate × steps)"
PHASE_COLOURS = ("#56B4E9", "#E69F00", "#009E73", "#CC79A7")

Picture = Any  # an Altair chart; its own types tell single, layered and joined ones apart
Span = tuple[str, float, float]  # name, start and end of a shaded phase


def inner_products(run: Trajectory, *, title: str = "", phases: Sequence[Span] = ()) -> Picture:
    """|<w_j, v_l>| of every neuron and feature against log time."""
    return _lines(
        run,
        {
            (f"neuron {j + 1}", _feature(run, f)): np.abs(run.inner_products[:, j, f])
            for j in range(run.inner_products.shape[1])
            for f in range(run.inner_products.shape[2])
        },
        y="|<w, v>|",
        title=title,
        phases=phases,
    )


def head_entries(run: Trajectory, *, title: str = "", phases: Sequence[Span] = ()) -> Picture:
    """The off-diagonal entries of the head, by absolute value, against log time."""
    m = run.head.shape[1]
    return _lines(
        run,
        {
            (f"neuron {j + 1}", f"fed by neuron {r + 1}"): np.abs(run.head[:, j, r])
            for j in range(m)
            for r in range(m)
            if j != r
        },
        y="|E| off the diagonal",
        title=title,
        phases=phases,
    )


def noise_norms(run: Trajectory, *, title: str = "", phases: Sequence[Span] = ()) -> Picture:
    """Standard deviation of each neuron's response to a noise patch against log time."""
    return _lines(
        run,
        {
            (f"neuron {j + 1}", "noise"): np.sqrt(run.noise[:, j, j])
            for j in range(run.noise.shape[1])
        },
        y="response to noise",
        title=title,
        phases=phases,
    )


def loss(run: Trajectory, *, title: str = "", phases: Sequence[Span] = ()) -> Picture:
    """The population loss against log time."""
    return _lines(run, {("", ""): run.loss}, y="loss", title=title, phases=phases, zero=False)


def panels(run: Trajectory, *, title: str = "", phases: Sequence[Span] = ()) -> tuple[Picture, ...]:
    """The story of one trajectory from top to bottom; the first panel carries the title."""
    return (
        inner_products(run, title=title, phases=phases),
        head_entries(run, phases=phases),
        noise_norms(run, phases=phases),
        loss(run, phases=phases),
    )


def story(with_head: Trajectory, without: Trajectory, *, phases: Sequence[Span] = ()) -> Picture:
    """Both trajectories of one start side by side, as a still picture of fixed width."""
    rows = zip(
        panels(with_head, title="with the head", phases=phases),
        panels(without, title="without"),
        strict=True,
    )
    return alt.vconcat(
        *(
            alt.hconcat(
                left.properties(width=WIDTH), right.properties(width=WIDTH), spacing=24
            ).resolve_scale(y="shared", strokeDash="shared")
            for left, right in rows
        ),
        spacing=10,
    ).resolve_scale(color="shared", fill="independent", strokeDash="independent", y="independent")


def second_neuron(with_head: Trajectory, without: Trajectory, *, follower: int) -> Picture:
    """What the follower learns with the head and without, and how far the head leaves I."""
    strong = int(np.argmax(with_head.problem["strengths"]))
    rows = []
    for run, name in ((with_head, "with the head"), (without, "without")):
        shown = _shown(run)
        for feature in range(run.inner_products.shape[2]):
            label = "strong feature" if feature == strong else "weak feature"
            rows += [
                {"time": float(t), "value": float(abs(c)), "run": name, "series": label}
                for t, c in zip(
                    run.time[shown], run.inner_products[shown, follower, feature], strict=True
                )
            ]
    names = ["strong feature", "weak feature", "head: |E - I| over its peak"]
    off = with_head.head * ~np.eye(with_head.head.shape[1], dtype=bool)
    norm = np.sqrt((off**2).sum((1, 2)))
    shown = _shown(with_head)
    head = [
        {"time": float(t), "value": float(v), "series": names[2]}
        for t, v in zip(with_head.time[shown], (norm / max(norm.max(), 1e-300))[shown], strict=True)
    ]
    colour = alt.Color(
        "series:N",
        scale=_scale(domain=names, range=list(PALETTE[:3])),
        legend=alt.Legend(symbolOpacity=1),
    )
    area = (
        alt.Chart(_data(head))
        .mark_area(opacity=0.22, interpolate="linear")
        .encode(x=_time(with_head), y=alt.Y("value:Q"), color=colour)
    )
    lines = (
        alt.Chart(_data(rows))
        .mark_line(strokeWidth=2)
        .encode(
            x=_time(with_head),
            y=alt.Y("value:Q", title="second neuron: |<w, v>|"),
            color=colour,
            strokeDash=alt.StrokeDash(
                "run:N",
                scale=_scale(domain=["with the head", "without"], range=[[1, 0], [5, 4]]),
            ),
            tooltip=_tooltip(["run:N", "series:N"]),
        )
    )
    return alt.layer(area, lines).properties(width="container", height=300)


def power_law(
    x: Sequence[float],
    y: Sequence[float],
    law: Sequence[float],
    *,
    x_title: str,
    y_title: str,
    law_name: str,
) -> Picture:
    """Measured points and a law, both axes logarithmic."""
    rows = [
        {"x": float(a), "measured": float(b), "law": float(c)}
        for a, b, c in zip(x, y, law, strict=True)
    ]
    base = alt.Chart(_data(rows)).encode(
        x=alt.X("x:Q", title=x_title, scale=_scale(type="log", nice=False), axis=_log_axis())
    )
    names = ["measured", law_name]
    colour = _scale(domain=names, range=[PALETTE[1], PALETTE[0]])
    scale = _scale(type="log")
    line = base.mark_line(strokeWidth=2).encode(
        y=alt.Y("law:Q", title=y_title, scale=scale, axis=_log_axis()),
        color=alt.Color("series:N", scale=colour),
    )
    points = base.mark_point(filled=True, size=90, opacity=1).encode(
        y=alt.Y("measured:Q", title=y_title, scale=scale, axis=_log_axis()),
        color=alt.Color("series:N", scale=colour),
        tooltip=[
            alt.Tooltip("x:Q", title=x_title, format=".3~g"),
            alt.Tooltip("measured:Q", title=y_title, format=".4~g"),
        ],
    )
    return alt.layer(
        line.transform_calculate(series=f"'{law_name}'"),
        points.transform_calculate(series="'measured'"),
    ).properties(width="container", height=300)


def phase_diagram(
    cells: Sequence[Mapping[str, Any]],
    axes: Sequence[tuple[str, Sequence[float], bool]],
    *,
    reading: str = "diverse",
) -> Picture:
    """The share of one outcome over a grid of two parameters, or a line over one.

    `axes` holds name, values and whether the axis is logarithmic; `cells` one row each
    with both parameters and the reading, as `theory.sweep.cell_shares` gives them.
    """
    shown = reading.replace("_", " ")
    name, values, log = axes[0]
    kind = "log" if log else "linear"
    if len(axes) == 1:
        rows = [{"x": cell[name], "value": cell[reading]} for cell in cells]
        chart = (
            alt.Chart(_data(rows))
            .mark_line(point=alt.OverlayMarkDef(filled=True, size=40), color=PALETTE[0])
            .encode(
                x=alt.X(
                    "x:Q",
                    title=_words(name),
                    scale=_scale(type=kind, nice=False, zero=False),
                    axis=_log_axis() if log else alt.Axis(),
                ),
                y=alt.Y("value:Q", title=shown),
                tooltip=[alt.Tooltip("x:Q", format=".3~g"), alt.Tooltip("value:Q", format=".3f")],
            )
        )
        return chart.properties(width="container", height=300)
    edges = {axis: _edges(points, logarithmic) for axis, points, logarithmic in axes[:2]}
    rows = [
        {
            "x": edges[name][cell[name]][0],
            "x2": edges[name][cell[name]][1],
            "y": edges[axes[1][0]][cell[axes[1][0]]][0],
            "y2": edges[axes[1][0]][cell[axes[1][0]]][1],
            "at_x": cell[name],
            "at_y": cell[axes[1][0]],
            "value": cell[reading],
        }
        for cell in cells
    ]
    other, _, other_log = axes[1]
    chart = (
        alt.Chart(_data(rows))
        .mark_rect(stroke=None)
        .encode(
            x=alt.X(
                "x:Q",
                title=_words(name),
                scale=_scale(type=kind, nice=False, zero=False),
                axis=_log_axis() if log else alt.Axis(grid=False),
            ),
            x2="x2:Q",
            y=alt.Y(
                "y:Q",
                title=_words(other),
                scale=_scale(type="log" if other_log else "linear", nice=False, zero=False),
                axis=_log_axis() if other_log else alt.Axis(grid=False),
            ),
            y2="y2:Q",
            color=alt.Color(
                "value:Q",
                scale=_scale(scheme=SEQUENTIAL, domain=[0, 1])
                if reading not in ("median_max_off_diagonal", "median_final_off_diagonal")
                else _scale(scheme=SEQUENTIAL),
                legend=alt.Legend(title=shown, gradientLength=220, orient="top", format=".1f"),
            ),
            tooltip=[
                alt.Tooltip("at_x:Q", title=_words(name), format=".3~g"),
                alt.Tooltip("at_y:Q", title=_words(other), format=".3~g"),
                alt.Tooltip("value:Q", title=shown, format=".3f"),
            ],
        )
    )
    return chart.properties(width="container", height=420)


def _lines(
    run: Trajectory,
    series: Mapping[tuple[str, str], np.ndarray],
    *,
    y: str,
    title: str,
    phases: Sequence[Span],
    zero: bool = True,
) -> Picture:
    shown = _shown(run)
    rows = [
        {"time": float(t), "value": float(v), "neuron": neuron, "part": part}
        for (neuron, part), values in series.items()
        for t, v in zip(run.time[shown], values[shown], strict=True)
    ]
    neurons = list(dict.fromkeys(neuron for neuron, _ in series))
    parts = list(dict.fromkeys(part for _, part in series))
    dashes = [[1, 0], [6, 3], [2, 2], [8, 2, 2, 2], [1, 3], [4, 1], [10, 4], [3, 5]]
    several = len(parts) > 1
    dash: dict[str, Any] = {}
    if several:
        ways = [dashes[i % len(dashes)] for i in range(len(parts))]
        dash["strokeDash"] = alt.StrokeDash(
            "part:N",
            scale=_scale(domain=parts, range=ways),
            legend=alt.Legend(symbolStrokeColor=INK["either"]),
        )
    lines = (
        alt.Chart(_data(rows))
        .mark_line(strokeWidth=2, clip=True)
        .encode(
            x=_time(run),
            y=alt.Y("value:Q", title=y, scale=_scale(zero=zero), axis=alt.Axis(tickCount=4)),
            color=alt.Color(
                "neuron:N",
                scale=_scale(
                    domain=neurons, range=[PALETTE[i % len(PALETTE)] for i in range(len(neurons))]
                ),
            )
            if neurons != [""]
            else alt.value(PALETTE[5]),
            **dash,
            tooltip=_tooltip(["neuron:N", "part:N"]),
        )
    )
    layers = [*_bands(run, phases, named=neurons == [""]), lines]
    chart = alt.layer(*layers).properties(width="container", height=HEIGHT)
    return chart.properties(title=title) if title else chart


def _bands(run: Trajectory, phases: Sequence[Span], *, named: bool) -> list[Picture]:
    if not phases:
        return []
    low = float(run.time[_shown(run)][0])
    rows = [
        {"start": max(start, low), "end": end, "phase": f"{number} {name}"}
        for number, (name, start, end) in zip(("I", "II", "III", "IV"), phases, strict=False)
    ]
    names = [row["phase"] for row in rows]
    return [
        alt.Chart(_data(rows))
        .mark_rect(opacity=0.16)
        .encode(
            x="start:Q",
            x2="end:Q",
            fill=alt.Fill(
                "phase:N",
                scale=_scale(domain=names, range=list(PHASE_COLOURS[: len(names)])),
                # One legend for all panels of a column: on the one that has no other.
                legend=alt.Legend(symbolOpacity=0.6, symbolType="square") if named else None,
            ),
            tooltip=[
                alt.Tooltip("phase:N"),
                alt.Tooltip("start:Q", format=".3~g"),
                alt.Tooltip("end:Q", format=".3~g"),
            ],
        )
    ]


def _shown(run: Trajectory) -> np.ndarray:
    # Nothing moves long before the first jump; half a decade of it is enough to see.
    size = np.abs(run.inner_products).max((1, 2))
    moving = np.nonzero(size > 1.5 * size[0])[0]
    first = run.time[moving[0]] if moving.size else run.time[-1] / 100
    return np.asarray(run.time >= max(first / 10, run.time[1] if run.time.size > 1 else 0.0))


def _time(run: Trajectory) -> alt.X:
    return alt.X(
        "time:Q",
        title=TIME_TITLE,
        scale=_scale(type="log", nice=False),
        axis=_log_axis(),
    )


def _log_axis() -> alt.Axis:
    # Labels at whole powers of ten only, and as such: 10⁴ for 10000.
    digits = "⁰¹²³⁴⁵⁶⁷⁸⁹"
    power = "round(log(datum.value) / LN10)"
    figures = "[" + ", ".join(f"'{digit}'" for digit in digits) + "]"
    ten = f"({power} < 0 ? '10⁻' : '10')"
    high = f"(abs({power}) > 9 ? {figures}[floor(abs({power}) / 10)] : '')"
    whole = f"abs(log(datum.value) / LN10 - {power}) < 1e-6"
    label = f"{whole} ? {ten} + {high} + {figures}[abs({power}) % 10] : ''"
    return alt.Axis(labelExpr=label, labelOverlap=True, grid=False, tickCount=6)


def _tooltip(more: Sequence[str]) -> list[alt.Tooltip]:
    return [
        *(alt.Tooltip(name) for name in more),
        alt.Tooltip("time:Q", format=".3~g"),
        alt.Tooltip("value:Q", format=".4~g"),
    ]


def _feature(run: Trajectory, index: int) -> str:
    strengths = run.problem["strengths"]
    return f"feature of strength {strengths[index]:g}"


def _words(name: str) -> str:
    return {
        "head_lr_ratio": "learning rate of the head / of the neurons, ρ",
        "dim": "dimension d",
        "noise": "noise σ",
        "time": TIME_TITLE,
    }.get(name, name.replace("_", " ").replace(".", " "))


def _edges(values: Sequence[float], log: bool) -> dict[float, tuple[float, float]]:
    points = np.log(values) if log else np.array(values, float)
    if points.size == 1:
        around = np.array([points[0] - 0.5, points[0] + 0.5])
    else:
        middle = 0.5 * (points[1:] + points[:-1])
        around = np.concatenate(
            [[2 * points[0] - middle[0]], middle, [2 * points[-1] - middle[-1]]]
        )
    ends = np.exp(around) if log else around
    return {
        float(value): (float(a), float(b))
        for value, a, b in zip(values, ends[:-1], ends[1:], strict=True)
    }


def _data(rows: Sequence[Mapping[str, Any]]) -> Any:
    return alt.Data(values=rows)  # type: ignore[no-untyped-call]


def _scale(**settings: Any) -> alt.Scale:
    return alt.Scale(**settings)
