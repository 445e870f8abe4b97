"""Two trajectories to put beside a training run: one start, with a head and without."""

from dataclasses import replace

from offdiag.results.trajectory import Trajectory
from offdiag.theory.flow import flow
from offdiag.theory.outcomes import Outcome
from offdiag.theory.problem import Problem
from offdiag.theory.state import starts


def beside_practice(
    problem: Problem | None = None, *, time: float = 1e7, start: int = 3
) -> tuple[Trajectory, Trajectory]:
    """The flow with the head and without it, from the same start; a few milliseconds.

    By default the reference problem and a start that collapses without the head and learns
    both features with it: `OUTCOMES`, which the tests hold.
    """
    chosen = Problem() if problem is None else problem
    begin = starts(chosen, start + 1)[start]
    plain = replace(chosen, head_lr_ratio=0.0)
    return flow(chosen, begin, time=time), flow(plain, begin, time=time)


OUTCOMES = (Outcome.DIVERSE, Outcome.COLLAPSED_STRONG)
