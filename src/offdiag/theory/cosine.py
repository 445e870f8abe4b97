"""The cosine loss of a linear network with weight decay, by modes (Bao 2023).

Features Phi x and prediction W Phi x of Gaussian inputs, views with noise of variance sigma^2,
loss -E cos(prediction, stop_gradient(features)) + (rho / 2) (|Phi|^2 + |W|^2), in the limit of
many modes where norms are constants. Aligned modes: p_j of W, s_j of Phi Phi^T.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Literal

import numpy as np
from jaxtyping import Float

from offdiag._checks import at_least, choice
from offdiag.theory.claim import Claim, Finding, Share, does_not_apply, judged
from offdiag.theory.dynamics import Learned
from offdiag.theory.solution import Solution, State
from offdiag.theory.solve import solve_starts

PAPER = "Bao 2023"
HERE = "derived here"
ORDERS = ("leading", "paper")
LEVEL = 0.05  # a mode is learned if p_j is above this share of the largest


class Regime(StrEnum):
    """Where a mode is while the norms are held: by the roots of its velocity at p > 0."""

    COLLAPSE = "collapse"  # no root: the mode falls
    ACUTE = "acute"  # two roots, the mode below the unstable one: it falls
    STABLE = "stable"  # above the unstable root: it goes to the stable one


@dataclass(frozen=True, kw_only=True)
class Cosine:
    """Modes p_j (head) and s_j (Phi Phi^T); they start balanced, s = p^2.

    `order` "leading" is the limit of many modes and agrees with sampled gradients; "paper" adds
    the term 2 p_j^2 s_j^2, of sixth order on s = p^2, which is said to be the paper's and does
    not agree with them. p starts uniform in scale x [1 - spread, 1 + spread].
    """

    modes: int = 8
    noise_variance: float = 0.1
    weight_decay: float = 0.05
    scale: float = 2.0
    spread: float = 0.5
    order: Literal["leading", "paper"] = "leading"

    def __post_init__(self) -> None:
        choice("order", self.order, ORDERS)
        at_least("modes", float(self.modes), 1.0)
        at_least("weight_decay", self.weight_decay, 0.0)

    @property
    def horizon(self) -> float:
        """A few times the decay of the norms."""
        return 3.0 / max(self.weight_decay, 0.01)

    def start(self, generator: np.random.Generator) -> State:
        """Balanced modes."""
        p = self.scale * generator.uniform(1 - self.spread, 1 + self.spread, self.modes)
        return {"head": p, "features": p**2}

    def pull(
        self, p: Float[np.ndarray, "*times modes"], s: Float[np.ndarray, "*times modes"]
    ) -> Float[np.ndarray, "*times modes"]:
        """p' without weight decay."""
        a = 1 + self.noise_variance
        N_phi, N_psi, t = _norms(a, p, s)
        turned = t * p * s
        if self.order == "paper":
            turned = turned + 2 * p**2 * s**2
        return np.asarray((s - a / N_psi**2 * turned) / (N_psi * N_phi))

    def velocity(self, time: float, state: State) -> State:
        """p' = pull - rho p; s' = 2 p pull - 2 rho s."""
        p, s, rho = state["head"], state["features"], self.weight_decay
        pull = self.pull(p, s)
        return {"head": pull - rho * p, "features": 2 * p * pull - 2 * rho * s}

    def readings(self, solution: Solution) -> Mapping[str, np.ndarray]:
        """Modes of the head, their norm |p|, spread min/max, and norms of both outputs."""
        p, s = solution.states["head"], solution.states["features"]
        N_phi, N_psi, _ = _norms(1 + self.noise_variance, p, s)
        return {
            "head": p,
            "norm": np.linalg.norm(p, axis=-1),
            "evenness": p.min(-1) / p.max(-1),
            "feature_norm": N_phi[..., 0],
            "prediction_norm": N_psi[..., 0],
        }

    def regimes(self, solution: Solution) -> list[list[Regime]]:
        """The regime of each mode at each time, with the norms held at that time.

        On s = p^2, to leading order: p' = a p^2 - b p^3 - rho p with a = 1 / (N_psi N_phi) and
        b = a (1 + sigma^2) t / N_psi^2; its roots at p > 0 are real if a^2 >= 4 b rho.
        """
        c = 1 + self.noise_variance
        found = []
        for p, s in zip(solution.states["head"], solution.states["features"], strict=True):
            N_phi, N_psi, t = (float(one[0]) for one in _norms(c, p, s))
            a = 1 / (N_psi * N_phi)
            b = a * c * t / N_psi**2
            inside = a**2 - 4 * b * self.weight_decay
            if inside < 0:
                found.append([Regime.COLLAPSE] * len(p))
            else:
                edge = (a - inside**0.5) / (2 * b)
                found.append([Regime.STABLE if x >= edge else Regime.ACUTE for x in p])
        return found

    def outcome(self, solution: Solution) -> Learned:
        """How many modes are above `LEVEL` times the largest: the loss does not see the norm."""
        p = solution.states["head"][-1]
        return Learned.of(solution, p / p.max(), LEVEL)


