"""One part of a run over its steps: smoothed states, when a collapse began, the best step.

Every rule is in steps or in shares of the steps so far, so that a monitor that reads every 5 steps
and one that reads every 100 come to the same verdict.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from statistics import median

from offdiag.diagnostics import bounds
from offdiag.diagnostics.bounds import (
    COLLAPSED,
    LEAST_SHARED,
    LEAST_WIDTH,
    OF_BEST,
    Kind,
    State,
    effective_rank,
    rank_floor,
    shared,
    spread,
)
from offdiag.results.observation import Observation
from offdiag.results.readings import NAN, Readings

WINDOW = 0.1
"""A value is the median of the readings in this last share of the steps so far,"""
SMOOTHED, MOST_SMOOTHED = 3, 15
"""of at least 3 readings where there are as many, and of at most 15. One odd batch decides
nothing."""
LASTED = 0.15
"""A collapse is called once it has lasted for this share of the steps so far."""
GROWN_STEPS = 80
"""From this step on, directions that views do not share, or that the features have lost, are
taken off: early in training views share little in healthy runs too."""
GROWING = 1.25
"""A part whose effective rank grew by this factor in the second half of the steps so far may yet
grow out of a low rank."""
NEAR_BEST = 0.9
"""The best step is the last whose effective rank is within this share of the best: of two with
as many directions, the one trained for longer."""
STILL = 0.1
"""A part is still if rank and spread never left the initialisation by more than this share."""
LEARNED = 0.9
"""Something is learned once the variance that views do not share is below this share of the
initialisation's."""
UNTRAINED = 0.8
"""Features that retain more than this and share no more between views than at first have learned
nothing yet, and lost nothing."""
SAME_VIEWS, UNRELATED_VIEWS = 0.999, 0.05
"""Views are identical if they share more than the first at every reading, unrelated if they share
less than the second at every reading."""


