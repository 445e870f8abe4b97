"""From a multiple of a bound to the probability of collapse."""

import math

STEEPNESS, FEATURES_STEEPNESS = 5.0, 8.0
"""The probability is 1/2 at a bound and 1/(1 + 2^steepness) at twice the bound. Fitted by maximum
likelihood on 152 runs whose labels are known (projection: best 5, features: best 10, flat from 8
on)."""


def probability(multiple: float, *, steepness: float = STEEPNESS) -> float:
    """The probability of collapse of a reading at this multiple of its bound, in [0, 1].

    1/2 at the bound, above it beyond the bound, near 0 far from it. A bound that does not apply
    (inf) gives 0.
    """
    return 1 / (1 + multiple**steepness) if math.isfinite(multiple) else 0.0
