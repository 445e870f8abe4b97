"""Readings of a run to a verdict: does the representation collapse, and what says so.

A simple rule on the last reading of the projection, with its evidence.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from offdiag.results.history import Row
from offdiag.results.observation import Observation
from offdiag.results.readings import NAN, Readings

STD_FRACTION = 0.1
"""Complete collapse: std of the normalised outputs below this share of 1/sqrt(width)."""
RANK_FRACTION, RANK_WIDTH = 0.1, 100
"""Dimensional collapse: effective rank below a tenth of the width, or of 100 if it is wider:
a wide projection of natural images never fills its width."""
LEAST_WIDTH = 20
"""Below this width a tenth of it is no more than two directions: the rank rule is silent."""


class Kind(StrEnum):
    """What can be said of a representation."""

    HEALTHY = "healthy"
    DIMENSIONAL = "dimensional collapse"
    COMPLETE = "complete collapse"
    PARTIAL = "partial collapse setting in"
    UNKNOWN = "cannot tell"


@dataclass(frozen=True, kw_only=True)
class Advice:
    """A known cause, what to try against it, and who found it."""

    cause: str
    remedy: str
    source: str


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """A verdict, the sentence that says it, and the readings it rests on, one phrase each."""

    kind: Kind
    sentence: str
    evidence: tuple[str, ...]
    score: float = NAN
    since_step: int | None = None
    part: str | None = None
    best_step: int | None = None
    best_checkpoint: str | None = None
    advice: tuple[Advice, ...] = ()


def rank_floor(width: int) -> float:
    """The effective rank below which a projection of this width counts as collapsed."""
    return RANK_FRACTION * min(width, RANK_WIDTH)


def judge(
    history: Sequence[Row | Observation], *, noise: Mapping[str, Readings] | None = None
) -> Verdict:
    """The verdict on a run's projection at its last reading.

    complete collapse: all outputs point the same way, std below 0.1/sqrt(width);
    dimensional collapse: effective rank below a tenth of the width (of 100 if wider);
    cannot tell: a single reading, a width below 20, or readings that are not
    finite; healthy: otherwise. The loss has no say: it cannot see collapse.
    """
    last = history[-1]
    readings = (
        last.projection
        if isinstance(last, Row)
        else last.parts.get("projector") or last.parts["encoder"]
    )
    width = readings.dim
    rank, std = readings.effective_rank, readings.std
    if math.isfinite(std) and std * width**0.5 < STD_FRACTION:
        return Verdict(
            kind=Kind.COMPLETE,
            sentence="All projections point nearly the same way, whatever the image.",
            evidence=_evidence(readings, width),
        )
    doubt = _doubt(history, rank, std, width)
    if doubt is not None:
        return Verdict(kind=Kind.UNKNOWN, sentence=doubt, evidence=_evidence(readings, width))
    if rank < rank_floor(width):
        return Verdict(
            kind=Kind.DIMENSIONAL,
            sentence=f"The projection lives in about {rank:.1f} directions of {readings.dim}.",
            evidence=_evidence(readings, width),
        )
    return Verdict(
        kind=Kind.HEALTHY,
        sentence=f"The projection keeps an effective rank of {rank:.1f} of {readings.dim}.",
        evidence=_evidence(readings, width),
    )


def judge_embeddings(readings: Readings, noise: Readings) -> Verdict:
    """The verdict on one set of embeddings, by the same rule, against noise of the same shape."""
    at_noise = Observation(step=0, parts={"encoder": noise})
    return judge([at_noise, Observation(step=0, parts={"encoder": readings})])


def _doubt(history: Sequence[Row | Observation], rank: float, std: float, width: int) -> str | None:
    if not (math.isfinite(rank) and math.isfinite(std)):
        return "The last reading of the projection is not a finite number."
    if len(history) < 2:
        return "A single reading shows no course: an untrained network has a low rank too."
    if width < LEAST_WIDTH:
        return (
            f"A projection of width {width} is too narrow for the rank rule, "
            f"which needs {LEAST_WIDTH}."
        )
    return None


def _evidence(readings: Readings, width: int) -> tuple[str, ...]:
    healthy = width**-0.5
    return tuple(
        phrase
        for value, phrase in (
            (
                readings.effective_rank,
                f"effective rank of the projection {readings.effective_rank:.1f} of "
                f"{readings.dim} (collapse: below {rank_floor(width):.1f})",
            ),
            (
                readings.std,
                f"std of its normalised outputs {readings.std:.3g} "
                f"(healthy: near {healthy:.3g}; complete collapse: "
                f"below {STD_FRACTION * healthy:.2g})",
            ),
            (
                readings.top_share,
                f"largest eigenvalue {100 * readings.top_share:.3g}\u00a0% of the variance",
            ),
        )
        if math.isfinite(value)
    )
