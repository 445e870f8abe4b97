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
SPREAD = 0.2
"""Complete collapse: std of the normalised outputs below this share of 1/sqrt(width), the value of
centred, spread outputs."""
LEFT_FRACTION, RANK_WIDTH = 0.08, 100
"""Dimensional collapse: directions left below this share of the effective rank that noise of the
same shape has, or of 100 if that is less: a wide projection of natural images never fills its
width. The lowest healthy run of 83 had 0.096."""
LEAST_WIDTH = 20
"""Below this width the share is no more than two directions: the rank rule is silent."""
GROWN = 8
"""From so many observations on, directions that views do not share, or that the encoder has lost,
are taken off: early in training views share little in healthy runs too."""
LEAST_SHARED = 0.01
"""An estimate of what views share may well be negative; it counts as this."""
LEARNED = 0.9
"""Something is learned once the variance that views do not share is below this share of the
random start's."""
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
    """So many directions have to be left in outputs that are not collapsed.

    `room` is the effective rank of noise of the same shape; without it, the width.
    """
    return LEFT_FRACTION * min(room, RANK_WIDTH)


def shared(readings: Readings) -> float:
    """The share of the normalised outputs' variance that two views of an image have in common.

    1 - alignment / (2 dim std^2): half the squared distance of two views of an image over that of
    two images. 1: a view says nothing but which image it is; 0: views of one image differ as
    much as two images do. An estimate: noise can take it below 0, and where the spread is uneven
    over the width it is too low, for the std is the mean of each coordinate's. nan without a
    second view.
    """
    spread = _spread(readings)
    if not (math.isfinite(readings.alignment) and spread > 0):
        return NAN
    return 1 - readings.alignment / (2 * spread**2)


