"""The bounds of the verdict: each reading of a part at one step as a multiple of its bound."""

import math
from dataclasses import dataclass
from enum import StrEnum

from offdiag.results.readings import NAN, Readings

SPREAD = 0.2
"""Complete collapse: spread on the sphere below this, where 1 is that of centred outputs."""
TINY_SPREAD = 0.02
"""The bound where a common mean is no fault: cosines above 0.9996. Pretrained speech models
averaged over time have spreads of 0.06 to 0.2, and their neighbours are right."""
SHARED_AROUND_MEAN = 0.5
"""Outputs around a common mean carry something if two views share this much of their variance."""
FELL = 0.5
"""A spread is small because of training only if it is below this share of the initialisation's."""

RANK_SHARE, RANK_WIDTH = 0.08, 100
"""Dimensional collapse: effective directions below this share of the effective rank of Gaussian
rows of the same shape, or of 100 if that is less: a wide projection of natural images never fills
its width. The lowest healthy run of 83 had 0.096."""
LEAST_WIDTH = 20
"""Below this width, or this many directions to be had, the share is no more than two directions:
the rank rule is silent."""
CLIFF_GAP, CLIFF_VARIANCE = 1000.0, 0.95
"""A cliff: the variance of the next direction is 1,000 times smaller, and 95 % lie before it. A
power law has none: its neighbours differ by (1 + 1/k)^alpha."""
CLIFF_SHARE, CLIFF_WIDTH = 0.1, 1_000
"""Dimensional collapse: a cliff after fewer directions than this share of the largest rank that
there can be, or of 1,000 if that is less."""
FEATURES = 0.27
"""Features are lost below this product of the share of effective rank that they retain and the
share of variance that two views have in common; without two views, below `FEATURES_ALONE`."""
FEATURES_ALONE = 0.45
LEAST_SHARED = 0.01
"""An estimate of what views share may be negative; it counts as this."""
OF_BEST = 0.6
"""Partial collapse: effective rank below this share of the best in the last three quarters of the
run's own past. The first quarter is left out: the rank of the initialisation is spent as features
are learned, in healthy runs too."""
ROWS_PER_DIM = 0.5
"""Rows that a file needs for each dimension before it can be called healthy."""
LEAST_ROWS = 50


class Kind(StrEnum):
    """What can be said of a representation."""

    HEALTHY = "healthy"
    PARTIAL = "partial collapse setting in"
    DIMENSIONAL = "dimensional collapse"
    COMPLETE = "complete collapse"
    PROJECTION = "projection collapsed, features kept"
    NOTHING = "nothing useful is learned"
    DIVERGED = "diverged"
    UNKNOWN = "cannot tell"


COLLAPSED = (Kind.DIMENSIONAL, Kind.COMPLETE)
"""What counts as a call; a partial collapse is a warning."""


@dataclass(frozen=True, kw_only=True)
class State:
    """One part at one step: each value as a multiple of its bound, below 1 beyond it.

    A bound that does not apply, or a value that was not measured, gives inf.
    """

    step: int
    rank: float  # effective rank, smoothed
    spread: float  # on the sphere, smoothed
    shared: float  # by two views, smoothed; nan if there are none
    retained: float  # of the features' effective rank; nan without a reference
    effective_directions: float  # rank times shared times retained, as far as they count
    floor: float
    spread_bound: float
    of_spread: float
    of_floor: float
    of_cliff: float
    of_features: float
    of_best: float

    @property
    def kind(self) -> Kind:
        if self.of_spread < 1:
            return Kind.COMPLETE
        if min(self.of_floor, self.of_cliff, self.of_features) < 1:
            return Kind.DIMENSIONAL
        return Kind.PARTIAL if self.of_best < 1 else Kind.HEALTHY

    @property
    def multiple(self) -> float:
        """The smallest multiple of a bound of collapse."""
        return min(self.of_spread, self.of_floor, self.of_cliff, self.of_features)


def rank_floor(max_rank: float) -> float:
    """The fewest effective directions of outputs that are not collapsed.

    `max_rank` is the effective rank of Gaussian rows of the same shape; without it, the width.
    """
    return RANK_SHARE * min(max_rank, RANK_WIDTH)


def effective_rank(readings: Readings) -> float:
    """Effective rank; RankMe where only that was measured."""
    if math.isnan(readings.effective_rank):
        return readings.rankme
    return readings.effective_rank


def spread(readings: Readings) -> float:
    """Root mean square distance from the mean on the sphere, in [0, 1]; 1: centred outputs.

    The square is 1 - mean cosine. Records without it have the std times the root of the width,
    which is lower where coordinates differ in their std.
    """
    by_std = readings.std * math.sqrt(readings.dim)
    # A row of zeros has no direction: its cosines are 0, and only the std says that it is a point.
    if math.isnan(readings.mean_cosine) or by_std < 1e-6:
        return by_std
    return math.sqrt(min(max(1 - readings.mean_cosine, 0.0), 1.0))


def shared(readings: Readings) -> float:
    """The share of the normalised outputs' variance that two views of an image have in common.

    1 - alignment / (2 spread^2): half the squared distance of two views of an image over that of
    two images, the intraclass correlation. 1: a view says nothing but which image it is; 0: views
    of one image differ as much as two images do. Noise can take the estimate below 0. In records
    without a mean cosine the spread comes from the std, and the estimate is too low where the
    spread is uneven over the width. nan without a second view.
    """
    distance = spread(readings)
    if not (math.isfinite(readings.alignment) and distance > 0):
        return NAN
    return 1 - readings.alignment / (2 * distance**2)


def most_directions(readings: Readings) -> int:
    """Rows span no more directions than there are rows, less one for the mean."""
    return min(readings.dim, readings.rows - 1) if readings.rows else readings.dim


def cliff(readings: Readings) -> int | None:
    """After how many directions the spectrum falls off a cliff; None if it does not.

    The first k directions hold 95 % of the variance, and the next has less than a thousandth of
    the k-th's.
    """
    held = 0.0
    shares = readings.spectrum
    for k, share in enumerate(shares, 1):
        held += share
        if k == readings.dim or not math.isfinite(share):
            return None
        following = shares[k] if k < len(shares) else NAN
        if held >= CLIFF_VARIANCE and following * CLIFF_GAP < share:
            return k
    return None


def of_cliff(readings: Readings) -> float:
    """The directions before a cliff as a multiple of the fewest that are not collapsed."""
    directions = cliff(readings)
    limit = CLIFF_SHARE * min(most_directions(readings), CLIFF_WIDTH)
    if directions is None or most_directions(readings) < LEAST_WIDTH:
        return math.inf
    return directions / limit


def rows_needed(dim: int) -> int:
    """Rows that embeddings of this width need before they can be called healthy."""
    return max(LEAST_ROWS, math.ceil(ROWS_PER_DIM * dim))
