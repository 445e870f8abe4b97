"""A grid of runs side by side: how each ended, means over seeds, and paired differences."""

import math
import statistics
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from enum import StrEnum
from typing import Any

from scipy.stats import t as student

from offdiag.results.history import Row, RunRecord

CONFIDENCE = 0.95


class Status(StrEnum):
    """Where a run of the grid stands."""

    FINISHED = "finished"
    FAILED = "failed"
    UNFINISHED = "unfinished"


class Combination(Mapping[str, Any]):
    """What the runs of one combination share, whatever their seed: settings by their names.

    A value is None where the run has no such setting. Two are equal if all values are.
    """

    def __init__(self, **values: Any) -> None:
        self._values = values

    def __getitem__(self, axis: str) -> Any:
        return self._values[axis]

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def __getattr__(self, axis: str) -> Any:
        values = self.__dict__.get("_values", {})
        if axis in values:
            return values[axis]
        raise AttributeError(axis)

    def __hash__(self) -> int:
        return hash(frozenset(self._values.items()))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Combination) and self._values == other._values

    def __repr__(self) -> str:
        return f"Combination({self._values!r})"


@dataclass(frozen=True, kw_only=True)
class Ending:
    """The numbers of one run at its last reading; None for what it does not have.

    `loss` is the mean over the steps since the reading before; ranks lie in [1, width] and
    accuracies in [0, 1], on held-out images. The head's norms are Frobenius norms of its
    off-diagonal part, None for a head that is not one matrix. `images_per_second` is the
    median over the readings, of training alone.
    """

    epoch: float
    loss: float | None
    effective_rank_features: float | None
    effective_rank_projection: float | None
    knn_features: float | None
    knn_projection: float | None
    linear_features: float | None
    linear_projection: float | None
    head_norm_peak: float | None
    head_norm_peak_epoch: float | None
    head_norm_final: float | None
    seconds: float
    images_per_second: float

    @classmethod
    def of(cls, record: RunRecord) -> "Ending":
        """How the run stood at its last reading, with its evaluation if it has one."""
        last = record.history[-1]
        evaluation: Mapping[str, Any] = record.evaluation or {"knn": {}, "linear": {}}
        norms = [(row.head.off_diagonal_norm, row.epoch) for row in record.history if row.head]
        # max takes the first of equals: a head that never moves has its peak at the start.
        peak, peak_epoch = max(norms, key=lambda pair: pair[0], default=(None, None))
        return cls(
            epoch=last.epoch,
            loss=_finite(last.loss),
            effective_rank_features=_finite(last.features.effective_rank),
            effective_rank_projection=_finite(last.projection.effective_rank),
            knn_features=evaluation["knn"].get("features"),
            knn_projection=evaluation["knn"].get("projection"),
            linear_features=evaluation["linear"].get("features"),
            linear_projection=evaluation["linear"].get("projection"),
            head_norm_peak=_finite(peak),
            head_norm_peak_epoch=peak_epoch,
            head_norm_final=_finite(norms[-1][0]) if norms else None,
            seconds=last.seconds,
            images_per_second=statistics.median(row.images_per_second for row in record.history),
        )


READINGS = tuple(field.name for field in fields(Ending))


@dataclass(frozen=True, kw_only=True)
class Cell:
    """One run of the grid. `error` is the sentence it failed with; `ending` and `history` are
    empty before its first reading. The spectra of `history` are left out: a grid has many."""

    name: str
    combination: Combination
    seed: int
    status: Status
    error: str | None = None
    ending: Ending | None = None
    history: tuple[Row, ...] = ()
    settings: Mapping[str, Any]
    circumstances: Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class Spread:
    """Mean and standard deviation (with n - 1) of `n` values; the deviation of one is nan."""

    mean: float
    std: float
    n: int

    @classmethod
    def of(cls, values: Iterable[float]) -> "Spread | None":
        """None without values."""
        values = list(values)
        if not values:
            return None
        std = statistics.stdev(values) if len(values) > 1 else math.nan
        return cls(mean=statistics.mean(values), std=std, n=len(values))


@dataclass(frozen=True, kw_only=True)
class Difference:
    """First minus second, seed by seed.

    `low` and `high` bound the mean difference by Student's t at 95 %: the values for which a
    two-sided paired t-test would not reject at 5 %. It takes the differences for normal and
    seeds for independent, and is not corrected for the number of comparisons. nan for a single
    pair, and where all differences are the same. `above` counts the seeds
    at which the first is larger.
    """

    spread: Spread
    low: float
    high: float
    above: int

    @classmethod
    def of(cls, first: Mapping[int, float], second: Mapping[int, float]) -> "Difference | None":
        """From readings by seed; None if no seed has both."""
        differences = [first[seed] - second[seed] for seed in first if seed in second]
        spread = Spread.of(differences)
        if spread is None:
            return None
        half = math.nan
        # Rounding aside: accuracies on few images tie, and a spread of 0 is not certainty.
        if spread.n > 1 and spread.std > 1e-12 * abs(spread.mean):
            quantile = float(student.ppf((1 + CONFIDENCE) / 2, spread.n - 1))
            half = quantile * spread.std / math.sqrt(spread.n)
        return cls(
            spread=spread,
            low=spread.mean - half,
            high=spread.mean + half,
            above=sum(one > 0 for one in differences),
        )


