"""The exact gradient flow, by a stiff integrator, one start or many."""

import math
from dataclasses import dataclass
from time import perf_counter

import numpy as np
from jaxtyping import Float, Int

from offdiag._checks import ConfigError, within
from offdiag.results.trajectory import Trajectory
from offdiag.theory import kernels
from offdiag.theory.population import output_variance
from offdiag.theory.problem import Problem
from offdiag.theory.state import State, covariance, pack, unpack

MAX_STEPS = 5_000  # at T = 1e12 no start of a thousand takes 500

_WHY = {
    kernels.NOT_FINITE: "the velocity is not finite",
    kernels.STEP_TOO_SMALL: "no step is small enough for the tolerance",
    kernels.TOO_MANY_STEPS: "it took more steps than max_steps",
}


@dataclass(frozen=True, kw_only=True)
class Ends:
    """Where many starts ended: what a table of outcomes needs, and no trajectories.

    `learned_at[i, j, l]` is the first time at which |c_jl| of start i passes 0.5, infinity
    if it never does; `peaks` the largest |entry| of the head off its diagonal on the way;
    `reached` the time it got to, `failures[i]` None or why it got no further; `steps` the
    integrator's steps, rejected ones too; `variance_kept` the variance of each neuron's
    output at the end over that at the start.
    """

    inner_products: Float[np.ndarray, "starts neurons features"]
    noise: Float[np.ndarray, "starts neurons neurons"]
    head: Float[np.ndarray, "starts neurons neurons"]
    learned_at: Float[np.ndarray, "starts neurons features"]
    peaks: Float[np.ndarray, " starts"]
    losses: Float[np.ndarray, " starts"]
    reached: Float[np.ndarray, " starts"]
    steps: Int[np.ndarray, " starts"]
    variance_kept: Float[np.ndarray, "starts neurons"]
    failures: tuple[str | None, ...]


def flow(
    problem: Problem,
    start: State,
    *,
    time: float,
    rtol: float = 1e-6,
    max_steps: int = MAX_STEPS,
) -> Trajectory:
    """The gradient flow from `start` to `time`, at the steps the integrator chose.

    Rodas5P with adaptive steps; `rtol` bounds the error of one step relative to each
    component (docs/theory.md, section 5). A run that fails is returned as far as it got,
    with `failure` saying why.
    """
    check(time=time, rtol=rtol)
    began = perf_counter()
    _, states, _, losses, offset, status, tried = kernels.flow(
        problem.constants(), pack(problem, start), float(time), rtol, max_steps
    )
    seconds = perf_counter() - began
    inner_products, noise_parts, head = unpack(problem, states[:, :-1])
    times = np.exp(states[:, -1]) - offset
    times[0] = 0.0
    if status == kernels.REACHED:
        times[-1] = time
    return Trajectory(
        time=times,
        inner_products=inner_products,
        noise=covariance(problem, noise_parts),
        head=head,
        loss=losses,
        problem=problem.to_dict(),
        method={"name": "flow", "rtol": rtol, "steps": int(tried)},
        seconds=seconds,
        failure=_failure(int(status), float(times[-1]), time),
    )


def flow_many(
    problem: Problem,
    starts: list[State],
    *,
    time: float,
    rtol: float = 1e-6,
    max_steps: int = MAX_STEPS,
) -> Ends:
    """The ends of `flow` from every start, in one compiled call that releases the GIL."""
    check(time=time, rtol=rtol)
    m, k, count = problem.neurons, problem.features, len(starts)
    packed = np.stack([pack(problem, start) for start in starts])
    ends, learned_at = np.empty_like(packed), np.empty((count, m, k))
    peaks, reached, losses = np.empty(count), np.empty(count), np.empty(count)
    status, tried = np.empty(count, np.int64), np.empty(count, np.int64)
    kernels.flow_many(
        problem.constants(),
        packed,
        float(time),
        rtol,
        max_steps,
        ends,
        learned_at,
        peaks,
        reached,
        losses,
        status,
        tried,
    )
    inner_products, noise_parts, head = unpack(problem, ends)
    noise = covariance(problem, noise_parts)
    first_products, first_parts, _ = unpack(problem, packed)
    return Ends(
        inner_products=inner_products,
        noise=noise,
        head=head,
        learned_at=learned_at,
        peaks=peaks,
        losses=losses,
        reached=reached,
        steps=tried,
        variance_kept=output_variance(problem, inner_products, noise)
        / output_variance(problem, first_products, covariance(problem, first_parts)),
        failures=tuple(
            _failure(int(one), float(at), time) for one, at in zip(status, reached, strict=True)
        ),
    )


def check(*, time: float, rtol: float) -> None:
    """Refuse a time or a tolerance that means nothing."""
    if not 0 < time < math.inf:
        raise ConfigError(f"time must be a positive number; got {time}.")
    within("rtol", rtol, 1e-12, 1e-2)


def _failure(status: int, at: float, time: float) -> str | None:
    if status == kernels.REACHED:
        return None
    return f"stopped at time {at:.6g} of {time:.6g}: {_WHY[status]}"
