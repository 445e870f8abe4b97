"""How causes are looked for in the marks of a run: small functions, one for each kind of question.

Each gives Red with the number and the step, True where what was measured is in order, or None
where nothing that decides was measured.
"""

import math
from collections.abc import Callable
from statistics import median

from offdiag.diagnostics.causes.cause import Look, Red
from offdiag.diagnostics.causes.evidence import Evidence, unbroken
from offdiag.results.readings import NAN

LEAST_ROWS = 8
"""Of fewer rows no direction differs from chance."""
EARLY = 5
"""Up to this step the outputs are still much as at the initialisation."""


def above(name: str, bound: float, *, part: str | None = None, readings: int = 1) -> Look:
    """Red where the mark ends above the bound, at `readings` in a row at least."""
    return _beyond(name, lambda value: value > bound, part, readings)


def below(name: str, bound: float, *, part: str | None = None, readings: int = 1) -> Look:
    """Red where the mark ends below the bound, at `readings` in a row at least."""
    return _beyond(name, lambda value: value < bound, part, readings)


def _beyond(name: str, red: Callable[[float], bool], part: str | None, readings: int) -> Look:
    def look(evidence: Evidence) -> Red | bool | None:
        series = evidence.series(name)
        if not series:
            return None
        since = unbroken(series, red)
        if since is None:
            return True
        seen = [value for step, value in series if step >= since]
        if len(seen) < readings:
            return None
        return Red(value=series[-1][1], step=since, part=part)

    return look


def first_of(*looks: Look) -> Look:
    """Red if any of these is; in order if any was measured and none is red."""

    def look(evidence: Evidence) -> Red | bool | None:
        seen = [one(evidence) for one in looks]
        red = [one for one in seen if isinstance(one, Red)]
        if red:
            return min(red, key=lambda one: one.step)
        return True if any(one is True for one in seen) else None

    return look


def unless(look: Look, excuse: Callable[[Evidence], bool]) -> Look:
    """Red is taken back where the excuse holds."""

    def judged(evidence: Evidence) -> Red | bool | None:
        seen = look(evidence)
        return True if isinstance(seen, Red) and excuse(evidence) else seen

    return judged


def gradient_in_target(bound: float, purity: float) -> Look:
    """A gradient past the predictor that draws the target to the prediction, and not a regulariser.

    The share alone does not decide: variance, covariance or KoLeo terms act on the projection too.
    """

    def look(evidence: Evidence) -> Red | bool | None:
        series = evidence.series("target/gradient")
        if not series:
            return None
        pulls = dict(evidence.series("target/pull"))
        red = [(s, v if pulls.get(s, 1.0) > purity else 0.0) for s, v in series]
        since = unbroken(red, lambda share: share > bound)
        return True if since is None else Red(value=red[-1][1], step=since, part="target")

    return look


def only_attraction(bound: float, *, predictor: bool) -> Look:
    """A loss that only draws the views together, and nothing on the way that stops a collapse.

    `predictor`: of a method that has the place of a predictor or a target network; otherwise of
    one that has neither.
    """

    def look(evidence: Evidence) -> Red | bool | None:
        if not math.isnan(parameters := evidence.first("predictor/parameters")) and parameters > 0:
            return True if predictor else None
        identity = evidence.first("predictor/identity") == 1 or parameters == 0
        targeted = not math.isnan(evidence.first("target/momentum"))
        if (identity or targeted) != predictor:
            return None
        series = [(s, v) for s, v in evidence.series("loss/pull")]
        if not series:
            return None
        since = series[0][0] if median([v for _, v in series[:6]]) > bound else None
        value = median([v for _, v in series[:6]])
        return True if since is None else Red(value=value, step=since, part="projector")

    return look


def loss_repels(bound: float) -> Look:
    """The force drives a view away from every partner, by the median of the first readings.

    At the prediction where there is one, else at the projection; not asked of prototypes, whose
    rows are logits.
    """

    def look(evidence: Evidence) -> Red | bool | None:
        if evidence.series("assign/student_entropy") or evidence.last("modes/rows") < LEAST_ROWS:
            return None
        series = evidence.series("prediction/push") or evidence.series("loss/push")
        first = [value for _, value in series[:6]]
        if len(first) < 2:
            return None
        if median(first) > bound:
            return True
        return Red(value=median(first), step=series[0][0], part="projector")

    return look


def not_trained(part: str) -> Look:
    """A part with parameters that does not move while another does."""

    def look(evidence: Evidence) -> Red | bool | None:
        if evidence.last(f"{part}/parameters") == 0:
            return None
        others = [p for p in ("encoder", "projector", "predictor") if p != part]
        held = evidence.series(f"{part}/held")
        if held and held[-1][1] < 0.5:
            since = unbroken(held, lambda share: share < 0.5)
            return Red(value=held[-1][1], step=since or 0, part=part, words={"why": "held"})
        free = evidence.series(f"{part}/trainable")
        if free and free[-1][1] == 0:
            since = unbroken(free, lambda share: share == 0)
            return Red(value=0.0, step=since or 0, part=part)
        moves = evidence.series(f"{part}/update")
        rest = {s for p in others for s, v in evidence.series(f"{p}/update") if v > 1e-8}
        # One step may be missed: a schedule that starts at zero, a scaler that skips.
        still = [(s, v) for s, v in moves if s in rest]
        since = unbroken(still, lambda move: move == 0)
        if since is not None and sum(s >= since for s, _ in still) >= 2:
            return Red(value=0.0, step=since, part=part)
        return True if moves or held else None

    return look


