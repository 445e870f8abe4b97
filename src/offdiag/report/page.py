"""Records and charts as one self-contained page: `report.html`.

The page needs no network: the chart library is inside it, once.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import altair as alt
import numpy as np

from offdiag._checks import ConfigError
from offdiag.diagnostics.advice import Advice
from offdiag.plots import theme, training
from offdiag.plots.thinning import evenly
from offdiag.report.document import chart_spec, render, writable, write_page
from offdiag.report.numbers import Cell, cell, epoch, percent, significant
from offdiag.report.overview import COSTS, GROUPS, costs, overview
from offdiag.report.sentences import Case, cases, headline
from offdiag.report.settings import command, settings
from offdiag.results.history import RunRecord

TITLE = "Does it collapse?"
TABLE_EPOCHS = 6


@dataclass(frozen=True, kw_only=True)
class Section:
    """A section that the caller adds: a heading, plain text (blank lines part paragraphs), a chart.

    The chart draws itself in the page's colours; give it `width="container"` so that
    it fits a phone.
    """

    heading: str
    text: str
    chart: alt.TopLevelMixin | None = None


@dataclass(frozen=True, kw_only=True)
class Figure:
    """A chart with its words, and its values as a table for those who cannot see it."""

    id: str
    title: str
    how: str
    spec: Mapping[str, Any]
    canvas: bool = False
    square: bool = False
    table: tuple[tuple[str, ...], tuple[tuple[str, tuple[Cell, ...]], ...]] | None = None


@dataclass(frozen=True, kw_only=True)
class Head:
    """The pictures of one run's head, or the sentence that says why there are none."""

    name: str
    sentence: str
    figures: tuple[Figure, ...] = ()


def write_report(
    records: Sequence[RunRecord],
    out: Path,
    *,
    title: str = TITLE,
    extra_sections: Sequence[Section] = (),
) -> None:
    """Write the page of `records` to the file `out`, whole or not at all.

    The folder is made if it is missing. RunError says what the system refused.
    """
    write_page(render_report(records, title=title, extra_sections=extra_sections), out)


def render_report(
    records: Sequence[RunRecord],
    *,
    title: str = TITLE,
    extra_sections: Sequence[Section] = (),
) -> str:
    """The page as HTML, a function of the records alone; ConfigError without a record."""
    if not records:
        raise ConfigError("a report needs at least one run; got none.")
    if empty := [record.name for record in records if not record.history]:
        raise ConfigError(
            f"a report needs at least one reading of each run; {empty[0]!r} has none."
        )
    records = _named_apart(records)
    runs = cases(records)
    table = [overview(record) for record in records]
    return render(
        "page.html.j2",
        title=writable(title),
        headline=headline(runs),
        runs=runs,
        advice=_advice(runs),
        colours=[theme.PALETTE[i % len(theme.PALETTE)] for i in range(len(records))],
        groups=GROUPS,
        overview=table,
        cost_headings=COSTS,
        costs=[costs(record) for record in records],
        reasons=_reasons(records, table),
        curve_groups=_curve_groups(records),
        spectra=_spectra(records),
        heads=[_head(record, number) for number, record in enumerate(records)],
        sections=[_section(section, i) for i, section in enumerate(extra_sections)],
        settings=settings([record.config for record in records]),
        circumstances=settings([record.circumstances for record in records]),
        evaluations=settings([(r.evaluation or {}).get("settings", {}) for r in records]),
        commands=[line for record in records if (line := command(record)) is not None],
    )


def _named_apart(records: Sequence[RunRecord]) -> list[RunRecord]:
    """The records under names that are distinct, not empty, on one line, and can be written."""
    taken: set[str] = set()
    named = []
    for number, record in enumerate(records, start=1):
        stem = name = " ".join(writable(record.name).split()) or f"run {number}"
        copy = 2
        while name in taken:
            name, copy = f"{stem} ({copy})", copy + 1
        taken.add(name)
        named.append(replace(record, name=name))
    return named


def _advice(runs: Sequence[Case]) -> list[tuple[Advice, list[str]]]:
    """Each piece of advice once, with the runs that it is for."""
    given: dict[Advice, list[str]] = {}
    for run in runs:
        for one in run.verdict.advice:
            given.setdefault(one, []).append(run.record.name)
    return list(given.items())


def _reasons(
    records: Sequence[RunRecord], table: Sequence[Sequence[Cell]]
) -> list[tuple[str, list[str]]]:
    """Why cells are marked, each reason once, with the runs it holds for."""
    reasons: dict[str, dict[str, None]] = {}
    for record, cells in zip(records, table, strict=True):
        for marked in (one for one in cells if one.why):
            reasons.setdefault(marked.why, {})[record.name] = None
    return [(why, list(names)) for why, names in reasons.items()]


