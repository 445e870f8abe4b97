"""Closed forms of the first phase: which feature a neuron learns, when, and how long to run.

While the head is the identity, neuron j grows along feature l as

    dc/dt = q k12 pi_l a_l^(2q) nu K_jj c^(2q-1) / V_j^2
    V_j = nu K_jj + k11 sum_o pi_o a_o^(2q) c_o^(2q)

(docs/theory.md, section 6): one factor for all its features, times pi_l a_l^(2q) c^(2q-1).
"""

from functools import lru_cache

import numpy as np
from jaxtyping import Float, Int

from offdiag.theory.kernels import LEARNED
from offdiag.theory.problem import Problem
from offdiag.theory.state import State, covariance

ENOUGH = 30_000.0  # median first times that a start gets; ten times more changes one in fifty
FEWEST = 300.0  # below this many, too many starts are still on their way
LONGEST = 1e15  # double precision ends about here (docs/theory.md, section 5)
DRAWN = 512  # starts that a median first time is taken over


def feature_pull(problem: Problem) -> Float[np.ndarray, " features"]:
    """pi_l a_l^(2q): how strongly each feature pulls on a neuron."""
    constants = problem.constants()
    return np.asarray(constants.weights * constants.signal**2)


def favoured_feature(
    problem: Problem, inner_products: Float[np.ndarray, "*batch features"]
) -> Int[np.ndarray, "*batch"]:
    """The feature that a neuron without a head will learn, from its start alone.

    argmax over l of pi_l a_l^(2q) |c_l|^(2q - 2): a theorem (docs/theory.md, eq. 18), since the
    differences of `inverse_powers` do not change.
    """
    speed = feature_pull(problem) * np.abs(inner_products) ** (2 * problem.power - 2)
    return np.asarray(speed.argmax(-1))


def inverse_powers(
    problem: Problem, inner_products: Float[np.ndarray, "*batch features"]
) -> Float[np.ndarray, "*batch features"]:
    """|c_l|^-(2q-2) / (pi_l a_l^(2q)), in (0, infinity].

    Without a head those of one neuron all fall at the same rate, so their differences are
    conserved (docs/theory.md, eq. 18), with the normaliser and any stop-gradient.
    """
    with np.errstate(divide="ignore"):
        powers = np.abs(inner_products) ** (2.0 - 2 * problem.power)
    return np.asarray(powers / feature_pull(problem))


def learning_times(
    problem: Problem,
    inner_products: Float[np.ndarray, "*batch neurons features"],
    noise: Float[np.ndarray, "*batch neurons neurons"],
) -> Float[np.ndarray, "*batch neurons features"]:
    """When |c_jl| would blow up if nothing else grew (docs/theory.md, eq. 19).

    nu K_jj(0) / (2 q (q-1) k12 pi_l a_l^(2q) c_jl(0)^(2q-2)); the least over neurons and
    features is the first learning time T_1, so that T_1 ~ d^(q-1).
    """
    constants, q = problem.constants(), problem.power
    own = np.diagonal(noise, axis1=-2, axis2=-1)
    variance = constants.noise_patches * constants.moments.sum() * own**q
    inverse = inverse_powers(problem, inner_products)
    return np.asarray(variance[..., None] * inverse / (2 * q * (q - 1) * constants.cross))


def first_times(problem: Problem, drawn: list[State]) -> Float[np.ndarray, " starts"]:
    """T_1 of each start in closed form."""
    products = np.stack([start.inner_products for start in drawn])
    noise = covariance(problem, np.stack([start.noise_parts for start in drawn]))
    return np.asarray(learning_times(problem, products, noise).min(axis=(1, 2)))


def time_after_jump(problem: Problem) -> float:
    """About how long the strongest feature needs once it outweighs the noise.

    What the blow-up leaves out of the time to |c| = 1/2, by the same equation with
    |w| = 1: k11 / (4 q k12) + k11^2 p 2^-(2q+2) / ((2q+2) q k12 nu K), p the largest pull.
    K is taken as it was at first; it shrinks meanwhile, which can double the time. Where this
    is not small against T_1 the first phase is not the longest one.
    """
    constants, q = problem.constants(), problem.power
    k11, k12, pull = constants.same, constants.cross, float(feature_pull(problem).max())
    variance = constants.noise_patches * constants.moments.sum() * constants.noise_variance**q
    slow = k11**2 * pull * LEARNED ** (2 * q + 2) / ((2 * q + 2) * q * k12 * variance)
    return float(k11 * LEARNED**2 / (q * k12) + slow)


def median_first_time(problem: Problem) -> float:
    """The median of T_1 over random starts, in closed form from one fixed set of them.

    That of |w_j|^2 = 1: the same for every seed, and a tenth of a millisecond.
    """
    constants, q = problem.constants(), problem.power
    normal = _normal_draws(problem.neurons, problem.features)
    inverse = inverse_powers(problem, normal / np.sqrt(problem.dim)).min(axis=(1, 2))
    variance = constants.noise_patches * constants.moments.sum() * constants.noise_variance**q
    return float(np.median(inverse) * variance / (2 * q * (q - 1) * constants.cross))


@lru_cache
def _normal_draws(neurons: int, features: int) -> np.ndarray:
    generator = np.random.default_rng(0)  # always the same: a median, not a start
    return generator.standard_normal((DRAWN, neurons, features))


def horizon(problem: Problem, *, first_times: float = ENOUGH) -> float:
    """A time by which nearly every start has ended: so many median first times.

    At most `LONGEST`. Grows as d^(q-1), like the first time itself.
    """
    return float(min(first_times * median_first_time(problem), LONGEST))


def head_delay(problem: Problem) -> float:
    """About how long the head needs to grow, over T_1, up to a factor of three.

    2 (q-1) sqrt(q / rho) d^(-(q-2)/2): E_21 grows as rho k12 pi a^(2q) c^q / (nu K) towards
    sqrt(rho / q). Below 1 the head acts before the follower learns by itself.
    """
    q, rho = problem.power, problem.head_lr_ratio
    if rho == 0:
        return float("inf")
    return float(2 * (q - 1) * np.sqrt(q / rho) * problem.dim ** (-(q - 2) / 2))


def outweighing_entry(problem: Problem) -> float:
    """The |E| at which what another neuron's strongest feature brings outweighs a neuron's noise.

    sqrt(nu K / k11) / a^q, from (17) with |w| = 1. Where the bound sqrt(rho / q) of (15) is
    far above it, the follower learns long before the head has reached its bound.
    """
    constants, q = problem.constants(), problem.power
    variance = constants.noise_patches * constants.moments.sum() * constants.noise_variance**q
    return float(np.sqrt(variance / constants.same) / constants.signal.max())