class Series:
    """One part over the observations that have it.

    `initial` is its reading at step 0, where there is one, `reference` the first reading of all:
    what the share of the features' rank that is retained is measured against. `baseline` has the
    readings of Gaussian rows of the same shape.
    """

    def __init__(
        self,
        part: str,
        history: Sequence[Observation],
        baseline: Readings | None = None,
        retained: Mapping[int, float] | None = None,
    ) -> None:
        self.part, self.baseline = part, baseline
        rows = [row for row in history if part in row.parts and _finite(row.parts[part])]
        self.initial = rows[0].parts[part] if rows and rows[0].step == 0 else None
        self.reference = rows[0].parts[part] if rows else None
        trained = rows[1:] if self.initial is not None and len(rows) > 1 else rows
        self.steps = [row.step for row in trained]
        self.readings = [row.parts[part] for row in trained]
        self.retained = self._retained() if part == "encoder" else dict(retained or {})
        self.features = part == "encoder"

    @property
    def last(self) -> Readings:
        return self.readings[-1]

    @property
    def now(self) -> State:
        return self.states[-1]

    @property
    def max_rank(self) -> float:
        """The effective rank that Gaussian rows of this shape have."""
        if self.baseline is not None and math.isfinite(self.baseline.effective_rank):
            return self.baseline.effective_rank
        return min(self.last.dim, self.last.rows or self.last.dim)

    @cached_property
    def states(self) -> list[State]:
        states: list[State] = []
        for i in range(len(self.readings)):
            states.append(self._state(i, [state.rank for state in states[(i + 1) // 4 :]]))
        return states

    @property
    def kind(self) -> Kind:
        """The kind of the last state, where it has lasted."""
        kind = self.now.kind
        if kind in COLLAPSED and not self._lasted():
            return Kind.PARTIAL
        return kind

    @property
    def growing(self) -> bool:
        """The rank is low, and grew in the second half of the steps so far."""
        half = [s for s in self.states if s.step <= self.steps[-1] / 2]
        return bool(half) and self.now.rank > GROWING * half[-1].rank

    @property
    def still(self) -> bool:
        """Rank, spread and what views share have not moved since the initialisation."""
        return self.initial is not None and all(
            _near(effective_rank(self.initial), state.rank)
            and _near(spread(self.initial), state.spread)
            and not abs(state.shared - shared(self.initial)) > STILL
            for state in self.states
        )

    @property
    def frozen(self) -> bool:
        """And neither has the shape of the spectrum: as if the same weights were read each time."""
        first = self.initial
        return (
            first is not None
            and self.still
            and all(
                _near(first.participation_ratio, now.participation_ratio)
                and _near(first.top_share, now.top_share)
                for now in self.readings
            )
        )

    @property
    def unlearned(self) -> bool:
        """Two views have no more in common than at the initialisation."""
        return self._as_at_first(self.now.shared)

    def _as_at_first(self, common: float) -> bool:
        then = shared(self.initial) if self.initial is not None else NAN
        return 1 - common > LEARNED * (1 - then)  # never so where one of them is nan

    @cached_property
    def shares(self) -> list[float]:
        """What two views share at each reading, the initialisation included."""
        readings = [self.initial, *self.readings] if self.initial is not None else self.readings
        return [shared(one) for one in readings if one is not None]

    @property
    def same_views(self) -> bool:
        return bool(self.shares) and min(self.shares, default=NAN) > SAME_VIEWS

    @property
    def unrelated_views(self) -> bool:
        return bool(self.shares) and max(self.shares, default=NAN) < UNRELATED_VIEWS

    def best(self) -> int:
        """Where there were most directions for the longest training, the first quarter left out."""
        late = range(len(self.states) // 4, len(self.states))
        # A median lags behind a sudden fall, so the value itself has to be there as well.
        ranks = {
            i: min(self.states[i].rank, effective_rank(self.readings[i]))
            for i in late
            if self.states[i].of_spread >= 1 and math.isfinite(self.states[i].rank)
        }
        good = NEAR_BEST * max(ranks.values(), default=NAN)
        return max((i for i, rank in ranks.items() if rank >= good), default=len(self.states) - 1)

    def unbroken(self, kinds: Sequence[Kind] = (Kind.PARTIAL, *COLLAPSED)) -> int:
        """Where the last stretch of states of these kinds begins; the last one is in it anyhow."""
        first = len(self.states) - 1
        while first > 0 and self._kind_in_hindsight(first - 1) in kinds:
            first -= 1
        return first

    def _kind_in_hindsight(self, i: int) -> Kind:
        """The kind with all factors, which early in a run say little of what is to come."""
        state = self.states[i]
        if state.step >= GROWN_STEPS or state.kind in COLLAPSED:
            return state.kind
        return self._state(i, [s.rank for s in self.states[(i + 1) // 4 : i]], grown=True).kind

    def _lasted(self) -> bool:
        """The readings themselves have been beyond a bound for long enough."""
        last = self.steps[-1]
        first = len(self.readings) - 1
        while first > 0 and self._state(first - 1, [], few=1, grown=True).kind in COLLAPSED:
            first -= 1
        return first < len(self.readings) - 1 and last - self.steps[first] >= LASTED * last

    def _window(self, i: int) -> slice:
        since = (1 - WINDOW) * self.steps[i]
        first = i
        while first > 0 and self.steps[first - 1] > since and i - first + 1 < MOST_SMOOTHED:
            first -= 1
        return slice(max(0, min(first, i + 1 - SMOOTHED)), i + 1)

    def _state(
        self, i: int, past: Sequence[float], *, few: int | None = None, grown: bool = False
    ) -> State:
        window = slice(i + 1 - few, i + 1) if few is not None else self._window(i)
        readings, step = self.readings[window], self.steps[i]
        rank, wide = _typical(map(effective_rank, readings)), _typical(map(spread, readings))
        common, kept = _typical(map(shared, readings)), self.retained.get(step, NAN)
        counts = grown or step >= GROWN_STEPS
        # Where there are few directions to be had, a share of them says nothing.
        narrow = bounds.most_directions(self.last) < LEAST_WIDTH
        floor = NAN if narrow else rank_floor(self.max_rank)
        directions = rank
        if counts and not self.features:
            directions *= max(LEAST_SHARED, common) if math.isfinite(common) else 1.0
            directions *= kept if math.isfinite(kept) else 1.0
        spread_bound = self._spread_bound(wide, common)
        best = max((one for one in [*past, rank] if math.isfinite(one)), default=NAN)
        return State(
            step=step,
            rank=rank,
            spread=wide,
            shared=common,
            retained=kept,
            effective_directions=directions,
            floor=floor,
            spread_bound=spread_bound,
            of_spread=_multiple(wide, spread_bound),
            of_floor=_multiple(directions, floor),
            of_cliff=_typical(map(bounds.of_cliff, readings), missing=math.inf),
            of_features=self._of_features(kept, common) if counts else math.inf,
            of_best=_multiple(rank, OF_BEST * best),
        )

    def _spread_bound(self, now: float, common: float) -> float:
        """A common mean is a fault only where training made it, and nothing is left around it."""
        began = spread(self.initial) if self.initial is not None else NAN
        if common >= bounds.SHARED_AROUND_MEAN or now > bounds.FELL * began:
            return bounds.TINY_SPREAD
        return bounds.SPREAD

    def _of_features(self, kept: float, common: float) -> float:
        if not self.features or math.isnan(kept):
            return math.inf
        untrained = kept > UNTRAINED and self._as_at_first(common)
        if math.isnan(common) or untrained:
            return kept / bounds.FEATURES_ALONE
        return kept * max(LEAST_SHARED, common) / bounds.FEATURES

    def _retained(self) -> dict[int, float]:
        """The share of the effective rank of the first reading that there still is, by step."""
        began = effective_rank(self.reference) if self.reference is not None else NAN
        kept = {}
        for i, step in enumerate(self.steps):
            if self.initial is None and i == 0:
                continue
            now = _typical(map(effective_rank, self.readings[self._window(i)]))
            if math.isfinite(now) and began > 0:
                kept[step] = min(1.0, now / began)
        return kept


def _finite(readings: Readings) -> bool:
    """Something was read: constant outputs have a spread, outputs that are not finite none."""
    return math.isfinite(spread(readings)) or math.isfinite(effective_rank(readings))


def _near(before: float, now: float) -> bool:
    """Two values differ by less than a tenth; so do values that were not measured."""
    return not (before > 0 and now > 0) or abs(math.log(now / before)) < STILL


def _typical(values: Iterable[float], *, missing: float = NAN) -> float:
    """The median; of an even number the mean of the middle two, unless one is infinite."""
    known = [value for value in values if not math.isnan(value)]
    if not known:
        return missing
    found = median(known)
    return found if not math.isnan(found) else missing


def _multiple(value: float, bound: float) -> float:
    return value / bound if math.isfinite(value) and bound > 0 else math.inf
