"""The marks of a run in the order of their steps, as the causes look at them."""

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from statistics import median
from typing import Any

from offdiag.results.observation import MonitorRecord, Observation
from offdiag.results.readings import NAN


@dataclass(frozen=True, kw_only=True)
class Evidence:
    """Marks by step, from the first steps' check and from all observations, and the readings."""

    marks: tuple[tuple[int, Mapping[str, float]], ...]
    history: tuple[Observation, ...] = ()
    about: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def of(cls, record: MonitorRecord) -> "Evidence":
        """Checks and observations of one record; an observation's marks win at the same step."""
        by_step: dict[int, dict[str, float]] = {}
        for check in record.checks:
            by_step.setdefault(check.step, {}).update(check.marks)
        for row in record.history:
            if row.marks:
                by_step.setdefault(row.step, {}).update(row.marks)
        return cls(marks=tuple(sorted(by_step.items())), history=record.history, about=record.about)

    def series(self, name: str) -> list[tuple[int, float]]:
        """The steps at which a mark was measured, and its finite values."""
        found = ((step, marks[name]) for step, marks in self.marks if name in marks)
        return [(step, value) for step, value in found if math.isfinite(value)]

    def last(self, name: str) -> float:
        """The latest value of a mark; nan if it was never measured."""
        values = self.series(name)
        return values[-1][1] if values else NAN

    def first(self, name: str) -> float:
        values = self.series(name)
        return values[0][1] if values else NAN

    def typical(self, name: str) -> float:
        """The median over all steps; nan if it was never measured."""
        values = [value for _, value in self.series(name)]
        return median(values) if values else NAN

    def paired(self, *names: str) -> Iterator[tuple[int, tuple[float, ...]]]:
        """The steps at which all of these were measured."""
        for step, marks in self.marks:
            values = tuple(marks.get(name, NAN) for name in names)
            if all(math.isfinite(value) for value in values):
                yield step, values

    def since(self, name: str, red: Callable[[float], bool]) -> int | None:
        """The first step from which on the mark is red at every reading to the end."""
        return unbroken(self.series(name), red)


def unbroken(series: list[tuple[int, float]], red: Callable[[float], bool]) -> int | None:
    """The first step of the red readings that reach the end; None if the last one is not red."""
    since = None
    for step, value in series:
        since = (step if since is None else since) if red(value) else None
    return since