def pace(part: str, of: str, bound: float) -> Look:
    """The relative update of one part is a small share of another's, by the median of readings."""

    def look(evidence: Evidence) -> Red | bool | None:
        ratios = [
            (step, a / b)
            for step, (a, b) in evidence.paired(f"{part}/update", f"{of}/update")
            if b > 1e-9
        ]
        if len(ratios) < 3:
            return None
        typical = median(ratio for _, ratio in ratios)
        if not 0 < typical < bound:
            return True
        return Red(value=typical, step=ratios[0][0], part=part)

    return look


def target_frozen(gap: float) -> Look:
    """Not one weight of the target moves, though it is far enough from the online network's."""

    def look(evidence: Evidence) -> Red | bool | None:
        rows = list(evidence.paired("target/moved", "target/gap"))
        if not rows:
            return None
        if any(moved > 0 for _, (moved, _) in rows[-2:]):
            return True
        still = [(step, far) for step, (moved, far) in rows if moved == 0]
        # An average of momentum 0.9999 moves by less than rounding while the two are close.
        if len(still) < 2 or still[-1][1] < gap:
            return None
        return Red(value=1.0, step=still[0][0], part="target", words={"gap": f"{still[-1][1]:.2g}"})

    return look


def target_copied(bound: float) -> Look:
    """The fitted momentum is far below what averages use."""

    def look(evidence: Evidence) -> Red | bool | None:
        rows = [
            (step, momentum)
            for step, (momentum, residual) in evidence.paired("target/momentum", "target/residual")
            if residual < 0.3
        ]
        if len(rows) < 2:
            return None
        since = unbroken(rows, lambda momentum: momentum < bound)
        if since is None or sum(step >= since for step, _ in rows) < 2:
            return True
        return Red(value=rows[-1][1], step=since, part="target")

    return look


def target_trained(residual: float) -> Look:
    """The optimiser holds weights of the target, and they move as no average does."""

    def look(evidence: Evidence) -> Red | bool | None:
        held = evidence.last("target/held")
        if math.isnan(held):
            return None
        if held == 0:
            return True
        rows = evidence.series("target/residual")
        since = unbroken(rows, lambda value: value > residual)
        if since is None:
            return True if rows else None
        return Red(value=held, step=since, part="target")

    return look


def step_too_small(bound: float) -> Look:
    """All parts' updates are tiny at every reading, and the rate is not on its way up."""

    def look(evidence: Evidence) -> Red | bool | None:
        series = evidence.series("encoder/update")
        if len(series) < 4:
            return None
        rates = evidence.series("encoder/lr")
        rising = len(rates) > 1 and rates[-1][1] > 1.2 * rates[0][1]
        largest = max(value for _, value in series)
        if rising and largest < bound:
            return None
        since = unbroken(series, lambda value: value < bound)
        if since is None or sum(s >= since for s, _ in series) < 4:
            return True
        return Red(value=series[-1][1], step=since, part="encoder")

    return look


def step_too_large(bound: float, *, once: float) -> Look:
    """A part's update stays above the bound, or was so large once that little was left.

    With normalised layers a huge first step only makes the weights long, and later relative
    updates look small: so one update above `once` counts for good.
    """

    def look(evidence: Evidence) -> Red | bool | None:
        measured = False
        found: list[Red] = []
        for part in ("encoder", "projector", "predictor"):
            series = evidence.series(f"{part}/update")
            measured = measured or len(series) > 0
            jumps = [(step, value) for step, value in series if value > once]
            if jumps:
                found.append(Red(value=jumps[0][1], step=jumps[0][0], part=part))
            elif len(series) >= 5 and median([v for _, v in series[-5:]]) > bound:
                since = unbroken(series, lambda value: value > bound)
                typical = median([value for _, value in series[-5:]])
                found.append(Red(value=typical, step=since or series[0][0], part=part))
        if found:
            return min(found, key=lambda red: (red.step, -red.value))
        return True if measured else None

    return look


def decay_rules(bound: float) -> Look:
    """Weight decay pulls harder than the gradient, by the median of the last readings."""

    def look(evidence: Evidence) -> Red | bool | None:
        measured = False
        worst: Red | None = None
        for part in ("encoder", "projector"):
            series = evidence.series(f"{part}/decay_ratio")
            if len(series) < 3:
                continue
            measured = True
            typical = median([value for _, value in series[-3:]])
            if typical > bound and (worst is None or typical > worst.value):
                since = unbroken(series, lambda value: value > bound)
                worst = Red(value=typical, step=since or series[-3][0], part=part)
        return worst or (True if measured else None)

    return look


