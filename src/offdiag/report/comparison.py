"""A grid of runs as one self-contained page: means, spreads, paired differences, every run."""

import math
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from offdiag._checks import ConfigError
from offdiag.plots import compare as plots
from offdiag.plots import theme, training
from offdiag.report.document import chart_spec, render, write_page
from offdiag.report.numbers import Cell as Said
from offdiag.report.numbers import cell as said
from offdiag.report.numbers import duration, epoch, percent, significant
from offdiag.report.page import Figure
from offdiag.report.settings import Setting, flags, settings
from offdiag.results.comparison import (
    Cell,
    Combination,
    Comparison,
    Difference,
    Pair,
    Spread,
    Status,
    mean_curve,
    value_text,
)
from offdiag.runs.config import METHOD_PARTS

WORDS = {
    "head": "heads",
    "method": "methods",
    "normaliser": "normalisers",
    "transform": "target transforms",
    "regulariser": "regularisers",
    "encoder": "encoders",
    "lr": "learning rates",
}
"""Plurals of axes, for headings; of others the name itself is used."""
OF_THE_LOSS = ("method", "normaliser", "transform", "regulariser", "data", "views", "projector")
"""Axes across which a loss means another thing, and so has no differences and no winner."""


@dataclass(frozen=True, kw_only=True)
class Measure:
    """A reading of the tables: where its column stands and why it may be missing."""

    reading: str
    group: str
    part: str = ""
    share: bool = False
    decimals: int | None = None
    why: str = ""

    @property
    def title(self) -> str:
        return f"{self.group}, {self.part}" if self.part else self.group


MATRIX, LABELS = "this head is not a single matrix", "needs labels"
POINT = "all outputs are the same, so the spectrum has no rank"
QUALITY = (
    Measure(reading="loss", group="Loss", why="the last loss is not a finite number"),
    *(
        Measure(
            reading=f"effective_rank_{part}",
            group="Effective rank",
            part=part,
            decimals=1,
            why=POINT,
        )
        for part in ("features", "projection")
    ),
    *(
        Measure(reading=f"{kind}_{part}", group=group, part=part, share=True, why=LABELS)
        for kind, group in (("knn", "Nearest neighbours"), ("linear", "Linear probe"))
        for part in ("features", "projection")
    ),
)
HEAD = tuple(
    Measure(
        reading=f"head_norm_{reading}",
        group="Off-diagonal norm of the head",
        part=part,
        decimals=decimals,
        why=MATRIX,
    )
    for reading, part, decimals in (
        ("peak", "peak", None),
        ("peak_epoch", "epoch of the peak", 0),
        ("final", "end", None),
    )
)
COST = (
    Measure(reading="seconds", group="Seconds"),
    Measure(reading="images_per_second", group="Images/s", decimals=0),
)
DRAWN = ("loss", "effective_rank_projection", "knn_features", "knn_projection", "head_norm_peak")
CURVES = ("loss", "knn-features", "rank-projection", "knn-projection", "head-norm")


def write_comparison(comparison: Comparison, out: Path) -> None:
    """Write the page of a grid to the file `out`, whole or not at all."""
    write_page(render_comparison(comparison), out)


def render_comparison(comparison: Comparison) -> str:
    """The page as HTML, a function of the comparison alone; ConfigError without a run."""
    if not comparison.cells:
        raise ConfigError("a comparison needs at least one run; got none.")
    axis = coloured_axis(comparison)
    groups = [label_of(axis, value) for value in comparison.values(axis)]
    groups += [NO_VALUE] if any(one.get(axis) is None for one in comparison.combinations) else []
    colours = {g: theme.PALETTE[i % len(theme.PALETTE)] for i, g in enumerate(groups)}
    return render(
        "comparison.html.j2",
        title=_title(comparison),
        lede=_lede(comparison),
        name=comparison.name,
        axis=axis,
        groups=groups,
        colours=colours,
        failed=comparison.with_status(Status.FAILED),
        mean_groups=_headings((*QUALITY, *HEAD, *COST)),
        means=[
            (
                comparison.label(one),
                colours[label_of(axis, one.get(axis))],
                _count(comparison, one),
                [_mean(comparison, one, m) for m in (*QUALITY, *HEAD, *COST)],
            )
            for one in comparison.combinations
        ],
        seeds=_seed_figures(comparison, axis, groups),
        difference_groups=_headings(QUALITY),
        differences=[
            (plural(axis), rows)
            for axis in comparison.varied
            if (rows := [_difference_row(comparison, pair) for pair in comparison.pairs(axis)])
        ],
        curves=_curves(comparison, axis, groups),
        cells=[
            (cell, colours[label_of(axis, cell.combination.get(axis))], _cell_row(cell))
            for cell in comparison.cells
        ],
        settings=_joined([_shared(cell.settings) for cell in comparison.cells]),
        circumstances=_joined(
            [cell.circumstances for cell in comparison.cells if cell.circumstances]
        ),
        command=_command(comparison),
    )


