"""Each reading with the range it lies in, which end of it is collapse, and how to read it.

For the page and the terminal alike; nothing here draws.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from offdiag.diagnostics.diagnosis import Diagnosis
from offdiag.report.numbers import Cell, cell, percent, significant
from offdiag.results.readings import Readings

Bound = Callable[[Readings], float]


@dataclass(frozen=True, kw_only=True)
class Range:
    """A reading's range, from the end where collapse lies to the other one.

    `collapsed` and `spread` are the ends for readings of a given width and number of rows. Where
    neither end alone means collapse (`neutral`), they are just the ends.
    """

    name: str
    title: str
    collapsed: Bound
    spread: Bound
    how: str
    log: bool = False
    neutral: bool = False
    needs: str = "not measured, or without meaning here"


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


def _most_directions(readings: Readings) -> float:
    """Rows span no more directions than there are rows, less one for the mean."""
    return min(readings.dim, readings.rows - 1) if readings.rows > 2 else readings.dim


def _one(readings: Readings) -> float:
    return 1.0


def _zero(readings: Readings) -> float:
    return 0.0


def _dim(readings: Readings) -> float:
    return readings.dim


TWO_VIEWS = "needs two views of the same images"
RANGES = (
    Range(
        name="effective_rank",
        title="effective rank",
        collapsed=_one,
        spread=_most_directions,
        log=True,
        how="How many directions are in use, by the entropy of the singular values about the mean.",
    ),
    Range(
        name="rankme",
        title="RankMe",
        collapsed=_one,
        spread=lambda r: min(r.dim, r.rows) if r.rows > 1 else r.dim,
        log=True,
        how="The same without centring, so that a mean far from 0 counts as one direction.",
    ),
    Range(
        name="participation_ratio",
        title="participation ratio",
        collapsed=_one,
        spread=_most_directions,
        log=True,
        how="Directions again, harder on a long tail.",
    ),
    Range(
        name="nesum",
        title="NESum",
        collapsed=_one,
        spread=_most_directions,
        log=True,
        how="All variance in units of the strongest direction's.",
    ),
    Range(
        name="stable_rank",
        title="stable rank",
        collapsed=_one,
        spread=_dim,
        log=True,
        how="NESum without centring: 1 also when the mean drowns the spread.",
    ),
    Range(
        name="numerical_rank",
        title="numerical rank",
        collapsed=_one,
        spread=_most_directions,
        log=True,
        how="Directions with a standard deviation above a hundredth of the strongest.",
    ),
    Range(
        name="lidar",
        title="LiDAR",
        collapsed=_one,
        spread=_dim,
        log=True,
        how="Directions in which images differ by more than two views of one image do.",
        needs=TWO_VIEWS,
    ),
    Range(
        name="condition_number",
        title="condition number",
        collapsed=lambda r: 1e8,
        spread=_one,
        log=True,
        how="Strongest over weakest direction; infinite if some direction holds nothing.",
    ),
    Range(
        name="alpha_req",
        title="alpha-ReQ",
        collapsed=lambda r: 4.0,
        spread=_zero,
        how="How steeply the spectrum falls; near 1 in good features of natural images, and above "
        "it in few directions. The bar ends at 4.",
    ),
    Range(
        name="matrix_entropy",
        title="matrix entropy",
        collapsed=_zero,
        spread=lambda r: math.log(r.dim),
        how="Entropy of the eigenvalues, in nats.",
    ),
    Range(
        name="singular_value_auc",
        title="singular-value AUC",
        collapsed=_one,
        spread=lambda r: (r.dim + 1) / (2 * r.dim),
        how="Area under the cumulative singular values: half if all are equal.",
    ),
    Range(
        name="top_share",
        title="largest eigenvalue",
        collapsed=_one,
        spread=lambda r: 1 / r.dim,
        log=True,
        how="Share of all variance along the strongest direction.",
    ),
    Range(
        name="std",
        title="std, l2-normalised",
        collapsed=_zero,
        spread=lambda r: r.dim**-0.5,
        how="0 if all outputs point the same way. Blind to a spectrum with few directions.",
    ),
    Range(
        name="mean_share",
        title="energy of the mean",
        collapsed=_one,
        spread=_zero,
        how="Share of the mean square that all outputs have in common.",
    ),
    Range(
        name="mean_cosine",
        title="mean cosine",
        collapsed=_one,
        spread=_zero,
        how="Cosine of two images, on average. Near 1 they share one direction: subtract the mean, "
        "or look for complete collapse.",
    ),
    Range(
        name="uniformity",
        title="uniformity",
        collapsed=_zero,
        spread=lambda r: -4.0,
        how="Log of how close two images lie on the sphere, on average; 0 if all are one point. "
        "The bar ends at −4, where noise of many dimensions lies.",
    ),
    Range(
        name="alignment",
        title="alignment",
        collapsed=_zero,
        spread=lambda r: 4.0,
        neutral=True,
        how="Mean squared distance of two views on the sphere; 2 if they have nothing in common. 0 "
        "is perfect for spread-out outputs, and also what collapse gives.",
        needs=TWO_VIEWS,
    ),
)


def reading_row(
    about: Range, readings: Readings, noise: Readings | None, start: Readings | None
) -> ReadingRow:
    """The reading in words and by its place in the range, beside noise and the random start."""

    def told(of: Readings | None, otherwise: str) -> Cell:
        value = math.nan if of is None else getattr(of, about.name)
        if value == math.inf:
            return Cell(text="∞")
        return cell(significant(value), otherwise=otherwise)

    low, high = sorted((about.collapsed(readings), about.spread(readings)))
    ends = [significant(low), significant(high)]
    if about.collapsed(readings) > about.spread(readings):
        ends.reverse()
    return ReadingRow(
        title=about.title,
        how=about.how,
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
            for about in RANGES
            if not math.isnan(getattr(readings, about.name))
        ]
    return tables


def at_the_end(diagnosis: Diagnosis) -> list[str]:
    """How sure, where, since when, and what to keep: the sentences that a verdict allows."""
    verdict = diagnosis.verdict
    said = []
    if math.isfinite(verdict.score):
        said.append(f"Score {verdict.score:.2f}: 0 if nothing speaks for collapse, 1 if all does.")
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


def _place(about: Range, of: Readings | None, shape: Readings) -> float | None:
    """Where a value lies between the ends, in [0, 1], with 0 at the collapsed end."""
    value = math.nan if of is None else getattr(of, about.name)
    if math.isnan(value):
        return None
    ends = (about.collapsed(shape), about.spread(shape))
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