def outside(name: str, low: float, high: float) -> Look:
    """The median of a mark lies outside a range."""

    def look(evidence: Evidence) -> Red | bool | None:
        series = evidence.series(name)
        if not series:
            return None
        typical = median([value for _, value in series])
        if low <= typical <= high:
            return True
        return Red(value=typical, step=series[0][0])

    return look


def views_equal(bound: float) -> Look:
    """The features of both views are the same: neither a transform nor dropout sets them apart."""

    def look(evidence: Evidence) -> Red | bool | None:
        series = evidence.series("views/difference")
        if not series:
            return None
        since = unbroken(series, lambda value: value < bound)
        if since is None or evidence.last("inputs/constant") > 0.5:
            return True
        return Red(value=series[-1][1], step=since, part="encoder")

    return look


def views_unpaired(trials: int) -> Look:
    """At the initialisation, a row's nearest row of the other view is its partner as by chance."""

    def look(evidence: Evidence) -> Red | bool | None:
        start = evidence.marks[0][0] if evidence.marks else 0
        rows = [
            (step, share, count)
            for step, (share, count) in evidence.paired("views/partner", "views/rows")
            if step - start <= EARLY
        ]
        total = sum(count for _, _, count in rows)
        if total < trials or len(rows) < 2 or evidence.last("inputs/constant") > 0.5:
            return None
        hits = sum(share * count for _, share, count in rows)
        # By chance one row of each batch finds its partner; Poisson, two deviations and one.
        expected = float(len(rows))
        if hits > expected + 2 * math.sqrt(expected) + 1:
            return True
        return Red(value=hits / total, step=rows[0][0], words={"chance": f"{expected / total:.2g}"})

    return look


def bottleneck(bound: float) -> Look:
    """A linear layer that is narrower than the bound, and than the part's own output."""

    def look(evidence: Evidence) -> Red | bool | None:
        measured = False
        for part in ("projector", "encoder"):
            series = evidence.series(f"{part}/narrowest")
            if not series:
                continue
            measured = True
            step, width = series[-1]
            out = evidence.last(f"{part}/width")
            if width < bound and not width >= out:
                return Red(value=width, step=series[0][0], part=part)
        return True if measured else None

    return look


def sharpening_off(bound: float) -> Look:
    """The teacher's temperature is not below the student's."""
    return below("assign/sharpening", bound)


def no_centre() -> Look:
    """A loss with a centre that is still zero after the first step."""

    def look(evidence: Evidence) -> Red | bool | None:
        series = [(step, value) for step, value in evidence.series("assign/centre") if step > 0]
        if len(series) < 2:
            return None
        since = unbroken(series, lambda value: value == 0)
        return True if since is None else Red(value=0.0, step=since, part="target")

    return look


def one_code(bound: float) -> Look:
    """All rows take the same code: the entropy of the mean assignment is small."""
    return first_of(
        below("assign/student_mean_entropy", bound, part="projector", readings=2),
        below("assign/teacher_mean_entropy", bound, part="target", readings=2),
    )


def uniform_codes(bound: float, steps: int) -> Look:
    """Rows are assigned nothing: the mean entropy stays near its maximum."""

    def look(evidence: Evidence) -> Red | bool | None:
        series = [
            (step, v) for step, v in evidence.series("assign/teacher_entropy") if step >= steps
        ]
        if len(series) < 3:
            return None
        since = unbroken(series, lambda value: value > bound)
        return True if since is None else Red(value=series[-1][1], step=since, part="target")

    return look


def term_missing(bound: float) -> Look:
    """A named term of the loss whose gradient is a tiny share of the largest one's."""

    def look(evidence: Evidence) -> Red | bool | None:
        names = sorted({n for _, marks in evidence.marks for n in marks if n.startswith("terms/")})
        if len(names) < 2:
            return None
        sizes = {name: evidence.typical(name) for name in names}
        largest = max(sizes.values())
        weakest = min(names, key=lambda name: sizes[name])
        share = sizes[weakest] / largest if largest > 0 else NAN
        if not share < bound:
            return True
        step = evidence.series(weakest)[0][0]
        return Red(value=share, step=step, words={"term": weakest.removeprefix("terms/")})

    return look


def variance_unheld(bound: float) -> Look:
    """The loss shrinks the outputs at every reading, and their spread falls."""

    def look(evidence: Evidence) -> Red | bool | None:
        series = evidence.series("loss/spreading")
        spreads = evidence.series("projector/spread") or evidence.series("encoder/spread")
        if len(series) < 3 or len(spreads) < 3 or evidence.series("assign/student_entropy"):
            return None
        if any(value > 0.02 for _, value in series[-5:]) or not any(v for _, v in spreads):
            return True
        typical = median([value for _, value in series])
        fallen = spreads[-1][1] / max(value for _, value in spreads)
        if typical > -bound or fallen > 0.5:
            return True
        return Red(value=typical, step=series[0][0], words={"fallen": f"{fallen:.2g}"})

    return look