NO_VALUE = "–"


def coloured_axis(comparison: Comparison) -> str:
    """The axis that gives the colours: the first of these that varies, else any that does."""
    varied = comparison.varied
    preferred = [axis for axis in ("head", "method", "normaliser") if axis in varied]
    return next(iter([*preferred, *varied]), "head" if "head" in comparison.axes else "method")


def label_of(axis: str, value: Any) -> str:
    """A value of an axis as a legend has it."""
    return value_text(axis, value) or NO_VALUE


def plural(axis: str) -> str:
    """What varies, for a heading: heads, learning rates, values of method.variance."""
    return WORDS.get(axis, f"values of {axis}")


def _title(comparison: Comparison) -> str:
    varied = [plural(axis) for axis in comparison.varied]
    if not varied:
        return "One combination over its seeds"
    *first, last = varied
    said = f"{', '.join(first)} and {last}" if first else last
    return f"{said[:1].upper()}{said[1:]} compared"


def _lede(comparison: Comparison) -> list[str]:
    finished = len(comparison.with_status(Status.FINISHED))
    count, seeds = len(comparison.combinations), comparison.seeds
    sentences = [
        f"{finished} of {len(comparison.cells)} runs have finished: {count} "
        f"combination{'s' if count > 1 else ''}, seed{'s' if len(seeds) > 1 else ''} "
        f"{', '.join(map(str, seeds))}."
    ]
    spreads = {
        reading: {
            one: spread
            for one in comparison.combinations
            if (spread := comparison.spread(one, reading)) is not None
        }
        for reading in ("knn_features", "loss", "effective_rank_projection")
    }
    knn, loss = spreads["knn_features"], spreads["loss"]
    if len(knn) > 1:
        sentences.insert(0, _best_sentence(comparison, knn))
    if (
        len(loss) > 1
        and not set(comparison.varied) & set(OF_THE_LOSS)
        and not _own_terms(comparison)
    ):
        lowest = min(loss, key=lambda one: loss[one].mean)
        rank = spreads["effective_rank_projection"].get(lowest)
        width = comparison.finished(lowest)[0].history[-1].projection.dim
        used = f"{_spread(rank, decimals=1)} of {width} directions" if rank else ""
        told = f", with {used} of the projection in use" if used else ""
        sentences.append(
            f"The lowest loss is that of {comparison.label(lowest)}: {_spread(loss[lowest])}{told}."
            " A low loss is not a good representation: a collapsed one has it too."
        )
    return sentences


def _own_terms(comparison: Comparison) -> bool:
    """Whether some axis is a setting of the loss itself."""
    kinds = ("method", "transform", "regulariser")
    return any(axis.partition(".")[0] in kinds for axis in comparison.varied if "." in axis)


def _best_sentence(comparison: Comparison, knn: Mapping[Combination, Spread]) -> str:
    """Which features are the most accurate; no winner where the second may be as good."""
    best, second = sorted(knn, key=lambda one: -knn[one].mean)[:2]
    gap = comparison.gap(best, second, "knn_features")
    named = f"{comparison.label(best)} ({_spread(knn[best], share=True)})"
    other = f"{comparison.label(second)} ({_spread(knn[second], share=True)})"
    if gap is not None and gap.low > 0:
        return f"The most accurate features, by their nearest neighbours, are those of {named}."
    return (
        f"The features of {named} have the highest mean accuracy of their nearest neighbours; the "
        f"difference to {other} is not apart from 0 over these seeds."
    )


def _headings(measures: Sequence[Measure]) -> list[tuple[str, list[str]]]:
    groups: dict[str, list[str]] = {}
    for measure in measures:
        groups.setdefault(measure.group, []).append(measure.part)
    return list(groups.items())


