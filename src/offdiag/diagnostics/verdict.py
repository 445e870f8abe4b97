"""Observations of a run to a verdict: does it collapse, which way, since when, what next.

Labels are never seen, and the loss has no say: it cannot see collapse. What the rule is worth
was measured on runs whose truth is known by labels: benchmarks/verdict.py.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from statistics import median

from offdiag.diagnostics.advice import Advice, known_causes
from offdiag.results.observation import PARTS, Observation
from offdiag.results.readings import NAN, Readings

JUDGED = ("encoder", "projector")
"""In the order of the flow: where both collapse, the first is named. A predictor may well have few
directions (SimSiam's is a bottleneck), so it is judged only where it is alone, as a target is."""
SMOOTHED = 3
"""A value is the median of so many observations: one odd batch decides nothing."""
SPREAD = 0.25
"""Complete collapse: std of the normalised outputs below this share of 1/sqrt(width), the value of
centred, spread outputs."""
RANK_FRACTION, RANK_WIDTH = 0.12, 100
"""Dimensional collapse: effective rank below this share of what noise of the same shape would have,
or of 100 if that is less: a wide projection of natural images never fills its width."""
LEAST_WIDTH = 20
"""Below this width the share is no more than two directions: the rank rule is silent."""
UNIFORMITY = -1.2
"""Dimensional collapse: uniformity (Wang & Isola 2020) above this. -0.69: two opposite points;
-1.57: a circle, evenly used; -2.08: a sphere in three dimensions. Not asked of an encoder, whose
features after a ReLU share a mean whatever else they do."""
OF_START = 0.4
"""Dimensional collapse of an encoder: effective rank below this share of its random start's."""
OF_BEST = 0.6
"""Partial collapse: effective rank below this share of the best in the last three quarters of the
run's own past. The first quarter is left out: the rank of a random start is spent as features
are learned, in healthy runs too."""
NEAR_BEST = 0.9
"""The best observation is the last whose effective rank is within this share of the best: of two
with as many directions, the one trained for longer."""
LEAST_OBSERVATIONS = 3
"""Besides the random start: fewer show no course."""
IN_A_ROW = 2
"""So many observations have to agree on a collapse; the first alone is one setting in."""
STILL = 0.1
"""A run whose rank and spread never left the random start by more than this share is not judged."""
STEEPNESS = 3.0
"""Of the score: 1/2 at a bound, 1/(1 + 2^STEEPNESS) at twice the bound."""

EMBEDDINGS = "embeddings"
WORDS = {
    "encoder": "features",
    "projector": "projection",
    "predictor": "prediction",
    "target": "target's projection",
    EMBEDDINGS: "embeddings",
}
"""What a part puts out, in a sentence."""


class Kind(StrEnum):
    """What can be said of a representation."""

    HEALTHY = "healthy"
    PARTIAL = "partial collapse setting in"
    DIMENSIONAL = "dimensional collapse"
    COMPLETE = "complete collapse"
    UNKNOWN = "cannot tell"


COLLAPSED = (Kind.DIMENSIONAL, Kind.COMPLETE)
"""What counts as a call; a partial collapse is a warning."""


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """A verdict, the sentence that says it, and what it rests on.

    `score`, in [0, 1], is how much speaks for collapse: above 1/2 a bound is passed, 1 is far
    beyond it; nan where nothing can be told. `evidence` has one phrase for each reading used.
    `part` is where it collapses, first in the order of the flow, and `since_step` the first
    observation from which on it was so; both None without a collapse. `best_step` is the
    observation with most directions, `best_checkpoint` the weights kept of it, or of the last
    observation before it that kept any.
    """

    kind: Kind
    score: float = NAN
    sentence: str
    evidence: tuple[str, ...] = ()
    since_step: int | None = None
    part: str | None = None
    best_step: int | None = None
    best_checkpoint: str | None = None
    advice: tuple[Advice, ...] = ()


def rank_floor(room: float) -> float:
    """The effective rank below which outputs count as collapsed.

    `room` is the effective rank of noise of the same shape; without it, the width.
    """
    return RANK_FRACTION * min(room, RANK_WIDTH)


def judge(
    history: Sequence[Observation], *, noise: Mapping[str, Readings] | None = None
) -> Verdict:
    """The verdict on a run from its observations, the random start first if it was observed.

    `noise` has the readings of noise of the same shape for each part; without it the width
    stands in. Encoder and projector are judged, or whatever part there is. Bounds:

    complete collapse: std of the normalised outputs below 0.25/sqrt(width);
    dimensional collapse: effective rank below 0.12 of that of noise (of 100 if that is less), for
    the encoder also below 0.4 of its random start's, for other parts also a uniformity above -1.2;
    partial collapse setting in: one of these at the last observation only, or an effective rank
    below 0.6 of the run's own best, its first quarter left out;
    cannot tell: fewer than three observations besides the random start, outputs that are not
    finite, a run that has not moved from its start, or a width below 20 where nothing else speaks.
    Values are medians of up to three observations.
    """
    if not history or not history[-1].parts:
        return Verdict(
            kind=Kind.UNKNOWN,
            sentence="There is nothing to read: no outputs, or none that are finite numbers.",
        )
    courses = [_Course(part, history, (noise or {}).get(part)) for part in _judged(history)]
    if len(courses[-1].steps) < LEAST_OBSERVATIONS:
        return Verdict(
            kind=Kind.UNKNOWN,
            sentence=f"Fewer than {LEAST_OBSERVATIONS} observations show no course: an untrained "
            "network has a low rank too.",
            evidence=_evidence(courses[-1]),
        )
    main = courses[-1]
    course, kind = main, Kind.HEALTHY
    for severe in (Kind.COMPLETE, Kind.DIMENSIONAL, Kind.PARTIAL):
        found = [one for one in courses if one.kind is severe]
        if found:
            course, kind = found[0], severe
            break
    best = main.best()
    told = Verdict(
        kind=kind,
        sentence=_sentence(course, kind),
        evidence=_evidence(course),
        best_step=main.steps[best],
        best_checkpoint=_checkpoint(history, main.steps[best]),
    )
    score = max(one.states[-1].score for one in courses)
    doubt = _doubt(main, kind)
    if doubt is not None:
        return replace(told, kind=Kind.UNKNOWN, sentence=doubt)
    if all(one.still for one in courses):
        return replace(
            told,
            kind=Kind.UNKNOWN,
            score=min(score, 0.5),
            sentence="Nothing has moved since the random start: there is no course to judge.",
        )
    if kind is Kind.HEALTHY:
        return replace(told, score=score)
    since = course.steps[course.unbroken()]
    return replace(
        told,
        score=score,
        since_step=since,
        part=course.part,
        advice=known_causes(
            complete=kind is Kind.COMPLETE,
            since_the_start=since == course.steps[0],
            head=history[-1].head,
        ),
    )


def judge_embeddings(readings: Readings, noise: Readings) -> Verdict:
    """The verdict on one file of embeddings, against noise of the same shape.

    Without a past nothing can be said of trends: only complete and dimensional collapse are
    seen, by the bounds of `judge`.
    """
    if readings.rows == 1:
        return Verdict(
            kind=Kind.UNKNOWN, sentence="One embedding has no spread: give at least two."
        )
    only = Observation(step=1, parts={EMBEDDINGS: readings})
    course = _Course(EMBEDDINGS, (only,), noise)
    state = course.states[-1]
    kind = state.kind
    evidence = _evidence(course)
    doubt = _doubt(course, kind)
    if doubt is not None:
        return Verdict(kind=Kind.UNKNOWN, sentence=doubt, evidence=evidence)
    ill = kind is not Kind.HEALTHY
    return Verdict(
        kind=kind,
        score=state.score,
        sentence=_sentence(course, kind),
        evidence=evidence,
        advice=known_causes(complete=kind is Kind.COMPLETE, since_the_start=True, head=None)
        if ill
        else (),
    )


def _judged(history: Sequence[Observation]) -> list[str]:
    there = history[-1].parts
    return [part for part in JUDGED if part in there] or [
        next(part for part in PARTS if part in there)
    ]


def _doubt(course: "_Course", kind: Kind) -> str | None:
    """Why nothing can be said, if that is so. `course` is the part that the objective sees."""
    state, words = course.states[-1], WORDS[course.part]
    if kind is Kind.COMPLETE:
        return None
    if not (math.isfinite(_rank(course.last)) and math.isfinite(_spread(course.last))):
        return f"The last reading of the {words} is not a finite number."
    if kind is Kind.HEALTHY and math.isinf(state.of_floor):
        return (
            f"A {words} of width {course.last.dim} is too narrow for the rank rule, which needs "
            f"{LEAST_WIDTH}."
        )
    return None


@dataclass(frozen=True, kw_only=True)
class _State:
    """One part at one observation: each value as a multiple of its bound, below 1 beyond it.

    A bound that does not apply, or a value that was not measured, gives inf.
    """

    rank: float  # effective rank, smoothed
    spread: float  # std of normalised outputs times sqrt(width), smoothed
    floor: float
    of_spread: float
    of_floor: float
    of_uniformity: float
    of_start: float
    of_best: float

    @property
    def kind(self) -> Kind:
        if self.of_spread < 1:
            return Kind.COMPLETE
        if min(self.of_floor, self.of_uniformity, self.of_start) < 1:
            return Kind.DIMENSIONAL
        return Kind.PARTIAL if self.of_best < 1 else Kind.HEALTHY

    @property
    def score(self) -> float:
        bounds = (self.of_spread, self.of_floor, self.of_uniformity, self.of_start)
        collapse = max(map(_logistic, bounds))
        return max(collapse, 0.5 * _logistic(self.of_best))  # a warning is never a call


def _logistic(multiple: float) -> float:
    return 1 / (1 + multiple**STEEPNESS) if math.isfinite(multiple) else 0.0


class _Course:
    """One part over the observations that have it."""

    def __init__(self, part: str, history: Sequence[Observation], noise: Readings | None) -> None:
        self.part = part
        rows = [row for row in history if part in row.parts]
        self.start = rows[0].parts[part] if rows[0].step == 0 else None
        trained = rows[1:] if self.start is not None and len(rows) > 1 else rows
        self.steps = [row.step for row in trained]
        self.readings = [row.parts[part] for row in trained]
        self.noise = noise
        self.states = self._states()

    @property
    def last(self) -> Readings:
        return self.readings[-1]

    @property
    def room(self) -> float:
        """Effective rank that there is room for."""
        if self.noise is not None and math.isfinite(self.noise.effective_rank):
            return self.noise.effective_rank
        return min(self.last.dim, self.last.rows or self.last.dim)

    @property
    def still(self) -> bool:
        """Nothing has moved since the random start."""
        if self.start is None:
            return False
        then = _rank(self.start), _spread(self.start)
        return all(
            abs(math.log(now / before)) < STILL
            for state in self.states
            for now, before in zip((state.rank, state.spread), then, strict=True)
            if now > 0 and before > 0
        )

    def best(self) -> int:
        """Where there were most directions for the longest training, the first quarter left out."""
        late = range(len(self.states) // 4, len(self.states))
        # A median lags behind a sudden fall, so the value itself has to be there as well.
        ranks = {
            i: min(self.states[i].rank, _rank(self.readings[i]))
            for i in late
            if self.states[i].of_spread >= 1 and math.isfinite(self.states[i].rank)
        }
        good = NEAR_BEST * max(ranks.values(), default=NAN)
        return max((i for i, rank in ranks.items() if rank >= good), default=len(self.states) - 1)

    @property
    def kind(self) -> Kind:
        """The kind of the last state, where it has lasted."""
        kind = self.states[-1].kind
        lasted = len(self.states) - self.unbroken(COLLAPSED)
        return Kind.PARTIAL if kind in COLLAPSED and lasted < IN_A_ROW else kind

    def unbroken(self, kinds: Sequence[Kind] = (Kind.PARTIAL, *COLLAPSED)) -> int:
        """Where the last stretch of states of these kinds begins; the last one is in it anyhow."""
        first = len(self.states) - 1
        while first > 0 and self.states[first - 1].kind in kinds:
            first -= 1
        return first

    def _states(self) -> list[_State]:
        floor = rank_floor(self.room) if self.last.dim >= LEAST_WIDTH else NAN
        started = _rank(self.start) if self.start is not None else NAN
        encoder = self.part == "encoder"
        states: list[_State] = []
        for i in range(len(self.readings)):
            few = self.readings[max(0, i + 1 - SMOOTHED) : i + 1]
            rank, spread = _typical(map(_rank, few)), _typical(map(_spread, few))
            even = _typical(one.uniformity for one in few)
            past = [state.rank for state in states[(i + 1) // 4 :]]
            best = max((one for one in [*past, rank] if math.isfinite(one)), default=NAN)
            states.append(
                _State(
                    rank=rank,
                    spread=spread,
                    floor=floor,
                    of_spread=_multiple(spread, SPREAD),
                    of_floor=_multiple(rank, floor),
                    of_uniformity=math.inf if encoder else _multiple(-even, -UNIFORMITY),
                    of_start=_multiple(rank, OF_START * started) if encoder else math.inf,
                    of_best=_multiple(rank, OF_BEST * best),
                )
            )
        return states


def _rank(readings: Readings) -> float:
    """Effective rank; RankMe where only that was measured."""
    if math.isnan(readings.effective_rank):
        return readings.rankme
    return readings.effective_rank


def _spread(readings: Readings) -> float:
    return readings.std * math.sqrt(readings.dim)


def _typical(values: Iterable[float]) -> float:
    finite = [value for value in values if math.isfinite(value)]
    return median(finite) if finite else NAN


def _multiple(value: float, bound: float) -> float:
    return value / bound if math.isfinite(value) and bound > 0 else math.inf


def _sentence(course: "_Course", kind: Kind) -> str:
    state, dim = course.states[-1], course.last.dim
    words = WORDS[course.part]
    verb = "" if words.endswith("s") and course.part != "target" else "s"
    match kind:
        case Kind.COMPLETE:
            return f"The {words} point{verb} nearly the same way, whatever the image."
        case Kind.DIMENSIONAL:
            return f"The {words} live{verb} in about {state.rank:.1f} directions of {dim}."
        case Kind.PARTIAL:
            best, are = course.best(), "is" if verb else "are"
            if state.of_best >= 1:
                return f"The {words} {are} collapsing, but only at the last observation yet."
            return (
                f"The {words} {are} losing directions: {state.rank:.1f} of {dim} now, "
                f"{course.states[best].rank:.1f} at step {course.steps[best]}."
            )
        case _:
            return f"The {words} keep{verb} an effective rank of {state.rank:.1f} of {dim}."


def _evidence(course: "_Course") -> tuple[str, ...]:
    """One phrase for each reading that is there, with what it is set against."""
    last, state, words = course.last, course.states[-1], WORDS[course.part]
    healthy = last.dim**-0.5
    against = [f"collapse: below {state.floor:.1f}"] if math.isfinite(state.floor) else []
    if course.noise is not None and math.isfinite(course.noise.effective_rank):
        against.append(f"noise of the same shape: {course.noise.effective_rank:.1f}")
    if course.start is not None and math.isfinite(_rank(course.start)):
        against.append(f"random start: {_rank(course.start):.1f}")
    best = course.best()
    if len(course.steps) > 1:
        against.append(f"best so far: {course.states[best].rank:.1f} at step {course.steps[best]}")
    lidar = f"LiDAR {last.lidar:.1f}"
    if course.start is not None and math.isfinite(course.start.lidar):
        lidar += f" (random start: {course.start.lidar:.1f})"
    phrases = (
        (
            _rank(last),
            f"effective rank of the {words} {_rank(last):.1f} of {last.dim}"
            + (f" ({'; '.join(against)})" if against else ""),
        ),
        (
            last.std,
            f"std of the normalised outputs {last.std:.3g} (healthy: near {healthy:.3g}; "
            f"complete collapse: below {SPREAD * healthy:.2g})",
        ),
        (last.top_share, f"largest eigenvalue {100 * last.top_share:.3g}\u00a0% of the variance"),
        (
            last.uniformity,
            f"uniformity {last.uniformity:.2f} (a circle, evenly used: -1.57"
            + ("" if course.part == "encoder" else f"; collapse: above {UNIFORMITY}")
            + ")",
        ),
        (last.lidar, lidar),
    )
    return tuple(phrase for value, phrase in phrases if math.isfinite(value))


def _checkpoint(history: Sequence[Observation], step: int) -> str | None:
    """The last weights kept at or before this step."""
    kept = [row.checkpoint for row in history if row.step <= step and row.checkpoint is not None]
    return kept[-1] if kept else None
