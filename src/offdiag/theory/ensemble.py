"""Many starts of one problem, and what they come to."""

from dataclasses import dataclass
from time import perf_counter
from typing import Any

import numpy as np
from jaxtyping import Float

from offdiag._checks import at_least
from offdiag.theory.flow import FinalStates, Interrupted, Progress, flow_many
from offdiag.theory.outcomes import Outcome, outcomes, shares
from offdiag.theory.problem import Problem
from offdiag.theory.state import starts


@dataclass(frozen=True, kw_only=True)
class Ensemble:
    """The final states and outcomes of many starts of one problem, run to `time`."""

    problem: Problem
    time: float
    ends: FinalStates
    outcomes: list[Outcome]
    seconds: float

    @property
    def strong_feature_times(self) -> Float[np.ndarray, " starts"]:
        """When the first neuron passed |c| = 0.5 on the strongest feature; infinity if none."""
        strong = int(np.argmax(self.problem.strengths))
        return np.asarray(self.ends.learned_at[:, :, strong].min(axis=1))

    @property
    def final_off_diagonal(self) -> Float[np.ndarray, " starts"]:
        """Largest |entry| of the head off its diagonal at the end."""
        off = ~np.eye(self.problem.neurons, dtype=bool)
        return np.asarray(np.abs(self.ends.head * off).max(axis=(1, 2)))

    def to_dict(self) -> dict[str, Any]:
        """Shares and medians over the starts, and the problem, as JSON can hold them.

        `head_stuck` is the share of starts whose head ends above half its peak. Medians are
        over the starts that reached the end; a median time is None if half of them never
        got there.
        """
        kept = np.array([failure is None for failure in self.ends.failures])
        return {
            **shares(self.outcomes),
            "median_max_off_diagonal": _median(self.ends.peaks[kept]),
            "median_final_off_diagonal": _median(self.final_off_diagonal[kept]),
            "median_time_strong_feature": _median(self.strong_feature_times[kept]),
            "head_stuck": float((self.final_off_diagonal > 0.5 * self.ends.peaks)[kept].mean())
            if kept.any()
            else None,
            "median_loss": _median(self.ends.losses[kept]),
            "least_loss": self.problem.least_loss,
            "median_steps": _median(self.ends.steps.astype(float)),
            "starts": len(self.outcomes),
            "failures": [
                {"start": i, "why": failure}
                for i, failure in enumerate(self.ends.failures)
                if failure is not None
            ],
            "time": self.time,
            "seconds": self.seconds,
            "problem": self.problem.to_dict(),
        }


class InterruptedEnsemble(KeyboardInterrupt):
    """Ctrl-C during an ensemble: `partial` holds the starts that had ended, if any had."""

    def __init__(self, partial: Ensemble | None) -> None:
        super().__init__("interrupted")
        self.partial = partial


def ensemble(
    problem: Problem,
    *,
    time: float,
    count: int,
    rtol: float = 1e-6,
    jobs: int = 1,
    on_progress: Progress | None = None,
) -> Ensemble:
    """Run the flow from `count` starts drawn from the problem's seed, on `jobs` threads.

    `seconds` counts the integration, not the first call's compilation. Ctrl-C is answered
    within a second, by `InterruptedEnsemble`.
    """
    at_least("starts", float(count), 1.0)
    flow_many(problem, starts(problem, 1), time=min(time, 1.0), rtol=rtol, max_steps=2)  # compiles
    began = perf_counter()

    def read(ends: FinalStates) -> Ensemble:
        return Ensemble(
            problem=problem,
            time=time,
            ends=ends,
            outcomes=outcomes(problem, ends),
            seconds=perf_counter() - began,
        )

    try:
        ends = flow_many(
            problem,
            starts(problem, count),
            time=time,
            rtol=rtol,
            jobs=jobs,
            on_progress=on_progress,
        )
    except Interrupted as stopped:
        partial = read(stopped.finished) if stopped.indices else None
        raise InterruptedEnsemble(partial) from None
    return read(ends)


def _median(values: Float[np.ndarray, " some"]) -> float | None:
    if not values.size:
        return None
    middle = float(np.median(values))
    return middle if np.isfinite(middle) else None