def _norms(a: float, p: np.ndarray, s: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """N_phi, N_psi and t = sum p s, each with a last axis of one."""
    return (
        np.sqrt(a * s.sum(-1, keepdims=True)),
        np.sqrt(a * (p**2 * s).sum(-1, keepdims=True)),
        (p * s).sum(-1, keepdims=True),
    )


def scale_invariance(dynamics: Cosine, starts: int) -> Finding:
    if dynamics.order != "leading":
        return does_not_apply("the sixth-order term breaks it")
    worst = 0.0
    for run in solve_starts(dynamics, starts, rtol=1e-8):
        norm = dynamics.readings(run)["norm"]
        law = norm[0] * np.exp(-dynamics.weight_decay * run.time)
        worst = max(worst, float(np.abs(norm / law - 1).max()))
    return judged(
        worst < 1e-4,
        f"largest relative departure of |p| from exp(-rho t) {worst:.1e}",
        numbers={"departure": worst},
        starts=starts,
    )


def three_regimes(dynamics: Cosine, starts: int) -> Finding:
    if dynamics.weight_decay == 0:
        return does_not_apply("without weight decay every mode is stable")
    seen: set[Regime] = set()
    right = total = 0
    for scale in (0.3, 1.0, 3.0):
        one = replace(dynamics, scale=scale, spread=0.9, weight_decay=0.1)
        for run in solve_starts(one, starts):
            regimes = one.regimes(run)
            p, s = run.states["head"], run.states["features"]
            rates = one.pull(p, s) - one.weight_decay * p
            for now, rate in zip(regimes, rates, strict=True):
                seen.update(now)
                falls = [r < 0 for g, r in zip(now, rate, strict=True) if g is not Regime.STABLE]
                right += sum(bool(one_falls) for one_falls in falls)
                total += len(falls)
    share = Share(right, total)
    return judged(
        len(seen) == 3 and share.value > 0.999,
        f"regimes seen: {', '.join(sorted(seen))}; modes in collapse or acute that fall: {share}",
        numbers={"seen": sorted(seen), "falling": share},
        starts=3 * starts,
    )


def decay_into_stability(dynamics: Cosine, starts: int) -> Finding:
    if dynamics.weight_decay == 0:
        return does_not_apply("without weight decay the norms do not fall")
    large = replace(dynamics, scale=max(dynamics.scale, 4 / dynamics.weight_decay**0.5 / 4))
    began = ended = 0
    for run in solve_starts(large, starts, time=10 / large.weight_decay):
        regimes = large.regimes(run)
        began += all(one is Regime.COLLAPSE for one in regimes[0])
        ended += all(one is Regime.STABLE for one in regimes[-1])
    first, last = Share(began, starts), Share(ended, starts)
    if began == 0:
        return does_not_apply("no start is in the collapse regime", starts=starts)
    return judged(
        last.count == starts and first.count == starts,
        f"all modes in collapse at the start: {first}; all stable at the end: {last}",
        numbers={"collapse_first": first, "stable_last": last},
        starts=starts,
    )


def lasting_norm(dynamics: Cosine, starts: int) -> Finding:
    if dynamics.weight_decay == 0:
        return does_not_apply("without weight decay nothing makes the norm fall")
    time = 4 / dynamics.weight_decay
    shrunk = []
    for run in solve_starts(dynamics, starts, time=time):
        norm = dynamics.readings(run)["norm"]
        shrunk.append(float(norm[-1] / norm[0]))
    even = [
        float(dynamics.readings(run)["evenness"][-1])
        for run in solve_starts(dynamics, starts, time=time)
    ]
    return judged(
        max(shrunk) < 0.05 and min(even) > 0.9,
        f"|p| at t = {time:.3g} over its start, largest {max(shrunk):.2g}; smallest over largest "
        f"mode, least {min(even):.3g}",
        numbers={"norm": max(shrunk), "evenness": min(even)},
        starts=starts,
    )


CLAIMS: tuple[Claim[Cosine], ...] = (
    Claim(
        key="scale-invariance",
        title="The loss does not move the norm",
        source=HERE,
        statement="On balanced modes |p| decays as exp(-rho t), whatever the modes do",
        requirement="within 1e-4",
        measure=scale_invariance,
    ),
    Claim(
        key="three-regimes",
        title="Three regimes",
        source=f"{PAPER} (abstract); borders derived here",
        statement="With the norms held a mode is in collapse, acute or stable; in the first two "
        "it falls",
        requirement="all three occur, and 99.9 % of the modes in the first two fall",
        measure=three_regimes,
    ),
    Claim(
        key="decay-into-stability",
        title="Norms decay into stability",
        source=f"{PAPER} (abstract)",
        statement="Weight decay shrinks the norms until modes that had no equilibrium are stable",
        requirement="every start: all modes in collapse first, all stable at the end",
        measure=decay_into_stability,
    ),
    Claim(
        key="even-not-lasting",
        title="What is stable is the shape, not the norm",
        source=HERE,
        statement="With norms that follow, |p| goes to 0 while the modes become equal",
        requirement="norm below 5 % and smallest over largest mode above .9 in every start",
        measure=lasting_norm,
    ),
)
