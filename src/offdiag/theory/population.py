"""The exact population loss and its gradient, in closed form."""

from dataclasses import replace

import numpy as np
from jaxtyping import Float

from offdiag.theory import kernels
from offdiag.theory.problem import Problem
from offdiag.theory.state import State, pack, unpack, with_covariance


def loss(problem: Problem, state: State) -> float:
    """The population loss (docs/theory.md, eq. 5), from `problem.least_loss` up.

    With the normaliser at most 2 per neuron, and 1 per neuron where the views agree on
    nothing.
    """
    constants, y = problem.constants(), pack(problem, state)
    return float(kernels.velocity(constants, y, np.empty_like(y), kernels.workspace(constants)))


def velocity(problem: Problem, state: State) -> State:
    """How the state moves under gradient flow: minus the gradient (eq. 9 to 12).

    The head's part carries the factor head_lr_ratio and is 0 where the head does not train.
    No gradient passes through a stopped branch.
    """
    constants, y = problem.constants(), pack(problem, state)
    out = np.empty_like(y)
    kernels.velocity(constants, y, out, kernels.workspace(constants))
    inner_products, noise_parts, head = unpack(problem, out)
    head[~problem.trains] = 0.0
    return State(inner_products=inner_products, noise_parts=noise_parts, head=head)


def log_growth(
    problem: Problem,
    inner_products: Float[np.ndarray, "times neurons features"],
    noise: Float[np.ndarray, "times neurons neurons"],
    head: Float[np.ndarray, "times neurons neurons"],
) -> Float[np.ndarray, "times neurons features"]:
    """d log|c_jl| / dt at each of many states, per unit of gradient-flow time.

    The head counts as it is given, whether it trains or not; nan where c is exactly 0.
    """
    every = ((True,) * problem.neurons,) * problem.neurons
    free = replace(problem, head_trains=every, head_lr_ratio=1.0)
    constants, size = free.constants(), problem.neurons * (problem.features + problem.neurons)
    rates = np.empty_like(inner_products)
    states = zip(inner_products, noise, head, strict=True)
    for t, (c, covariance, matrix) in enumerate(states):
        y = pack(free, with_covariance(free, c, covariance, matrix))
        out = np.empty_like(y)
        kernels.velocity(constants, y, out, kernels.workspace(constants))
        moved = out[:size].reshape(problem.neurons, -1)[:, : problem.features]
        rates[t] = np.divide(moved, c, out=np.full_like(c, np.nan), where=c != 0)
    return rates


def output_variance(
    problem: Problem,
    inner_products: Float[np.ndarray, "*batch neurons features"],
    noise: Float[np.ndarray, "*batch neurons neurons"],
) -> Float[np.ndarray, "*batch neurons"]:
    """VG_j, the variance of each neuron's output over samples (docs/theory.md, eq. 4)."""
    constants = problem.constants()
    signal = (constants.signal * inner_products**problem.power) ** 2 @ constants.weights
    own = np.diagonal(noise, axis1=-2, axis2=-1)
    return np.asarray(
        constants.same * signal
        + constants.noise_patches * constants.moments.sum() * own**problem.power
    )


def balance(
    problem: Problem,
    inner_products: Float[np.ndarray, "*batch neurons features"],
    noise: Float[np.ndarray, "*batch neurons neurons"],
    head: Float[np.ndarray, "*batch neurons neurons"],
) -> Float[np.ndarray, "*batch neurons"]:
    """What the normalised flow conserves, one number per neuron (eq. 14).

    B_r = |w_r|^2 - (q / rho) (sum_j E_jr^2 - sum_s E_rs^2), sums off the diagonal: a neuron
    that feeds others through the head grows, one that is fed shrinks. Needs noise > 0, all
    entries off the diagonal of the head training, and the diagonal fixed.
    """
    sizes = (inner_products**2).sum(-1) + np.diagonal(noise, axis1=-2, axis2=-1) / problem.noise**2
    squares = head**2 * ~np.eye(problem.neurons, dtype=bool)
    feeds, fed = squares.sum(-2), squares.sum(-1)
    return np.asarray(sizes - problem.power / problem.head_lr_ratio * (feeds - fed))
