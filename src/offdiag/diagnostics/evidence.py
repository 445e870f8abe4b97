"""What a verdict rests on, in words: a sentence on each part, and a phrase for each reading."""

import math
from collections.abc import Mapping

from offdiag.diagnostics.bounds import (
    LEAST_WIDTH,
    Kind,
    State,
    cliff,
    effective_rank,
    most_directions,
    rows_needed,
    shared,
)
from offdiag.diagnostics.series import Series
from offdiag.results.readings import NAN, Readings

EMBEDDINGS = "embeddings"
OUTPUTS: Mapping[str, str] = {
    "encoder": "features",
    "projector": "projection",
    "predictor": "prediction",
    "target": "target's projection",
    EMBEDDINGS: "embeddings",
}
"""What a part puts out, in a sentence."""
DOMINANT = 0.5
"""A direction with more than this share of the variance is worth a remark,"""
COMMON_MEAN = 0.75
"""and so is a mean cosine above this."""


def sentence(series: Series, kind: Kind) -> str:
    """What the readings of one part show."""
    state, last, outputs = series.now, series.last, OUTPUTS[series.part]
    verb = "" if outputs.endswith("s") and series.part != "target" else "s"
    match kind:
        case Kind.COMPLETE:
            return f"The {outputs} point{verb} nearly the same way, whatever the input."
        case Kind.DIMENSIONAL:
            directions = cliff(last)
            if directions is not None and state.of_cliff < 1:
                return (
                    f"The {outputs} live{verb} in {_counted(directions, 'direction')} of "
                    f"{last.dim:,}: the next one has less than a thousandth of the variance."
                )
            if state.rank < state.floor:
                return (
                    f"The {outputs} live{verb} in about {state.rank:.1f} directions of "
                    f"{last.dim:,}."
                )
            if state.of_features < min(1, state.of_floor):
                return _lost(state, outputs)
            return (
                f"The {outputs} ha{'s' if verb else 've'} {state.rank:.1f} directions of "
                f"{last.dim:,}, but about {state.effective_directions:.1f} are left of them "
                f"without {losses(state)}."
            )
        case Kind.PARTIAL:
            best, are = series.best(), "is" if verb else "are"
            if state.of_best >= 1:
                return f"The {outputs} {are} collapsing, but only at the last steps so far."
            return (
                f"The {outputs} {are} losing directions: {state.rank:.1f} of {last.dim:,} now, "
                f"{series.states[best].rank:.1f} at step {series.steps[best]:,}."
            )
        case _:
            kept = (
                f", {100 * state.retained:.0f}\u00a0% of what the first reading had"
                if math.isfinite(state.retained)
                else ""
            )
            return (
                f"The {outputs} keep{verb} an effective rank of {state.rank:.1f} of "
                f"{last.dim:,}{kept}."
            )


def doubt(series: Series, kind: Kind) -> str | None:
    """Why nothing can be said of one part, if that is so."""
    last, outputs = series.last, OUTPUTS[series.part]
    if kind is Kind.COMPLETE:
        return None
    if not (math.isfinite(effective_rank(last)) and math.isfinite(series.now.spread)):
        return f"The last reading of the {outputs} is not a finite number."
    if kind is not Kind.HEALTHY or math.isfinite(series.now.floor):
        return None
    if last.dim < LEAST_WIDTH:
        return (
            f"A {outputs} of width {last.dim} is too narrow for the rank rule, which needs "
            f"{LEAST_WIDTH}."
        )
    return (
        f"Each reading of the {outputs} holds {last.rows} rows, which span at most "
        f"{most_directions(last)} directions of {last.dim:,}: read at least {LEAST_WIDTH + 1} "
        "rows at a time."
    )


def too_few_rows(readings: Readings) -> str:
    """Why a file of so few rows cannot be called healthy, and how many rows can."""
    needed = rows_needed(readings.dim)
    return (
        f"{_counted(readings.rows, 'row')} of width {readings.dim:,} "
        f"{'spans' if readings.rows == 1 else 'span'} at most {most_directions(readings):,} "
        f"of its directions: give at least {needed:,} rows."
    )