def _curve_groups(records: Sequence[RunRecord]) -> list[tuple[str, str, list[Figure], list[str]]]:
    """Heading, lead, figures and the sentences on what is missing, for each group of curves."""
    groups = (
        (
            "What the loss sees, and what it does not",
            "The loss is what training lowers. The vote of the nearest neighbours asks whether "
            "different samples still differ.",
            (*training.WHAT_CURVES, *training.term_curves(records)),
            "Nearest neighbours need labels, and no run has them.",
        ),
        (
            "How many dimensions are in use",
            "Dimensional collapse is a representation that squeezes into a few directions. "
            "These readings see it; the loss does not.",
            training.DIMENSION_CURVES,
            "",
        ),
        (
            "The head while it trains",
            "In the paper's account the head starts as the identity, lends strong features to "
            "other coordinates while weak ones are learned, and then returns.",
            training.HEAD_CURVES,
            "",
        ),
    )
    told = []
    for heading, lead, curves, otherwise in groups:
        figures = [_curve(records, curve) for curve in curves if curve.drawn(records)]
        missing = [] if len(figures) == len(curves) else [otherwise]
        if curves is training.HEAD_CURVES:
            missing = _without_matrix(records)
        told.append((heading, lead, figures, [sentence for sentence in missing if sentence]))
    return told


def _without_matrix(records: Sequence[RunRecord]) -> list[str]:
    headed = [r for r in records if r.description.head is not None]
    names = [r.name for r in headed if all(row.head is None for row in r.history)]
    if not names:
        return []
    return [f"Not drawn, because the head is not a single matrix: {', '.join(names)}."]


def _curve(records: Sequence[RunRecord], curve: training.Curve) -> Figure:
    drawn = curve.drawn(records)
    # All runs, drawn or not, so that each keeps its colour.
    return Figure(
        id=f"curve-{curve.key}",
        title=curve.title,
        how=curve.how,
        spec=chart_spec(training.curve(records, curve, legend=False)),
        table=_curve_table(drawn, curve),
    )


def _curve_table(
    records: Sequence[RunRecord], curve: training.Curve
) -> tuple[tuple[str, ...], tuple[tuple[str, tuple[Cell, ...]], ...]]:
    epochs = sorted({row.epoch for record in records for row in record.history})
    chosen = [epochs[i] for i in evenly(len(epochs), TABLE_EPOCHS)]
    word = percent if curve.share else significant
    rows = []
    for record in records:
        at = dict(zip((row.epoch for row in record.history), curve.values(record), strict=True))
        cells = (cell(word(at.get(e)), otherwise="no reading at this epoch") for e in chosen)
        rows.append((record.name, tuple(cells)))
    return tuple(f"epoch {epoch(e)}" for e in chosen), tuple(rows)


def _spectra(records: Sequence[RunRecord]) -> list[Figure]:
    final = Figure(
        id="spectra-final",
        title="Spectra at the end",
        how="Eigenvalues of the projection's covariance as shares of all variance, largest "
        "first. The longer a spectrum stays near the dashed line, where every direction counts the "
        "same, the more directions are in use; a collapsed one drops like a cliff. Shares below a "
        "millionth are drawn there.",
        spec=chart_spec(training.final_spectra(records, legend=False)),
    )
    over_time = [
        Figure(
            id=f"spectrum-{number}",
            title=record.name,
            how="",
            spec=chart_spec(training.spectrum_over_time(record)),
            canvas=True,
        )
        for number, record in enumerate(records)
    ]
    return [final, *over_time]


def _head(record: RunRecord, number: int) -> Head:
    matrices = record.head
    if record.description.head is None:
        return Head(name=record.name, sentence="This method has no head.")
    if matrices is None:
        return Head(name=record.name, sentence="This head is not a single matrix.")
    moments = (
        ("start", "At the start", matrices.start),
        ("peak", f"At its peak, epoch {epoch(matrices.peak_epoch)}", matrices.peak),
        ("end", f"At the end, epoch {epoch(matrices.end_epoch)}", matrices.end),
    )
    if not all(np.isfinite(matrix).all() for _, _, matrix in moments):
        return Head(name=record.name, sentence="The head's entries are not all finite numbers.")
    limit = training.matrix_scale([matrix for _, _, matrix in moments])
    if limit == 0 and all(np.array_equal(m, np.eye(len(m))) for _, _, m in moments):
        return Head(
            name=record.name, sentence="The head is exactly the identity, from start to end."
        )
    size = len(matrices.end)
    sentence = (
        f"{size} × {size} entries of E − I, one colour scale for the three, ending at the largest "
        f"off-diagonal entry, ±{significant(limit)}; a stronger diagonal takes the end colour."
    )
    if size > training.MATRIX_CELLS:
        block = -(-size // training.MATRIX_CELLS)
        sentence += f" Each cell is the strongest entry of a block of {block} × {block}."
    return Head(
        name=record.name,
        sentence=sentence,
        figures=tuple(
            Figure(
                id=f"head-{number}-{key}",
                title=title,
                how="",
                spec=chart_spec(
                    training.head_matrix(
                        matrix,
                        limit=limit or 1.0,
                        title=f"{record.name}: {title}",
                        height="container",
                    )
                ),
                canvas=True,
                square=True,
            )
            for key, title, matrix in moments
        ),
    )


def _section(section: Section, number: int) -> tuple[str, list[str], Figure | None]:
    figure = None
    if section.chart is not None:
        figure = Figure(
            id=f"extra-{number}", title=section.heading, how="", spec=chart_spec(section.chart)
        )
    paragraphs = [part.strip() for part in section.text.split("\n\n") if part.strip()]
    return section.heading, paragraphs, figure
