"""Where each start ended, in words, and the shares of many of them."""

from collections.abc import Mapping
from enum import StrEnum

import numpy as np
from jaxtyping import Bool, Float, Int

from offdiag.theory.flow import FinalStates
from offdiag.theory.problem import Problem

LEARNED = 0.1  # a neuron has learned a feature if |c| is above this at the end
VANISHED = 1e-3  # complete collapse: every output variance below this share of its start


class Outcome(StrEnum):
    """How one start ended. With two neurons and two features `PARTIAL` cannot happen."""

    DIVERSE = "diverse"  # all neurons learned, and min(m, k) different features among them
    PARTIAL = "partial"  # all neurons learned, more than one feature but fewer than min(m, k)
    COLLAPSED_STRONG = "collapsed_strong"  # all neurons on the feature of largest strength
    COLLAPSED_OTHER = "collapsed_other"  # all neurons on one other feature
    UNLEARNED = "unlearned"  # a neuron has no inner product above LEARNED
    VANISHED = "vanished"  # complete collapse: all outputs shrank to nothing
    FAILED = "failed"  # the integrator did not reach the end


def main_feature(
    inner_products: Float[np.ndarray, "*batch neurons features"],
) -> Int[np.ndarray, "*batch neurons"]:
    """The feature each neuron is most aligned with, by |c|; -1 if none is above LEARNED."""
    size = np.abs(inner_products)
    return np.where(size.max(-1) > LEARNED, size.argmax(-1), -1)


def classify(
    problem: Problem,
    inner_products: Float[np.ndarray, "starts neurons features"],
    *,
    vanished: Bool[np.ndarray, " starts"],
    failed: Bool[np.ndarray, " starts"],
) -> list[Outcome]:
    """The outcome of each start from its last inner products."""
    strong = int(np.argmax(problem.strengths))
    most = min(problem.neurons, problem.features)
    outcomes = []
    for features, gone, broken in zip(main_feature(inner_products), vanished, failed, strict=True):
        found = set(features.tolist())
        if broken:
            outcomes.append(Outcome.FAILED)
        elif gone:
            outcomes.append(Outcome.VANISHED)
        elif -1 in found:
            outcomes.append(Outcome.UNLEARNED)
        elif len(found) == 1 < most:
            outcomes.append(
                Outcome.COLLAPSED_STRONG if found == {strong} else Outcome.COLLAPSED_OTHER
            )
        elif len(found) >= most:
            outcomes.append(Outcome.DIVERSE)
        else:
            outcomes.append(Outcome.PARTIAL)
    return outcomes


def outcomes(problem: Problem, ends: FinalStates) -> list[Outcome]:
    """The outcome of each start."""
    return classify(
        problem,
        ends.inner_products,
        vanished=np.all(ends.variance_kept < VANISHED, axis=-1),
        failed=np.array([failure is not None for failure in ends.failures]),
    )


def shares(outcomes: list[Outcome]) -> Mapping[str, float]:
    """The share of each outcome, in [0, 1]; together 1."""
    return {str(one): outcomes.count(one) / len(outcomes) for one in Outcome}