def remarks(series: Series) -> tuple[str, ...]:
    """What is no collapse, and worth knowing before distances are taken."""
    last, outputs, found = series.last, OUTPUTS[series.part], []
    if last.mean_cosine > COMMON_MEAN:
        found.append(
            f"the {outputs} have a common mean (mean cosine {last.mean_cosine:.3f}): subtract it "
            "before you compare cosines"
        )
    if last.top_share > DOMINANT and series.now.multiple >= 1 and last.dim > 2:
        rest = _rank_without_first(last)
        found.append(
            f"one direction of the {outputs} holds {100 * last.top_share:.0f}\u00a0% of the "
            "variance"
            + (f"; the others have an effective rank of {rest:.1f}" if rest else "")
            + ": standardise it before you compare distances"
        )
    return tuple(found)


def losses(state: State) -> str:
    """What is taken off the effective rank, in words."""
    taken = []
    if state.shared < 1:
        taken.append("what two views do not share")
    if state.retained < 1:
        taken.append("what the features have lost")
    return " and ".join(taken)


def phrases(series: Series) -> tuple[str, ...]:
    """One phrase for each reading that is there, with what it is compared with."""
    last, state, outputs = series.last, series.now, OUTPUTS[series.part]
    initial = None if series.initial is last else series.initial
    against = [f"collapse: below {state.floor:.1f}"] if math.isfinite(state.floor) else []
    if series.baseline is not None and math.isfinite(series.baseline.effective_rank):
        against.append(f"Gaussian rows of the same shape: {series.baseline.effective_rank:.1f}")
    if initial is not None and math.isfinite(effective_rank(initial)):
        against.append(f"initialisation: {effective_rank(initial):.1f}")
    best = series.best()
    if len(series.steps) > 1:
        against.append(f"best so far: {series.states[best].rank:.1f} at step {series.steps[best]}")

    def began(value: float, form: str, unit: str = "") -> str:
        return f" (initialisation: {value:{form}}{unit})" if math.isfinite(value) else ""

    common = shared(initial) if initial is not None else NAN
    told = (
        (
            effective_rank(last),
            f"effective rank of the {outputs} {effective_rank(last):.1f} of {last.dim}"
            + (f" ({'; '.join(against)})" if against else ""),
        ),
        (
            state.shared,
            f"two views of an image share {_percent(state.shared)} of the variance"
            + began(100 * max(0.0, common) if math.isfinite(common) else NAN, ".0f", "\u00a0%"),
        ),
        (
            state.retained,
            f"the features retain {_percent(state.retained)} of the effective rank of their first "
            "reading",
        ),
        (
            state.effective_directions if state.effective_directions < state.rank else NAN,
            f"directions left without {losses(state)}: {state.effective_directions:.1f}"
            + (f" (collapse: below {state.floor:.1f})" if math.isfinite(state.floor) else ""),
        ),
        (
            state.spread,
            f"spread on the sphere {state.spread:.3g} (centred outputs: 1; complete collapse: "
            f"below {state.spread_bound:g})",
        ),
        (last.top_share, f"largest eigenvalue {100 * last.top_share:.3g}\u00a0% of the variance"),
        (last.mean_cosine, f"mean cosine of two images {last.mean_cosine:.3f} (one point: 1)"),
        (last.uniformity, f"uniformity {last.uniformity:.2f} (a circle, evenly used: -1.57)"),
        (
            last.lidar,
            f"LiDAR {last.lidar:.1f}"
            + (began(initial.lidar, ".1f") if initial is not None else ""),
        ),
    )
    return tuple(phrase for value, phrase in told if math.isfinite(value))


def _lost(state: State, outputs: str) -> str:
    kept = f"The {outputs} retain {_percent(state.retained)} of the effective rank of their first "
    if math.isnan(state.shared):
        return f"{kept}reading."
    return f"{kept}reading, and two views share {_percent(state.shared)} of their variance."


def _rank_without_first(readings: Readings) -> float | None:
    """The effective rank of the spectrum without its first direction, where all of it is known."""
    rest = [share for share in readings.spectrum[1:] if share > 0]
    if len(readings.spectrum) < readings.dim or not rest:
        return None
    total = sum(math.sqrt(share) for share in rest)
    weights = [math.sqrt(share) / total for share in rest]
    return math.exp(-sum(weight * math.log(weight) for weight in weights))


def _percent(share: float) -> str:
    return f"{100 * max(0.0, share):.0f}\u00a0%" if math.isfinite(share) else ""


def _counted(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"
