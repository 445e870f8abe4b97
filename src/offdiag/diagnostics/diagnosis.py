"""What was found out about a run or about embeddings: a verdict with everything it rests on."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from offdiag._files import finite
from offdiag.diagnostics.named_cause import NamedCause
from offdiag.diagnostics.verdict import Kind, Verdict
from offdiag.results.observation import Observation
from offdiag.results.readings import HeadReadings, Readings

FORMAT = 1


@dataclass(frozen=True, kw_only=True)
class Diagnosis:
    """A verdict, the readings of each part at the end, and what they are held against.

    `noise` has the readings of Gaussian noise of the same shape, `start` those of the network
    at its initialisation, each for the parts where it is known. `history` holds all
    observations of a run and is empty for embeddings. `knn` is the accuracy of nearest
    neighbours for each part, in [0, 1], where labels are known: it is shown beside and
    the verdict does not see it. `causes` are what the marks of a run say of each known cause, the
    strongest evidence first; empty where no marks were recorded. `notes` are sentences on how far
    the numbers carry.
    """

    name: str
    verdict: Verdict
    readings: Mapping[str, Readings]
    noise: Mapping[str, Readings] = field(default_factory=dict)
    start: Mapping[str, Readings] = field(default_factory=dict)
    head: HeadReadings | None = None
    history: tuple[Observation, ...] = ()
    knn: Mapping[str, float] = field(default_factory=dict)
    causes: tuple[NamedCause, ...] = ()
    notes: tuple[str, ...] = ()
    about: Mapping[str, Any] = field(default_factory=dict)

    @property
    def healthy(self) -> bool:
        """By the features where they were read: a projection alone may collapse."""
        return self.verdict.status in (Kind.HEALTHY, Kind.PROJECTION)

    @property
    def collapsed(self) -> bool:
        """Completely, in dimensions, setting in, diverged, or nothing learned."""
        return not self.healthy and self.verdict.status is not Kind.UNKNOWN

    def to_dict(self) -> dict[str, Any]:
        """Everything but the history as plain values that JSON can hold, nan as None."""
        plain: dict[str, Any] = finite(
            {
                "offdiag_diagnosis": FORMAT,
                "name": self.name,
                "verdict": asdict(self.verdict),
                "causes": [asdict(one) for one in self.causes],
                "notes": self.notes,
                "readings": _plain(self.readings),
                "noise": _plain(self.noise),
                "start": _plain(self.start),
                "head": None if self.head is None else asdict(self.head),
                "knn": dict(self.knn),
                "observations": len(self.history),
                "about": dict(self.about),
            }
        )
        plain["verdict"]["kind"] = self.verdict.kind.value
        return plain


def _plain(parts: Mapping[str, Readings]) -> dict[str, Any]:
    return {name: asdict(part) for name, part in parts.items()}
