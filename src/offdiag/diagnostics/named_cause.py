"""A cause as a diagnosis names it: plain words and numbers."""

from dataclasses import dataclass

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
