"""From a multiple of a bound to the probability of collapse."""

import math

STEEPNESS = 3.0
"""The probability is 1/2 at a bound and 1/(1 + 2^STEEPNESS) at twice the bound."""


def probability(multiple: float) -> float:
    """The probability of collapse of a reading at this multiple of its bound, in [0, 1].

    1/2 at the bound, above it beyond the bound, near 0 far from it. A bound that does not apply
    (inf) gives 0.
    """
    return 1 / (1 + multiple**STEEPNESS) if math.isfinite(multiple) else 0.0
