"""Observations of a run to a verdict: does it collapse, which way, since when, what next.

Labels are never seen, and the loss is not used: it cannot see collapse. The bounds are in
`bounds`, the rules over steps in `series`, the words in `evidence`. How often the rule is right
was measured on runs whose truth is known by labels: benchmarks/verdict.py.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from offdiag.diagnostics import evidence
from offdiag.diagnostics.advice import Advice, known_causes
from offdiag.diagnostics.bounds import (
    COLLAPSED,
    Kind,
    most_directions,
    rank_floor,
    rows_needed,
    shared,
)
from offdiag.diagnostics.calibration import FEATURES_STEEPNESS, STEEPNESS, probability
from offdiag.diagnostics.evidence import EMBEDDINGS, OUTPUTS
from offdiag.diagnostics.series import GROWN_STEPS, Series
from offdiag.results.observation import PARTS, Observation
from offdiag.results.readings import NAN, Readings

__all__ = [
    "Advice",
    "COLLAPSED",
    "Kind",
    "PartVerdict",
    "Verdict",
    "judge",
    "judge_embeddings",
    "rank_floor",
    "shared",
]

JUDGED = ("encoder", "projector")
"""In the order of the flow: where both collapse, the first is named. A predictor may well have few
directions (SimSiam's is a bottleneck), so it is judged only where it is alone, as a target is."""
LEAST_OBSERVATIONS = 3
"""Besides the initialisation: fewer show no trend."""


@dataclass(frozen=True, kw_only=True)
class PartVerdict:
    """The verdict on one part alone: kind, probability of collapse, sentence, since when."""

    kind: Kind
    score: float
    sentence: str
    since_step: int | None = None


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """A verdict, the sentence that says it, and what it rests on.

    `score`, in [0, 1], is the probability that labels would call the outputs collapsed, as
    calibrated on runs whose labels are known: above 1/2 a bound is passed; nan where nothing can
    be told. `evidence` has one phrase for each reading used. `part` is where it collapses, first
    in the order of the flow, and `since_step` the first observation from which on it was so; both
    None without a collapse. `best_step` is the observation with most directions,
    `best_checkpoint` the weights kept of it, or of the last observation before it that kept any.
    `parts` has the verdict on each part by itself. Where the features were read, `status` follows
    them.
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
    parts: Mapping[str, PartVerdict] = field(default_factory=dict)

    @property
    def status(self) -> Kind:
        """The kind that an exit status should report: that of the features, where they were read.

        A projection that collapses, or begins to, while the features are healthy is healthy here:
        the features are what is used after training.
        """
        features = self.parts.get("encoder")
        if self.kind in (Kind.PARTIAL, Kind.PROJECTION) and features is not None:
            return features.kind
        return self.kind


def judge(
    history: Sequence[Observation],
    *,
    gaussian_baseline: Mapping[str, Readings] | None = None,
    noise: Mapping[str, Readings] | None = None,
) -> Verdict:
    """The verdict on a run from its observations, the initialisation first if it was observed.

    `gaussian_baseline` has the readings of Gaussian rows of the same shape for each part (`noise`
    is its older name); without it the width takes their place. Encoder and projector are judged,
    or whatever part there is.

    Effective directions of a projection: its effective rank, times the share of variance that two
    views have in common (`shared`), times the share of their first reading's effective rank that
    the features retain (at most 1). The two shares count from step 80 on, and where they were
    measured. Bounds, each in `bounds` with its reason:

    complete collapse: spread on the sphere below 0.2, where 1 is that of centred outputs; below
    0.02 where two views share half of the variance around the mean, or where the initialisation
    was no more spread out;
    dimensional collapse: effective directions below 0.08 of the effective rank of Gaussian rows
    (of 100 if that is less); or a cliff in the spectrum after fewer directions than a tenth of
    those possible; or features that retain too little;
    projection collapsed, features kept: one of these in the projection, and none in the features;
    partial collapse setting in: one of these for less than a tenth of the steps so far, or an
    effective rank below 0.6 of the run's own best, its first quarter left out;
    nothing useful is learned: views that are identical or unrelated at every reading, or features
    that never leave their initialisation while the rest trains;
    diverged: outputs that are no longer finite;
    cannot tell: fewer than three observations besides the initialisation, too few rows or too
    narrow, views that share no more than at the initialisation, nothing that moved, or a low rank
    that is growing.
    Values are medians over the last tenth of the steps so far, of 3 to 15 readings.
    """
    if not history:
        return _untold("There is nothing to read: no outputs were observed.")
    baseline = gaussian_baseline or noise or {}
    judged = [_series(part, history, baseline) for part in _judged(history)]
    judged = [one for one in judged if one.readings]
    if (diverged := _diverged(history)) is not None:
        return diverged
    if not judged:
        return _untold("There is nothing to read: no outputs, or none that are finite numbers.")
    main = judged[-1]
    if len(main.steps) < LEAST_OBSERVATIONS:
        return _untold(
            f"Fewer than {LEAST_OBSERVATIONS} observations show no trend: an untrained network "
            "has a low rank too.",
            evidence.phrases(main),
        )
    features = judged[0] if len(judged) > 1 else None
    parts = {one.part: _part_verdict(one) for one in judged}
    series, kind = _worst(judged)
    if kind in COLLAPSED and features is not None and features.kind not in COLLAPSED:
        kind = Kind.PROJECTION
    best = main.best()
    verdict = Verdict(
        kind=kind,
        sentence=_sentence(series, kind, features),
        evidence=evidence.phrases(series) + evidence.remarks(series),
        best_step=main.steps[best],
        best_checkpoint=_checkpoint(history, main.steps[best]),
        parts=parts,
    )
    if kind is Kind.PROJECTION and features is not None:
        score = parts["encoder"].score
    else:
        score = max(one.score for one in parts.values())
    if (sentence := _nothing_learned(judged)) is not None:
        advice = known_causes(complete=False, since_the_start=True, head=history[-1].head)
        return replace(verdict, kind=Kind.NOTHING, score=NAN, sentence=sentence, advice=advice)
    if (sentence := evidence.doubt(main, main.kind)) is not None:
        return replace(verdict, kind=Kind.UNKNOWN, sentence=sentence)
    if (sentence := _unjudged(judged, kind)) is not None:
        return replace(verdict, kind=Kind.UNKNOWN, score=0.5, sentence=sentence)
    if kind is Kind.HEALTHY:
        return replace(verdict, score=score)
    since = series.steps[series.unbroken()]
    return replace(
        verdict,
        score=score,
        since_step=since,
        part=series.part,
        advice=known_causes(
            complete=series.kind is Kind.COMPLETE,
            since_the_start=since == series.steps[0],
            head=history[-1].head,
        ),
    )


def judge_embeddings(
    readings: Readings,
    gaussian_baseline: Readings | None = None,
    *,
    noise: Readings | None = None,
) -> Verdict:
    """The verdict on one file of embeddings, compared with Gaussian rows of the same shape.

    Without a past nothing can be said of trends, and without a reference a common mean is no
    fault: complete collapse is a spread on the sphere below 0.02 here. Dimensional collapse is
    seen by the effective rank and by a cliff in the spectrum. Healthy is said only of at least
    half as many rows as dimensions, and of 50.
    """
    baseline = gaussian_baseline or noise
    if readings.rows == 1:
        return _untold("One embedding has no spread: " + evidence.too_few_rows(readings))
    only = Observation(step=0, parts={EMBEDDINGS: readings})
    series = Series(EMBEDDINGS, (only,), baseline)
    if not series.readings:
        return _untold("The readings of the embeddings are not finite numbers.")
    kind = series.now.kind
    told = evidence.phrases(series) + evidence.remarks(series)
    few = 0 < readings.rows < rows_needed(readings.dim)
    if few and (kind is Kind.HEALTHY or most_directions(readings) < 2):
        return _untold(evidence.too_few_rows(readings), told)
    if (doubt := evidence.doubt(series, kind)) is not None:
        return _untold(doubt, told)
    score = probability(series.now.multiple)
    return Verdict(
        kind=kind,
        score=score,
        sentence=evidence.sentence(series, kind),
        evidence=told,
        advice=known_causes(complete=kind is Kind.COMPLETE, since_the_start=True, head=None)
        if kind is not Kind.HEALTHY
        else (),
        parts={EMBEDDINGS: PartVerdict(kind=kind, score=score, sentence="")},
    )


def _untold(sentence: str, told: tuple[str, ...] = ()) -> Verdict:
    return Verdict(kind=Kind.UNKNOWN, sentence=sentence, evidence=told)


def _judged(history: Sequence[Observation]) -> list[str]:
    there = {part for row in history for part in row.parts}
    return [part for part in JUDGED if part in there] or [part for part in PARTS if part in there][
        :1
    ]


def _series(part: str, history: Sequence[Observation], baseline: Mapping[str, Readings]) -> Series:
    features = Series("encoder", history) if part != "encoder" else None
    return Series(
        part, history, baseline.get(part), features.retained if features is not None else None
    )


def _worst(judged: Sequence[Series]) -> tuple[Series, Kind]:
    """The first part in the flow with the most severe kind; the last one where none has any."""
    kinds = [(one, one.kind) for one in judged]
    for severe in (Kind.COMPLETE, Kind.DIMENSIONAL, Kind.PARTIAL):
        for one, kind in kinds:
            if kind is severe:
                return one, kind
    return judged[-1], Kind.HEALTHY


def _part_verdict(series: Series) -> PartVerdict:
    kind = series.kind
    steepness = FEATURES_STEEPNESS if series.features else STEEPNESS
    score = probability(series.now.multiple, steepness=steepness)
    if kind not in COLLAPSED:
        warning = 0.5 * probability(series.now.of_best, steepness=steepness)
        score = min(max(score, warning), 0.5)  # a warning is never a call
    ill = kind is not Kind.HEALTHY
    return PartVerdict(
        kind=kind,
        score=score,
        sentence=evidence.sentence(series, kind),
        since_step=series.steps[series.unbroken()] if ill else None,
    )


def _sentence(series: Series, kind: Kind, features: Series | None) -> str:
    told = evidence.sentence(series, series.kind if kind is Kind.PROJECTION else kind)
    if features is None or features is series or series.kind is Kind.HEALTHY:
        return told
    return f"{told} {evidence.sentence(features, features.kind)}"


def _diverged(history: Sequence[Observation]) -> Verdict | None:
    """The verdict on a run whose last outputs are not finite, with the step of the first such."""
    if not _dead(history[-1]):
        return None
    first = len(history) - 1
    while first > 0 and _dead(history[first - 1]):
        first -= 1
    step, alive = history[first].step, history[:first]
    before = (
        f"The last finite reading is of step {alive[-1].step:,}"
        if alive
        else "There was no finite reading before"
    )
    best = _best_of(alive)
    return Verdict(
        kind=Kind.DIVERGED,
        score=1.0,
        sentence=f"The outputs are not finite from step {step:,} on. {before}: lower the learning "
        "rate, clip the gradient, or look for a division by zero in the loss.",
        since_step=step,
        best_step=best,
        best_checkpoint=None if best is None else _checkpoint(alive, best),
    )


def _dead(row: Observation) -> bool:
    """No part of this observation has an output that is finite."""
    return not any(
        math.isfinite(part.std) or math.isfinite(part.effective_rank) or math.isfinite(part.rankme)
        for part in row.parts.values()
    )


def _best_of(history: Sequence[Observation]) -> int | None:
    if not history:
        return None
    series = Series(_judged(history)[-1], history)
    return series.steps[series.best()] if series.readings else None


def _nothing_learned(judged: Sequence[Series]) -> str | None:
    """Why nothing useful can be learned, where that shows in the readings."""
    main = judged[-1]
    outputs = OUTPUTS[main.part]
    if main.same_views:
        return (
            f"Two views of an image give the same {outputs} at every reading, from the "
            "initialisation on: the views are identical, so there is nothing to learn from them."
        )
    if main.initial is not None and main.unrelated_views and main.steps[-1] >= GROWN_STEPS:
        return (
            f"Two views of an image are no more alike in the {outputs} than two images, from the "
            "initialisation on: see whether row i of both views is the same image, and whether the "
            "views are too strong."
        )
    features = judged[0]
    if features.part == "encoder" and len(judged) > 1 and features.frozen and not main.still:
        return (
            "The features have not left their initialisation while the projection trains: the "
            "encoder is frozen, or not in the optimiser."
        )
    return None


def _unjudged(judged: Sequence[Series], kind: Kind) -> str | None:
    """Why nothing can be said yet, where the readings are good and the run is not far enough."""
    main = judged[-1]
    if all(one.still for one in judged):
        return "Nothing has moved since the initialisation: there is no trend to judge."
    if kind not in (*COLLAPSED, Kind.PROJECTION):
        if main.unlearned:
            return (
                f"Two views of an image are no more alike in the {OUTPUTS[main.part]} than at the "
                "initialisation: nothing is learned so far that could collapse."
            )
        return None
    low = [one for one in judged if one.kind is Kind.DIMENSIONAL]
    if kind is not Kind.COMPLETE and low and all(one.growing for one in low):
        one = low[0]
        half = [s for s in one.states if s.step <= one.steps[-1] / 2][-1]
        return (
            f"The effective rank of the {OUTPUTS[one.part]} is low, {one.now.rank:.1f} of "
            f"{one.last.dim:,}, and growing: it was {half.rank:.1f} at step {half.step:,}. Read "
            "on before you judge."
        )
    return None


def _checkpoint(history: Sequence[Observation], step: int) -> str | None:
    """The last weights kept at or before this step."""
    kept = [row.checkpoint for row in history if row.step <= step and row.checkpoint is not None]
    return kept[-1] if kept else None
