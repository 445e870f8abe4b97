"""Two diagnoses side by side as one self-contained page."""

import math
from pathlib import Path

from offdiag.diagnostics.catalogue import READINGS
from offdiag.diagnostics.pair import Pair
from offdiag.plots import diagnosis as plots
from offdiag.plots.theme import PALETTE
from offdiag.report.document import chart_spec, render, writable, write_page
from offdiag.report.numbers import Cell, cell, percent, significant
from offdiag.report.page import Figure
from offdiag.results.readings import Readings

TABLE_EIGENVALUES = (1, 2, 4, 8, 16, 32, 64, 128, 256)


def write_pair(pair: Pair, out: Path) -> None:
    """Write the page to the file `out`, whole or not at all; its folder is made if missing."""
    write_page(render_pair(pair), out)


def render_pair(pair: Pair) -> str:
    """The page as HTML, a function of the two diagnoses and their comparison."""
    both = (pair.first, pair.second)
    names = [" ".join(writable(one.name).split()) or f"number {i}" for i, one in enumerate(both, 1)]
    parts = shared_parts(pair)
    return render(
        "pair.html.j2",
        title=f"{names[0]} and {names[1]}",
        verdicts=[(name, one.verdict) for name, one in zip(names, both, strict=True)],
        names=names,
        sentences=pair.sentences(),
        notes=pair.notes,
        colours=PALETTE,
        spectra=[
            _spectra(part, *readings, names=names, number=number)
            for number, (part, readings) in enumerate(parts.items())
        ],
        tables=[(part, _rows(*readings)) for part, readings in parts.items()],
    )


def shared_parts(pair: Pair) -> dict[str, tuple[Readings, Readings]]:
    """The readings of the parts that both have; of a single part each, whatever its name."""
    first, second = pair.first.readings, pair.second.readings
    if len(first) == len(second) == 1:
        part = next(iter(first))
        return {part: (first[part], next(iter(second.values())))}
    return {part: (first[part], second[part]) for part in first if part in second}


def _spectra(
    part: str, first: Readings, second: Readings, *, names: list[str], number: int
) -> Figure:
    shares = {
        name: [share if math.isfinite(share) else None for share in readings.spectrum]
        for name, readings in zip(names, (first, second), strict=True)
    }
    longest = max(map(len, shares.values()))
    chosen = [k for k in TABLE_EIGENVALUES if k <= longest]
    return Figure(
        id=f"spectra-{number}",
        title=part,
        how="",
        spec=chart_spec(plots.two_spectra(shares, dims=(first.dim, second.dim), part=part)),
        table=(
            tuple(f"eigenvalue {k}" for k in chosen),
            tuple(
                (
                    name,
                    tuple(
                        cell(
                            percent(values[k - 1] if k <= len(values) else None),
                            otherwise="no such eigenvalue",
                        )
                        for k in chosen
                    ),
                )
                for name, values in shares.items()
            ),
        ),
    )


def _rows(first: Readings, second: Readings) -> list[tuple[str, Cell, Cell]]:
    """Each reading that one of the two has, by its title."""
    rows = []
    for one in READINGS:
        values = [getattr(readings, one.name) for readings in (first, second)]
        if not all(map(math.isnan, values)):
            a, b = (cell(significant(value), otherwise=one.needs) for value in values)
            rows.append((one.title, a, b))
    return rows
