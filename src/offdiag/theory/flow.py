"""The exact gradient flow, by a stiff integrator, one start or many."""

import math
import os
import threading
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from time import perf_counter
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from offdiag._checks import ConfigError, within
from offdiag.results.trajectory import Trajectory
from offdiag.theory import kernels, lanes
from offdiag.theory.population import output_variance
from offdiag.theory.problem import Problem
from offdiag.theory.simd import LANES
from offdiag.theory.state import State, covariance, pack, unpack

MAX_STEPS = 5_000  # at T = 1e12 no start of a thousand takes 500
MOST_EQUATIONS = 700  # a step solves as many linear equations as the state has numbers
USUAL_STEPS = 300  # of a start, for estimates
ANSWER_SECONDS = 0.2  # how long a compiled call lasts before it looks for an interruption

_WHY = {
    kernels.NOT_FINITE: "the velocity is not finite",
    kernels.STEP_TOO_SMALL: "no step is small enough for the tolerance",
    kernels.TOO_MANY_STEPS: "it took more steps than max_steps",
}

Progress = Callable[[int, int], None]  # receives how many starts have ended, of how many


class Interrupted(KeyboardInterrupt):
    """Ctrl-C during many starts: `finished` holds the ends of the starts `indices`."""

    def __init__(self, finished: "FinalStates", indices: Sequence[int]) -> None:
        super().__init__(f"interrupted after {len(indices)} starts")
        self.finished = finished
        self.indices = tuple(indices)


@dataclass(frozen=True, kw_only=True)
class FinalStates:
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
    check_size(problem)
    began = perf_counter()
    packed = pack(problem, start)[None]
    found = lanes.queue(packed, problem.neurons, problem.features, records=512)
    work, constants = _workspace(problem), problem.constants()
    lanes.prepare(constants, work, found)
    rounds = rounds_in(ANSWER_SECONDS, problem)
    while lanes.advance(constants, work, found, float(time), rtol, max_steps, rounds):
        if found.kept[0] == found.states.shape[0]:
            found = found._replace(
                states=np.concatenate([found.states, np.empty_like(found.states)]),
                losses_on_the_way=np.concatenate(
                    [found.losses_on_the_way, found.losses_on_the_way]
                ),
            )
    kept, status, tried = int(found.kept[0]), found.status[0], found.tried[0]
    states, losses = found.states[:kept].copy(), found.losses_on_the_way[:kept].copy()
    offset = work.lane[lanes.OFFSET, 0]
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
    jobs: int = 1,
    on_progress: Progress | None = None,
) -> FinalStates:
    """The final states of `flow` from every start, in compiled calls that release the GIL.

    `jobs` threads (-1: one for each core); how a start ends does not depend on how many, nor
    on the starts beside it. Ctrl-C is answered within a second, by `Interrupted`, which holds
    what was done by then. `on_progress` is called from the calling thread.
    """
    check(time=time, rtol=rtol)
    check_size(problem)
    packed = np.stack([pack(problem, start) for start in starts])
    threads = max(1, min(processors() if jobs < 0 else jobs, math.ceil(len(starts) / LANES)))
    queues = [
        lanes.queue(packed[i::threads].copy(), problem.neurons, problem.features)
        for i in range(threads)
    ]
    constants, rounds = problem.constants(), rounds_in(ANSWER_SECONDS, problem)
    stop = threading.Event()

    def work_off(queue: lanes.Queue, on_round: Callable[[], None]) -> None:
        work = _workspace(problem)
        lanes.prepare(constants, work, queue)
        while not stop.is_set() and lanes.advance(
            constants, work, queue, float(time), rtol, max_steps, rounds
        ):
            on_round()

    def report() -> None:
        if on_progress is not None:
            on_progress(sum(int(queue.done[0]) for queue in queues), len(starts))

    interrupted = False
    try:
        if threads == 1:
            work_off(queues[0], report)
        else:
            _run_threads([partial(work_off, queue, lambda: None) for queue in queues], report, stop)
    except KeyboardInterrupt:
        interrupted = True
        stop.set()
    else:
        report()
    indices = np.concatenate([np.arange(i, len(starts), threads) for i in range(threads)])
    order = np.argsort(indices)
    joined = {
        name: np.concatenate([getattr(queue, name) for queue in queues])[order]
        for name in ("ends", "learned", "peaks", "reached", "losses", "status", "tried")
    }
    done = np.nonzero(joined["status"] >= 0)[0]
    finished = _final_states(
        problem, packed[done], {name: rows[done] for name, rows in joined.items()}, time
    )
    if interrupted:
        raise Interrupted(finished, done.tolist())
    return finished