def _count(comparison: Comparison, one: Combination) -> str:
    done = len(comparison.finished(one))
    every = sum(cell.combination == one for cell in comparison.cells)
    return str(done) if done == every else f"{done} of {every}"


def _mean(comparison: Comparison, one: Combination, measure: Measure) -> Said:
    spread = comparison.spread(one, measure.reading)
    done = len(comparison.finished(one))
    if spread is None:
        return said(None, otherwise=measure.why if done else "no run has finished")
    partly = "" if spread.n == done else f"over {spread.n} of {done} seeds: {measure.why}"
    text = _spread(spread, share=measure.share, decimals=measure.decimals)
    return Said(text=text, why=partly)


def _spread(
    spread: Spread, *, share: bool = False, signed: bool = False, decimals: int | None = None
) -> str:
    """Mean ± standard deviation, to three digits of the larger one; the mean alone if n is 1."""
    scale = 100 if share else 1
    mean, std = scale * spread.mean, scale * spread.std
    sign = "+" if signed and mean > 0 else ""
    unit = "\u00a0%" if share and not signed else ""
    if share:
        decimals = 1
    elif decimals is None:
        decimals = _decimals(max(abs(mean), std if spread.n > 1 else 0))
    if decimals is None:
        text, deviation = significant(mean), significant(std)
    else:
        text, deviation = f"{mean:.{decimals}f}", f"{std:.{decimals}f}"
    spread_text = f"\u00a0±\u00a0{deviation}" if spread.n > 1 else ""
    return f"{sign}{text}{spread_text}{unit}".replace("-", "\u2212")


def _decimals(value: float) -> int | None:
    """Decimals that show three digits of `value`; None where an exponent is needed."""
    text = significant(value)
    if text is None or "e" in text:
        return None
    return len(text.partition(".")[2])


def _difference_row(
    comparison: Comparison, pair: Pair
) -> tuple[str, str, list[tuple[Said, list[str], bool]]]:
    """What is compared, among which runs, and the cells: the difference, its interval and
    count, and whether the interval is apart from 0."""
    others = [axis for axis in comparison.varied if axis != pair.axis]
    row: list[tuple[Said, list[str], bool]] = []
    for measure in QUALITY:
        if measure.reading == "loss" and _changes_the_loss(pair.axis):
            row.append((said(None, otherwise="these losses are not one quantity"), [], False))
            continue
        difference = comparison.difference(pair, measure.reading)
        if difference is None:
            row.append((said(None, otherwise="no seed has both"), [], False))
            continue
        text = _spread(difference.spread, share=measure.share, signed=True)
        row.append((Said(text=text), *_interval(difference, share=measure.share)))
    return (
        f"{label_of(pair.axis, pair.first.get(pair.axis))} \u2212 "
        f"{label_of(pair.axis, pair.second.get(pair.axis))}",
        ", ".join(filter(None, (value_text(axis, pair.first.get(axis)) for axis in others))),
        row,
    )


def _changes_the_loss(axis: str) -> bool:
    return axis in OF_THE_LOSS or axis.partition(".")[0] in ("method", "transform", "regulariser")


def _interval(difference: Difference, *, share: bool) -> tuple[list[str], bool]:
    count = f"{difference.above} of {difference.spread.n} above 0"
    if math.isnan(difference.low):
        return [count], False
    scale = 100 if share else 1
    low, high = scale * difference.low, scale * difference.high
    decimals = 1 if share else _decimals(max(abs(low), abs(high)))
    ends = [
        f"{end:+.{decimals}f}" if decimals is not None else f"{end:+.2e}" for end in (low, high)
    ]
    told = f"{ends[0]} to {ends[1]}".replace("-", "\u2212")
    return [told, count], low > 0 or high < 0


