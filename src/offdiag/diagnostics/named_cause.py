"""A cause as a diagnosis names it: plain words and numbers."""

from dataclasses import dataclass

from offdiag.diagnostics.causes.find import find_causes
from offdiag.diagnostics.verdict import Kind, Verdict
from offdiag.results.observation import MonitorRecord
from offdiag.results.readings import NAN


@dataclass(frozen=True, kw_only=True)
class NamedCause:
    """What the marks of a run say of one cause.

    `state` is "red" (seen), "in order" (measured, and ruled out) or "not measured" (not ruled
    out). `sentence` says what was seen with its number, `change` the line to change, in the words
    of the watched library. `note`: seen in a run that is healthy all the same, so no alarm.
    """

    title: str
    state: str
    sentence: str = ""
    change: str = ""
    source: str = ""
    value: float = NAN
    bound: float = NAN
    since_step: int | None = None
    note: bool = False

    @property
    def alarm(self) -> bool:
        """Seen, in a run that it harms."""
        return self.state == "red" and not self.note


def named_causes(record: MonitorRecord, verdict: Verdict) -> tuple[NamedCause, ...]:
    """What the record's marks say of each cause, the strongest evidence first.

    A mark outside its bound is a note where the verdict is healthy. Empty where no marks were
    recorded, as in files of older versions.
    """
    if not record.checks and not any(row.marks for row in record.history):
        return ()
    harmed = None if verdict.status is Kind.UNKNOWN else verdict.kind is not Kind.HEALTHY
    return tuple(
        NamedCause(
            title=one.cause.title,
            state=one.state.value,
            sentence=one.sentence,
            change=one.change,
            source=one.cause.source,
            value=one.value,
            bound=one.bound,
            since_step=one.since_step,
            note=one.note,
        )
        for one in find_causes(record, harmed=harmed)
    )
