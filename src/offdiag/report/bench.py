"""The map: all mechanisms of a bench as one self-contained page, and as one table."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import altair as alt
import pyarrow as pa

from offdiag import _tables
from offdiag._checks import ConfigError
from offdiag.plots import theme
from offdiag.registry import settings_of
from offdiag.report.document import chart_spec, render, write_page
from offdiag.report.numbers import Cell, cell, significant
from offdiag.report.page import Figure
from offdiag.report.settings import settings
from offdiag.results.comparison import Spread
from offdiag.runs.bench import READINGS, BenchRow

COLUMNS = (
    "Mechanism",
    "Kind",
    "Rank, features",
    "Rank, projection",
    "kNN, features",
    "kNN, projection",
    "Probe, features",
    "Probe, projection",
    "Verdict",
    "ms a step",
    "Peak GiB",
    "Seeds",
)


@dataclass(frozen=True, kw_only=True)
class Row:
    """One mechanism as the template wants it; `cells` are (value to sort by, what is shown)."""

    number: int
    name: str
    title: str
    kind: str
    tags: str
    summary: str
    paper: str
    settings: str
    sentences: list[str]
    command: str
    cells: list[tuple[float | str | None, Cell]]


def write_bench(rows: Sequence[BenchRow], out: Path, *, title: str = "The map") -> None:
    """Write the page of a bench to the file `out`, whole or not at all."""
    write_page(render_bench(rows, title=title), out)


def render_bench(rows: Sequence[BenchRow], *, title: str = "The map") -> str:
    """The page as HTML; ConfigError without a row."""
    if not rows:
        raise ConfigError("a map needs at least one mechanism; got none.")
    shown = [_row(number, row) for number, row in enumerate(rows)]
    record = next((row.record for row in rows if row.record is not None), None)
    described: list[dict[str, Any]] = []
    if record is not None:
        shared = {k: v for k, v in record.config.items() if k not in OF_THE_MECHANISM}
        described = [{**shared, "environment": dict(record.circumstances)}]
    return render(
        "bench.html.j2",
        title=title,
        lede=_lede(rows),
        columns=COLUMNS,
        rows=shown,
        kinds=list(dict.fromkeys(row.kind for row in shown)),
        tags=sorted({tag for row in rows for tag in row.mechanism.entry.tags}),
        chart=_chart(rows),
        settings=[(one.path, one.values[0]) for one in settings(described)],
    )


OF_THE_MECHANISM = (
    "method",
    "head",
    "normaliser",
    "transform",
    "regulariser",
    "projector_kind",
    "settings",
    "seed",
)


def write_table(rows: Sequence[BenchRow], out: Path) -> None:
    """One row a mechanism, as Parquet: mean, deviation and number of every reading, and cost."""
    _tables.write_table(pa.Table.from_pylist([_flat(row) for row in rows]), out)


def _flat(row: BenchRow) -> dict[str, Any]:
    entry = row.mechanism.entry
    flat: dict[str, Any] = {
        "mechanism": row.mechanism.key,
        "kind": row.mechanism.kind,
        "name": row.mechanism.name,
        "paper": entry.paper,
        "tags": sorted(entry.tags),
        "finished": row.finished,
        "planned": row.planned,
        "error": row.error or "",
        "verdict": str(row.verdicts[0].kind) if row.verdicts else "",
        "seconds_per_step": row.seconds_per_step,
        "peak_memory_gib": row.peak_memory_gib,
    }
    for name in READINGS:
        spread = row.readings[name]
        numbers = {"mean": None, "std": None, "n": 0} if spread is None else asdict(spread)
        flat |= {f"{name}_{key}": value for key, value in numbers.items()}
    return flat


def _lede(rows: Sequence[BenchRow]) -> list[str]:
    done = sum(row.finished > 0 for row in rows)
    collapsed = [
        row.mechanism.key
        for row in rows
        if row.verdicts and "collapse" in str(row.verdicts[0].kind)
    ]
    sentences = [
        f"{done} of {len(rows)} mechanisms have at least one finished run. Data, encoder, "
        "optimiser and budget are the same for all; only the mechanism differs."
    ]
    if collapsed:
        sentences.append(f"The verdict calls a collapse for {', '.join(collapsed)}.")
    if failed := [row for row in rows if row.error]:
        names = ", ".join(row.mechanism.key for row in failed)
        sentences.append(f"Runs of {names} failed: {failed[0].error}")
    return sentences


def _row(number: int, row: BenchRow) -> Row:
    mechanism, entry = row.mechanism, row.mechanism.entry
    verdict = row.verdicts[0] if row.verdicts else None
    own = settings_of(mechanism.kind, mechanism.name)
    step = None if row.seconds_per_step is None else 1000 * row.seconds_per_step
    waiting = row.error or "no run has finished"
    cells: list[tuple[float | str | None, Cell]] = [(mechanism.kind, Cell(text=mechanism.kind))]
    cells += [_reading(row.readings[name], name, waiting) for name in READINGS]
    cells += [
        (
            str(verdict.kind) if verdict else None,
            cell(str(verdict.kind) if verdict else None, otherwise=waiting),
        ),
        (step, cell(significant(step), otherwise=waiting)),
        (row.peak_memory_gib, cell(significant(row.peak_memory_gib), otherwise=waiting)),
        (row.finished, Cell(text=f"{row.finished} of {row.planned}")),
    ]
    words = " ".join(
        f"--{key.replace('_', '-')} {value}" for key, value in mechanism.values.items()
    )
    return Row(
        number=number,
        name=mechanism.name,
        title=entry.title or mechanism.name,
        kind=mechanism.kind,
        tags=" ".join(sorted(entry.tags)),
        summary=f"{entry.summary[:1].upper()}{entry.summary[1:]}.",
        paper=entry.paper,
        settings=", ".join(f"{one.name} {_short(one.default)}" for one in own),
        sentences=[verdict.sentence] if verdict else [f"Failed: {row.error}"] if row.error else [],
        command=f"offdiag train {words} --out runs/{mechanism.name}",
        cells=cells,
    )


def _short(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def _reading(spread: Spread | None, name: str, why: str) -> tuple[float | None, Cell]:
    if spread is None:
        return None, cell(None, otherwise=why)
    share = not name.startswith("effective_rank")
    scale, decimals = (100, 1) if share else (1, 1)
    text = f"{scale * spread.mean:.{decimals}f}"
    if spread.n > 1:
        text += f" ± {scale * spread.std:.{decimals}f}"
    return spread.mean, Cell(text=f"{text}\u00a0%" if share else text)


def _chart(rows: Sequence[BenchRow]) -> Figure | None:
    points = []
    for row in rows:
        rank, knn = row.readings["effective_rank_projection"], row.readings["knn_features"]
        if rank is not None and knn is not None:
            points.append(
                {
                    "mechanism": row.mechanism.key,
                    "kind": row.mechanism.kind,
                    "rank": round(rank.mean, 3),
                    "knn": round(knn.mean, 4),
                }
            )
    if not points:
        return None
    kinds = list(dict.fromkeys(str(point["kind"]) for point in points))
    chart = (
        alt.Chart(alt.InlineData(values=points))
        .mark_point(filled=True, size=80, opacity=0.85)
        .encode(
            x=alt.X(
                "rank:Q", title="effective rank of the projection", scale=alt.Scale(zero=False)
            ),
            y=alt.Y(
                "knn:Q",
                title="kNN accuracy of the features",
                scale=alt.Scale(zero=False),
                axis=alt.Axis(format=".3~p"),
            ),
            color=alt.Color(
                "kind:N", scale=alt.Scale(domain=kinds, range=theme.PALETTE[: len(kinds)])
            ),
            shape=alt.Shape("kind:N", scale=alt.Scale(domain=kinds)),
            tooltip=[
                "mechanism:N",
                alt.Tooltip("rank:Q", format=".1f"),
                alt.Tooltip("knn:Q", format=".1%"),
            ],
        )
        .properties(width="container", height=360)
    )
    return Figure(
        id="map-chart", title="", how="Hover over a point for its name.", spec=chart_spec(chart)
    )