def _run_threads(
    tasks: Sequence[Callable[[], None]], report: Callable[[], None], stop: threading.Event
) -> None:
    """Run the tasks, one thread each, reporting meanwhile; what one raises is raised here.

    Sets `stop` and waits for the tasks to heed it if the waiting is interrupted.
    """
    failures: list[BaseException] = []

    def guarded(task: Callable[[], None]) -> None:
        try:
            task()
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=guarded, args=(task,), daemon=True) for task in tasks]
    for thread in threads:
        thread.start()
    try:
        for thread in threads:
            while thread.is_alive():
                thread.join(ANSWER_SECONDS)
                if thread.is_alive():
                    report()
    except BaseException:
        stop.set()
        for thread in threads:
            thread.join()
        raise
    if failures:
        raise failures[0]


def _workspace(problem: Problem) -> lanes.Work:
    return lanes.workspace(problem.neurons, problem.features, int(problem.trains.sum()))


def _final_states(
    problem: Problem, packed: np.ndarray, found: dict[str, np.ndarray], time: float
) -> FinalStates:
    inner_products, noise_parts, head = unpack(problem, found["ends"])
    noise = covariance(problem, noise_parts)
    first_products, first_parts, _ = unpack(problem, packed)
    return FinalStates(
        inner_products=inner_products,
        noise=noise,
        head=head,
        learned_at=found["learned"],
        peaks=found["peaks"],
        losses=found["losses"],
        reached=found["reached"],
        steps=found["tried"],
        variance_kept=output_variance(problem, inner_products, noise)
        / output_variance(problem, first_products, covariance(problem, first_parts)),
        failures=tuple(
            _failure(int(one), float(at), time)
            for one, at in zip(found["status"], found["reached"], strict=True)
        ),
    )


def equations(problem: Problem) -> int:
    """How many linear equations a step solves: the numbers of the state, and the time."""
    m = problem.neurons
    return m * (m + problem.features) + int(problem.trains.sum()) + 1


def seconds_a_step(problem: Problem) -> float:
    """About how long a step takes on one core, from what 11 to 137 equations took."""
    return 0.8e-6 + 5.5e-11 * equations(problem) ** 3


def estimated_seconds(problem: Problem, *, starts: int, jobs: int = 1) -> float:
    """About how long `starts` starts take, to a factor of three; compiling not counted."""
    threads = max(1, min(processors() if jobs < 0 else jobs, math.ceil(starts / LANES)))
    busy = math.ceil(starts / LANES / threads) * LANES
    return busy * USUAL_STEPS * seconds_a_step(problem)


def rounds_in(seconds: float, problem: Problem) -> int:
    """How many steps in every lane a compiled call may take to last about that long."""
    return max(1, int(seconds / (LANES * seconds_a_step(problem))))


def processors() -> int:
    """The cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def check(*, time: float, rtol: float) -> None:
    """Refuse a time or a tolerance that means nothing."""
    if not 0 < time < math.inf:
        raise ConfigError(f"time must be a positive number; got {time}.")
    within("rtol", rtol, 1e-12, 1e-2)


def check_size(problem: Problem) -> None:
    """Refuse a problem whose steps would take seconds each."""
    count = equations(problem)
    if count > MOST_EQUATIONS:
        raise ConfigError(
            f"a step may solve at most {MOST_EQUATIONS} linear equations; {problem.neurons} "
            f"neurons and {problem.features} features need {count}, for which one start would "
            f"take about {_in_words(USUAL_STEPS * seconds_a_step(problem))}. Take fewer neurons."
        )


def _in_words(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} seconds"
    return f"{seconds / 60:.0f} minutes" if seconds < 5400 else f"{seconds / 3600:.0f} hours"


def _failure(status: int, at: float, time: float) -> str | None:
    if status == kernels.REACHED:
        return None
    return f"stopped at time {at:.6g} of {time:.6g}: {_WHY[status]}"


def __getattr__(name: str) -> Any:
    if name == "Ends":
        warnings.warn("Ends is now called FinalStates", DeprecationWarning, stacklevel=2)
        return FinalStates
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
