"""The readings of a diagnosis as rows: value, references, place in the range of the catalogue.

For the page and the terminal alike; nothing here draws.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass

from offdiag.diagnostics.catalogue import READINGS, Reading
from offdiag.diagnostics.diagnosis import Diagnosis
from offdiag.report.numbers import Cell, cell, percent, significant
from offdiag.results.readings import Readings


@dataclass(frozen=True, kw_only=True)
class ReadingRow:
    """A reading as a row of a table; places are shares of its range, 0 at the collapsed end."""

    title: str
    how: str
    value: Cell
    noise: Cell
    start: Cell
    bounds: str
    place: float | None
    noise_place: float | None
    start_place: float | None
    neutral: bool


def reading_row(
    about: Reading, readings: Readings, noise: Readings | None, start: Readings | None
) -> ReadingRow:
    """The reading in words and by its place in the range, beside noise and the random start."""

    def told(of: Readings | None, otherwise: str) -> Cell:
        value = math.nan if of is None else getattr(of, about.name)
        if value == math.inf:
            return Cell(text="∞")
        return cell(significant(value), otherwise=otherwise)

    collapsed, spread = _ends(about, readings)
    ends = [significant(collapsed), significant(spread)]
    return ReadingRow(
        title=about.title,
        how=about.caption,
        value=told(readings, about.needs),
        noise=told(noise, "not known for noise"),
        start=told(start, "not known for the start"),
        bounds=" … ".join(_short(end or "") for end in ends),
        place=_place(about, readings, readings),
        noise_place=_place(about, noise, readings),
        start_place=_place(about, start, readings),
        neutral=about.neutral,
    )


def reading_rows(diagnosis: Diagnosis) -> dict[str, list[ReadingRow]]:
    """For each part its readings as rows; a reading that nobody has is left out."""
    tables = {}
    for part, readings in diagnosis.readings.items():
        noise, start = diagnosis.noise.get(part), diagnosis.start.get(part)
        tables[part] = [
            reading_row(about, readings, noise, start)
            for about in READINGS
            if not math.isnan(getattr(readings, about.name))
        ]
    return tables


def at_the_end(diagnosis: Diagnosis) -> list[str]:
    """How sure, where, since when, and what to keep: the sentences that a verdict allows."""
    verdict = diagnosis.verdict
    said = []
    if math.isfinite(verdict.score):
        said.append(f"Probability of collapse by these readings: {verdict.score:.2f}.")
    if diagnosis.collapsed and verdict.part is not None:
        said.append(f"Where: the {verdict.part}.")
    if verdict.since_step is not None:
        said.append(f"Since step {verdict.since_step:,}.")
    if verdict.best_step is not None:
        kept = verdict.best_checkpoint
        which = f", checkpoint {kept}" if kept is not None else ""
        said.append(f"Best by label-free readings: step {verdict.best_step:,}{which}.")
    return said


def neighbours(diagnosis: Diagnosis) -> list[str]:
    """The accuracy of nearest neighbours on each part, where labels were given."""
    labels = diagnosis.about.get("labels")
    largest = labels.get("largest class", math.nan) if isinstance(labels, Mapping) else math.nan
    chance = f" (always naming the largest class: {percent(largest)})" if largest > 0 else ""
    return [
        f"Nearest neighbours on the {part} name the right class for {percent(accuracy)}{chance}. "
        "The verdict does not use labels."
        for part, accuracy in diagnosis.knn.items()
    ]


def _ends(about: Reading, shape: Readings) -> tuple[float, float]:
    """The end of the range where collapse lies, and the other one."""
    assert about.collapsed is not None and about.spread is not None  # every part's reading has both
    return about.collapsed(shape), about.spread(shape)


def _place(about: Reading, of: Readings | None, shape: Readings) -> float | None:
    """Where a value lies between the ends, in [0, 1], with 0 at the collapsed end."""
    value = math.nan if of is None else getattr(of, about.name)
    if math.isnan(value):
        return None
    ends = _ends(about, shape)
    if about.log:
        value = math.log(max(value, 1e-300))
        ends = (math.log(max(ends[0], 1e-300)), math.log(max(ends[1], 1e-300)))
    if ends[0] == ends[1]:
        return None
    return min(max((value - ends[0]) / (ends[1] - ends[0]), 0.0), 1.0)


def _short(number: str) -> str:
    """Without the zeros that say nothing: 1.00 is 1."""
    if "e" in number:
        return f"{float(number):.0e}".replace("e+0", "e").replace("e+", "e")
    return number.rstrip("0").rstrip(".") if "." in number else number