def judge(
    history: Sequence[Observation], *, noise: Mapping[str, Readings] | None = None
) -> Verdict:
    """The verdict on a run from its observations, the random start first if it was observed.

    `noise` has the readings of noise of the same shape for each part; without it the width
    stands in. Encoder and projector are judged, or whatever part there is. What is left of a
    part's directions is its effective rank, times the share of variance that two views have
    in common (`shared`; not asked of an encoder), times the share of its random start's
    effective rank that the encoder has kept (at most 1). The two shares count from the eighth
    observation on, and where they were measured. Bounds:

    complete collapse: std of the normalised outputs below 0.2/sqrt(width);
    dimensional collapse: directions left below 0.08 of the effective rank of noise (of 100 if
    that is less);
    partial collapse setting in: one of these at the last observation only, or an effective rank
    below 0.6 of the run's own best, its first quarter left out;
    cannot tell: fewer than three observations besides the random start, outputs that are not
    finite, a run whose views share no more than at its random start (or whose rank and spread are
    still those of the start), or a width below 20 where nothing else speaks.
    Values are medians of up to three observations.
    """
    if not history or not history[-1].parts:
        return Verdict(
            kind=Kind.UNKNOWN,
            sentence="There is nothing to read: no outputs, or none that are finite numbers.",
        )
    kept = _kept(history)
    courses = [_Course(part, history, (noise or {}).get(part), kept) for part in _judged(history)]
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
    if kind not in COLLAPSED and main.unlearned:
        return replace(
            told,
            kind=Kind.UNKNOWN,
            score=0.5,
            sentence=f"Two views of an image are no more alike in the {WORDS[main.part]} than at "
            "the random start: nothing is learned that could collapse.",
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
    seen, by the bounds of `judge`, from the effective rank and the std alone.
    """
    if readings.rows == 1:
        return Verdict(
            kind=Kind.UNKNOWN, sentence="One embedding has no spread: give at least two."
        )
    only = Observation(step=1, parts={EMBEDDINGS: readings})
    course = _Course(EMBEDDINGS, (only,), noise, {})
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


def _kept(history: Sequence[Observation]) -> dict[int, float]:
    """The share of its random start's effective rank that the encoder still has, by step."""
    rows = [row for row in history if "encoder" in row.parts]
    if not rows or rows[0].step != 0:
        return {}
    started = _rank(rows[0].parts["encoder"])
    kept = {}
    for i in range(1, len(rows)):
        few = rows[max(1, i + 1 - SMOOTHED) : i + 1]
        now = _typical(_rank(row.parts["encoder"]) for row in few)
        if math.isfinite(now) and started > 0:
            kept[rows[i].step] = min(1.0, now / started)
    return kept


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
    shared: float  # by two views, smoothed; nan if there are none
    kept: float  # by the encoder, smoothed; nan without its random start
    left: float  # rank times shared times kept, as far as they count
    floor: float
    of_spread: float
    of_floor: float
    of_best: float

    @property
    def kind(self) -> Kind:
        if self.of_spread < 1:
            return Kind.COMPLETE
        if self.of_floor < 1:
            return Kind.DIMENSIONAL
        return Kind.PARTIAL if self.of_best < 1 else Kind.HEALTHY

    @property
    def score(self) -> float:
        collapse = max(_logistic(self.of_spread), _logistic(self.of_floor))
        return max(collapse, 0.5 * _logistic(self.of_best))  # a warning is never a call


def _logistic(multiple: float) -> float:
    return 1 / (1 + multiple**STEEPNESS) if math.isfinite(multiple) else 0.0


class _Course:
    """One part over the observations that have it."""

    def __init__(
        self,
        part: str,
        history: Sequence[Observation],
        noise: Readings | None,
        kept: Mapping[int, float],
    ) -> None:
        self.part, self.kept = part, kept
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

    @property
    def unlearned(self) -> bool:
        """Two views have no more in common than at the random start."""
        if self.start is None:
            return False
        now, then = self.states[-1].shared, shared(self.start)
        return 1 - now > LEARNED * (1 - then)  # never so where one of them is nan

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
        states: list[_State] = []
        for i in range(len(self.readings)):
            few = self.readings[max(0, i + 1 - SMOOTHED) : i + 1]
            rank, spread = _typical(map(_rank, few)), _typical(map(_spread, few))
            # Features after a ReLU spread so unevenly over their width that `shared` is too low.
            common = NAN if self.part == "encoder" else _typical(map(shared, few))
            kept = self.kept.get(self.steps[i], NAN)
            left = rank
            if i + 1 >= GROWN:
                left *= max(LEAST_SHARED, common) if math.isfinite(common) else 1.0
                left *= kept if math.isfinite(kept) else 1.0
            past = [state.rank for state in states[(i + 1) // 4 :]]
            best = max((one for one in [*past, rank] if math.isfinite(one)), default=NAN)
            states.append(
                _State(
                    rank=rank,
                    spread=spread,
                    shared=common,
                    kept=kept,
                    left=left,
                    floor=floor,
                    of_spread=_multiple(spread, SPREAD),
                    of_floor=_multiple(left, floor),
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
            if state.rank < state.floor:
                return f"The {words} live{verb} in about {state.rank:.1f} directions of {dim}."
            return (
                f"The {words} ha{'s' if verb else 've'} {state.rank:.1f} directions of {dim}, but "
                f"about {state.left:.1f} are left of them without {_losses(state)}."
            )
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


def _losses(state: _State) -> str:
    """What is taken off the effective rank, in words."""
    taken = []
    if state.shared < 1:
        taken.append("what two views do not share")
    if state.kept < 1:
        taken.append("what the encoder has lost")
    return " and ".join(taken)


def _evidence(course: "_Course") -> tuple[str, ...]:
    """One phrase for each reading that is there, with what it is set against."""
    last, state, words = course.last, course.states[-1], WORDS[course.part]
    start, healthy = course.start, last.dim**-0.5
    against = [f"collapse: below {state.floor:.1f}"] if math.isfinite(state.floor) else []
    if course.noise is not None and math.isfinite(course.noise.effective_rank):
        against.append(f"noise of the same shape: {course.noise.effective_rank:.1f}")
    if start is not None and math.isfinite(_rank(start)):
        against.append(f"random start: {_rank(start):.1f}")
    best = course.best()
    if len(course.steps) > 1:
        against.append(f"best so far: {course.states[best].rank:.1f} at step {course.steps[best]}")

    def started(value: float, form: str, unit: str = "") -> str:
        return f" (random start: {value:{form}}{unit})" if math.isfinite(value) else ""

    common = shared(start) if start is not None else NAN
    phrases = (
        (
            _rank(last),
            f"effective rank of the {words} {_rank(last):.1f} of {last.dim}"
            + (f" ({'; '.join(against)})" if against else ""),
        ),
        (
            state.shared,
            f"two views of an image share {100 * max(0.0, state.shared):.0f}\u00a0% of the variance"
            + started(100 * max(0.0, common) if math.isfinite(common) else NAN, ".0f", "\u00a0%"),
        ),
        (
            state.kept,
            f"the encoder keeps {100 * state.kept:.0f}\u00a0% of its random start's effective rank",
        ),
        (
            state.left if state.left < state.rank else NAN,
            f"directions left without {_losses(state)}: {state.left:.1f}"
            + (f" (collapse: below {state.floor:.1f})" if math.isfinite(state.floor) else ""),
        ),
        (
            last.std,
            f"std of the normalised outputs {last.std:.3g} (healthy: near {healthy:.3g}; "
            f"complete collapse: below {SPREAD * healthy:.2g})",
        ),
        (last.top_share, f"largest eigenvalue {100 * last.top_share:.3g}\u00a0% of the variance"),
        (last.uniformity, f"uniformity {last.uniformity:.2f} (a circle, evenly used: -1.57)"),
        (
            last.lidar,
            f"LiDAR {last.lidar:.1f}" + (started(start.lidar, ".1f") if start is not None else ""),
        ),
    )
    return tuple(phrase for value, phrase in phrases if math.isfinite(value))


def _checkpoint(history: Sequence[Observation], step: int) -> str | None:
    """The last weights kept at or before this step."""
    kept = [row.checkpoint for row in history if row.step <= step and row.checkpoint is not None]
    return kept[-1] if kept else None
