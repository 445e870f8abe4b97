"""Exact discrete gradient descent on the population loss."""

from time import perf_counter

import numpy as np
from jaxtyping import Int

from offdiag._checks import ConfigError, at_least
from offdiag.results.trajectory import Trajectory
from offdiag.theory import kernels
from offdiag.theory.problem import Problem
from offdiag.theory.state import State, covariance, pack, unpack


def descent(
    problem: Problem, start: State, *, learning_rate: float, steps: int, points: int = 200
) -> Trajectory:
    """`steps` steps of gradient descent, recorded at up to `points` counts spread in log.

    As exact as the flow and as free of the dimension: n <- n + eta M n gives
    R <- (I + eta M) R (I + eta M)^T (docs/theory.md, eq. 12). Time is learning_rate x steps.
    """
    if not learning_rate > 0:
        raise ConfigError(f"learning_rate must be positive; got {learning_rate}.")
    at_least("steps", float(steps), 1.0)
    saved = log_spaced(steps, points)
    packed = pack(problem, start)
    states, losses = np.empty((saved.size, packed.size)), np.empty(saved.size)
    began = perf_counter()
    kept = kernels.descent(problem.constants(), packed, learning_rate, saved, states, losses)
    seconds = perf_counter() - began
    failure = None
    if kept < saved.size:
        failure = (
            f"stopped at step {saved[kept]} of {steps}: the velocity is not finite; "
            "try a smaller learning rate"
        )
    inner_products, noise_parts, head = unpack(problem, states[:kept])
    return Trajectory(
        time=saved[:kept] * learning_rate,
        inner_products=inner_products,
        noise=covariance(problem, noise_parts),
        head=head,
        loss=losses[:kept],
        problem=problem.to_dict(),
        method={"name": "descent", "learning_rate": learning_rate, "steps": steps},
        seconds=seconds,
        failure=failure,
    )


def log_spaced(steps: int, points: int) -> Int[np.ndarray, " times"]:
    """0, `steps` and at most `points` counts of steps between them, even in log."""
    inner = np.geomspace(1, steps, max(points, 2)).round().astype(np.int64)
    return np.unique(np.concatenate([np.array([0]), inner]))