@dataclass(frozen=True, kw_only=True)
class Pair:
    """Two combinations that differ in one axis only."""

    axis: str
    first: Combination
    second: Combination


@dataclass(frozen=True, kw_only=True)
class MeanCurve:
    """A reading over the epochs: mean over the runs that have it there, deviation, their number.

    The deviation is with n - 1, and nan where one run has the reading.
    """

    epoch: tuple[float, ...]
    at: tuple[Spread, ...]


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """All runs of a grid directory, finished or not; statistics are over the finished ones."""

    name: str
    cells: tuple[Cell, ...]

    @property
    def combinations(self) -> tuple[Combination, ...]:
        """Every combination that has a run, in the order of the grid."""
        return tuple(dict.fromkeys(cell.combination for cell in self.cells))

    @property
    def seeds(self) -> tuple[int, ...]:
        return tuple(sorted({cell.seed for cell in self.cells}))

    @property
    def axes(self) -> tuple[str, ...]:
        """The names of all settings by which the grid was made, the seed aside."""
        return tuple(dict.fromkeys(axis for one in self.combinations for axis in one))

    def values(self, axis: str) -> tuple[Any, ...]:
        """The values of one axis, in the order of the grid; without the runs that lack it."""
        found = dict.fromkeys(one.get(axis) for one in self.combinations)
        return tuple(value for value in found if value is not None)

    @property
    def varied(self) -> tuple[str, ...]:
        """The axes with more than one value."""
        many = [axis for axis in self.axes if len(self.values(axis)) > 1]
        first = [axis for axis in FIRST if axis in many]
        return tuple(dict.fromkeys((*first, *many)))

    def label(self, combination: Combination) -> str:
        """The combination by what the grid varies, or by all of it where nothing varies."""
        axes = self.varied or self.axes
        words = [value_text(axis, combination.get(axis)) for axis in axes]
        return ", ".join(word for word in words if word)

    def with_status(self, status: Status) -> tuple[Cell, ...]:
        return tuple(cell for cell in self.cells if cell.status is status)

    def finished(self, combination: Combination) -> tuple[Cell, ...]:
        """The finished runs of one combination."""
        done = self.with_status(Status.FINISHED)
        return tuple(cell for cell in done if cell.combination == combination)

    def by_seed(self, combination: Combination, reading: str) -> dict[int, float]:
        """One of `READINGS` of the finished runs, by seed; runs that lack it are left out."""
        found = {cell.seed: getattr(cell.ending, reading) for cell in self.finished(combination)}
        return {seed: value for seed, value in sorted(found.items()) if value is not None}

    def spread(self, combination: Combination, reading: str) -> Spread | None:
        """Mean and deviation of a reading over the finished seeds."""
        return Spread.of(self.by_seed(combination, reading).values())

    def difference(self, pair: Pair, reading: str) -> Difference | None:
        """First less second of a pair, over the seeds that both have finished."""
        return Difference.of(self.by_seed(pair.first, reading), self.by_seed(pair.second, reading))

    def gap(self, first: Combination, second: Combination, reading: str) -> Difference | None:
        """First less second, over the seeds that both have finished, whatever they differ in."""
        return Difference.of(self.by_seed(first, reading), self.by_seed(second, reading))

    def pairs(self, axis: str) -> list[Pair]:
        """Every two combinations that differ in `axis` alone, each pair once."""
        every = [one for one in self.combinations if one.get(axis) is not None]
        return [
            Pair(axis=axis, first=a, second=b)
            for i, a in enumerate(every)
            for b in every[i + 1 :]
            if [one for one in self.axes if a.get(one) != b.get(one)] == [axis]
        ]


FIRST = ("head", "method", "normaliser")
"""Axes that come first in labels and headings, where they vary."""
NAMED = ("method", "head", "normaliser", "transform", "regulariser", "encoder", "data")
"""Axes whose values say by themselves what they are."""


def value_text(axis: str, value: Any) -> str:
    """A value in a label: mlp, lr 0.003; empty where the run has no such setting."""
    if value is None:
        return ""
    if isinstance(value, tuple | list):
        word = " ".join(str(item) for item in value)
    else:
        word = f"{value:g}" if isinstance(value, float) else str(value)
    return word if axis in NAMED else f"{axis} {word}"


def mean_curve(histories: Sequence[Sequence[Row]], of: Callable[[Row], float | None]) -> MeanCurve:
    """The mean of a reading over several runs, at each epoch that at least one of them read."""
    at: dict[float, list[float]] = {}
    for history in histories:
        for row in history:
            value = _finite(of(row))
            if value is not None:
                at.setdefault(row.epoch, []).append(value)
    spreads = {epoch: Spread.of(values) for epoch, values in sorted(at.items())}
    return MeanCurve(
        epoch=tuple(spreads), at=tuple(one for one in spreads.values() if one is not None)
    )


def _finite(value: float | None) -> float | None:
    return None if value is None or not math.isfinite(value) else float(value)
