"""What a cause is, and what was found out about one in a run: plain values."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum

from offdiag.diagnostics.causes.evidence import Evidence
from offdiag.results.readings import NAN


class State(StrEnum):
    """What the marks of a run say of one cause."""

    RED = "red"
    NOT_MEASURED = "not measured"
    IN_ORDER = "in order"


class Strength(StrEnum):
    """How much a red mark proves, the strongest first.

    DIRECT: the fault itself was measured (a gradient that must be 0 is not). MEASURED: a number is
    outside the range of runs that learn. STATISTICAL: it fits what is seen, and other causes fit
    it too.
    """

    DIRECT = "direct"
    MEASURED = "measured"
    STATISTICAL = "statistical"


@dataclass(frozen=True, kw_only=True)
class Red:
    """A mark outside its bound: the number, the first step at which it was so, the part."""

    value: float
    step: int
    part: str | None = None
    words: Mapping[str, str] | None = None


Look = Callable[[Evidence], Red | bool | None]
"""Looks for a cause in a run's marks: Red where it is seen, True where what was measured is in
order, None where nothing that decides it was measured."""


@dataclass(frozen=True, kw_only=True)
class Cause:
    """One row of the catalogue.

    `mark` says what is measured, `bound` from where on it is red and `bound_source` where that
    bound comes from. `sentence` and each of `change` are templates that take {value}, {bound},
    {step} and {part}. `change` is keyed by the watched library; "torch" is for every loop.
    `harmless_alone`: a run may well learn with it, so that it is an alarm only with harm.
    """

    key: str
    title: str
    mark: str
    bound: float
    bound_source: str
    sentence: str
    change: Mapping[str, str]
    source: str
    look: Look
    strength: Strength = Strength.DIRECT
    harmless_alone: bool = False


@dataclass(frozen=True, kw_only=True)
class Finding:
    """What was found out about one cause in one run.

    `value` is the mark and `bound` where it turns red; nan where it was not measured. `since_step`
    is the first step at which it was red. `sentence` says what it is with its number, `change`
    the line to change in the words of the watched library. `note`: the mark is red, and the run
    learns nevertheless, so that it is no alarm.
    """

    cause: Cause
    state: State
    value: float = NAN
    bound: float = NAN
    since_step: int | None = None
    part: str | None = None
    sentence: str = ""
    change: str = ""
    note: bool = False

    @property
    def alarm(self) -> bool:
        """Red, and not just a note."""
        return self.state is State.RED and not self.note

    def to_dict(self) -> dict[str, object]:
        """Plain values for JSON."""
        return {
            "cause": self.cause.key,
            "title": self.cause.title,
            "state": self.state.value,
            "value": self.value,
            "bound": self.bound,
            "since_step": self.since_step,
            "part": self.part,
            "sentence": self.sentence,
            "change": self.change,
            "note": self.note,
            "source": self.cause.source,
        }
