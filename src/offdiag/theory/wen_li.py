"""Wen and Li's two-neuron theorem (docs/theory.md) behind the interface of the other dynamics.

Nothing is computed here: starts, velocity, flow and outcomes are those of `state`, `population`,
`flow` and `outcomes`, with the same numbers.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np

from offdiag.theory.claim import Claim, Finding, Share, does_not_apply, judged
from offdiag.theory.ensemble import ensemble
from offdiag.theory.flow import flow
from offdiag.theory.outcomes import VANISHED, Outcome, classify
from offdiag.theory.phase_one import horizon
from offdiag.theory.population import balance, output_variance, velocity
from offdiag.theory.problem import Problem
from offdiag.theory.solution import Solution, State
from offdiag.theory.solve import solve_starts
from offdiag.theory.state import State as Network
from offdiag.theory.state import draw


@dataclass(frozen=True, kw_only=True)
class WenLi:
    """The dynamics of a `Problem`; a sweep varies "problem.dim", "problem.head_lr_ratio", ..."""

    problem: Problem = field(default_factory=Problem)

    @property
    def horizon(self) -> float:
        """As `phase_one.horizon` has it: the first learning time grows as d^(q-1)."""
        return horizon(replace(self.problem, normaliser="bn"))

    def start(self, generator: np.random.Generator) -> State:
        """Inner products, noise parts and head, as `state.draw` draws them."""
        return _parts(draw(self.problem, generator))

    def velocity(self, time: float, state: State) -> State:
        """`population.velocity`."""
        return _parts(velocity(self.problem, Network(**state)))

    def integrate(self, start: State, *, time: float, rtol: float) -> Solution:
        """`flow`, from `start`; the state over time holds the noise's covariance, not its parts."""
        run = flow(self.problem, Network(**start), time=time, rtol=rtol)
        return Solution(
            time=run.time,
            states={
                "inner_products": run.inner_products,
                "noise_covariance": run.noise,
                "head": run.head,
                "loss": run.loss,
            },
            settings={"problem": dict(run.problem)},
            method=run.method,
            seconds=run.seconds,
            failure=run.failure,
        )

    def readings(self, solution: Solution) -> Mapping[str, np.ndarray]:
        """|<w_j, v_l>| neuron by neuron, |E| off the diagonal, loss."""
        c, E = solution.states["inner_products"], solution.states["head"]
        off = ~np.eye(E.shape[1], dtype=bool)
        return {
            "inner_products": np.abs(c).reshape(len(c), -1),
            "off_diagonal": np.abs(E[:, off]),
            "loss": solution.states["loss"],
        }

    def outcome(self, solution: Solution) -> Outcome:
        """As `outcomes` classifies it."""
        c, noise = solution.states["inner_products"], solution.states["noise_covariance"]
        variance = output_variance(self.problem, c[[0, -1]], noise[[0, -1]])
        return classify(
            self.problem,
            c[-1:],
            vanished=np.array([bool((variance[1] < VANISHED * variance[0]).all())]),
            failed=np.array([solution.failure is not None]),
        )[0]


def _parts(network: Network) -> State:
    return {
        "inner_products": network.inner_products,
        "noise_parts": network.noise_parts,
        "head": network.head,
    }


def head_keeps_both(dynamics: WenLi, starts: int) -> Finding:
    problem = dynamics.problem
    if problem.head_lr_ratio == 0:
        return does_not_apply("the problem has no head that learns")
    shares, starts = {}, 10 * starts  # a start takes milliseconds
    for name, one in (("with", problem), ("without", replace(problem, head_lr_ratio=0.0))):
        run = ensemble(one, time=dynamics.horizon, count=starts)
        shares[name] = Share(run.outcomes.count(Outcome.DIVERSE), starts)
    return judged(
        shares["with"].low > shares["without"].high,
        f"starts that learn all features: {shares['with']} with the head, {shares['without']} "
        "without",
        numbers=shares,
        starts=2 * starts,
    )


def balance_conserved(dynamics: WenLi, starts: int) -> Finding:
    problem = dynamics.problem
    if problem.head_lr_ratio == 0 or problem.normaliser != "bn":
        return does_not_apply("the law is for a head that learns and normalised outputs")
    worst = 0.0
    for run in solve_starts(dynamics, starts):
        parts = (run.states[n] for n in ("inner_products", "noise_covariance", "head"))
        kept = balance(problem, *parts)
        worst = max(worst, float(np.abs(kept - kept[0]).max() / np.abs(kept[0]).max()))
    return judged(
        worst < 1e-3,
        f"largest relative drift {worst:.1e}",
        numbers={"drift": worst},
        starts=starts,
    )


CLAIMS: tuple[Claim[WenLi], ...] = (
    Claim(
        key="head-keeps-both",
        title="The head keeps all features",
        source="Wen and Li 2022",
        statement="More starts learn all features with a head that learns off its diagonal",
        requirement="share with the head above that without, intervals apart",
        measure=head_keeps_both,
    ),
    Claim(
        key="balance",
        title="A balance is conserved",
        source="docs/theory.md, eq. 14",
        statement="Size of a neuron and entries of the head keep their balance",
        requirement="relative drift below 1e-3",
        measure=balance_conserved,
    ),
)
"""Two of the theorem's claims, quick to measure; `theory.claims` has all of them."""
