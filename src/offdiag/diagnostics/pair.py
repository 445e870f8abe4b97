"""Two diagnoses side by side: what the first has and the second lacks, and the other way round."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from statistics import median
from typing import Any

from offdiag._files import finite
from offdiag.diagnostics.diagnosis import Diagnosis
from offdiag.diagnostics.similarity import Similarity

FORMAT = 1
NAMED = 8


@dataclass(frozen=True, kw_only=True)
class Pair:
    """Two runs or embeddings compared.

    `similarity` is keyed by the parts that both have and whose outputs for the same images were at
    hand; empty for a monitor's file, which has readings only. `notes` say why.
    """

    first: Diagnosis
    second: Diagnosis
    similarity: Mapping[str, Similarity] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Everything as plain values that JSON can hold, nan as None."""
        plain: dict[str, Any] = finite(
            {
                "offdiag_pair": FORMAT,
                "similarity": {part: asdict(one) for part, one in self.similarity.items()},
                "notes": self.notes,
            }
        )
        return plain | {"first": self.first.to_dict(), "second": self.second.to_dict()}

    def sentences(self) -> tuple[str, ...]:
        """What the comparison shows, a sentence on each part."""
        return tuple(
            f"{part[:1].upper()}{part[1:]}: {sentence}"
            for part, one in self.similarity.items()
            for sentence in _sentences(one)
        )


def _sentences(one: Similarity) -> tuple[str, ...]:
    a, b = one.compared
    middle = f", median {median(one.angles):.0f}" if one.angles else ""
    return (
        f"CKA {one.cka:.3f} (1: the same up to rotation and scale); the nearest neighbours are "
        f"the same for {100 * one.neighbours:.0f}\u00a0% (by chance: "
        f"{100 * one.neighbours_by_chance:.1f}\u00a0%), over {one.rows:,} images.",
        f"{_counted(len(one.lost), 'direction')} of the first's {a} lost{_listed(one.lost)}, "
        f"{_counted(len(one.gained), 'direction')} of the second's {b} gained"
        f"{_listed(one.gained)}; angles between the two subspaces in degrees: "
        f"{_ends(one.angles)}{middle}.",
    )


def _ends(angles: tuple[float, ...]) -> str:
    return f"{angles[0]:.0f} to {angles[-1]:.0f}" if angles else "none"


def _listed(numbers: tuple[int, ...]) -> str:
    if not numbers:
        return ""
    more = ", ..." if len(numbers) > NAMED else ""
    return f" (number {', '.join(map(str, numbers[:NAMED]))}{more} by variance)"


def _counted(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"