def _seed_figures(comparison: Comparison, axis: str, groups: Sequence[str]) -> list[Figure]:
    figures = []
    for measure in (*QUALITY, *HEAD):
        if measure.reading not in DRAWN:
            continue
        rows = [
            plots.Row(
                label=comparison.label(one),
                group=label_of(axis, one.get(axis)),
                by_seed=list(comparison.by_seed(one, measure.reading).items()),
                spread=spread,
            )
            for one in comparison.combinations
            if (spread := comparison.spread(one, measure.reading)) is not None
        ]
        if rows:
            title = measure.title
            chart = plots.seeds(
                rows,
                groups,
                title="share of held-out images" if measure.share else measure.group.lower(),
                format=".1%" if measure.share else ".3~g",
                description=f"{title}: a point for each seed, a tick at the mean.",
            )
            figures.append(
                Figure(id=f"seeds-{measure.reading}", title=title, how="", spec=chart_spec(chart))
            )
    return figures


def _curves(
    comparison: Comparison, axis: str, groups: Sequence[str]
) -> list[tuple[str, list[Figure]]]:
    """Mean curves, apart for each value of the axes that give no colour."""
    every = (*training.WHAT_CURVES, *training.DIMENSION_CURVES, *training.HEAD_CURVES)
    chosen = [curve for key in CURVES for curve in every if curve.key == key]
    others = [other for other in comparison.axes if other != axis]
    slices: dict[tuple[str, ...], dict[str, Combination]] = {}
    for one in comparison.combinations:
        varied = [other for other in others if other in comparison.varied] or others
        key = tuple(filter(None, (value_text(other, one.get(other)) for other in varied)))
        slices.setdefault(key, {})[label_of(axis, one.get(axis))] = one
    told = []
    for number, (key, members) in enumerate(slices.items()):
        histories = {
            group: [cell.history for cell in comparison.finished(one)]
            for group, one in members.items()
        }
        figures = []
        for curve in chosen:
            # Of all groups, so that each keeps its colour.
            means = [(g, mean_curve(histories.get(g, []), curve.of)) for g in groups]
            if any(mean.epoch for _, mean in means):
                spec = chart_spec(plots.mean_curves(means, curve))
                figures.append(
                    Figure(
                        id=f"curve-{number}-{curve.key}",
                        title=curve.title,
                        how=curve.how if number == 0 else "",
                        spec=spec,
                    )
                )
        if figures:
            told.append((", ".join(key), figures))
    return told


def _cell_row(cell: Cell) -> list[Said]:
    if cell.ending is None:
        width = len(QUALITY) + len(HEAD) + len(COST)
        return [said(None, otherwise="no reading yet") for _ in range(width)]
    row = []
    for measure in (*QUALITY, *HEAD, *COST):
        value = getattr(cell.ending, measure.reading)
        word = significant(value)
        if measure.share:
            word = percent(value)
        elif measure.reading == "head_norm_peak_epoch" and value is not None:
            word = epoch(value)
        elif measure.reading == "seconds":
            word = duration(value)
        why = measure.why if cell.status is Status.FINISHED else "not evaluated yet"
        row.append(said(word, otherwise=why))
    return row


def _shared(config: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in config.items() if key != "seed"}


def _joined(descriptions: Sequence[Mapping[str, Any]]) -> list[tuple[str, str]]:
    """Each setting with its values, each value once."""
    rows: list[Setting] = settings(descriptions)
    return [(row.path, "; ".join(dict.fromkeys(row.values))) for row in rows]


def _command(comparison: Comparison) -> str:
    """The command that trains this grid again; empty if no one command makes its runs."""
    axes = {axis: comparison.values(axis) for axis in comparison.varied}
    seeds = comparison.seeds
    made = math.prod(len(values) for values in axes.values()) * len(seeds)
    if made != len(comparison.cells):
        return ""
    words = ["offdiag", "compare"]
    for axis, values in axes.items():
        words += ["--vary", axis, *(_word(value) for value in values)]
    words += ["--vary", "seed", *map(str, seeds)]
    shared = _shared(comparison.cells[0].settings)
    parts = shared.get("settings", {})
    of_parts = {
        kind: {n: v for n, v in own.items() if f"{kind}.{n}" not in axes}
        for kind, own in parts.items()
        if kind not in axes and "method" not in axes
    }
    base = {key: value for key, value in shared.items() if key not in (*axes, "settings")}
    if "method" in axes:
        base = {key: v for key, v in base.items() if key not in METHOD_PARTS}
    words += flags({**base, "settings": of_parts})
    return shlex.join([*words, "--out", f"./{comparison.name}-again"])


def _word(value: Any) -> str:
    if isinstance(value, tuple | list):
        return ",".join(map(str, value))
    return str(value)
