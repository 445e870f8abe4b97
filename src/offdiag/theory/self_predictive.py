"""Self-predictive representations of a Markov chain (Tang et al. 2022), at any rate of the head.

Each of the states has a row of Phi; the loss is 1/2 |Phi P - stop_gradient(T Phi)|^2 with
transition matrix T and head P.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
from jaxtyping import Float

from offdiag._checks import at_least
from offdiag.theory.claim import Claim, Finding, Share, does_not_apply, judged
from offdiag.theory.dynamics import Learned
from offdiag.theory.solution import Solution, State
from offdiag.theory.solve import generators, solve, solve_starts

PAPER = "Tang et al. 2022"
HERE = "derived here"
LEVEL = 0.05  # a direction is kept if its singular value is above this share of the largest start


@dataclass(frozen=True, kw_only=True)
class SelfPredictive:
    """Representation Phi (chain_states, width) and head P (width, width), unless it is exact.

    `head_lr_ratio` is the learning rate of the head over that of Phi; infinity refits the head
    at every instant, P = (Phi^T Phi)^-1 Phi^T T Phi. `chain_seed` draws a doubly stochastic T,
    the mean of permutations, symmetric or not. The representation starts orthonormal, the head
    with entries of standard deviation `head_scale`.
    """

    chain_states: int = 10
    width: int = 3
    head_lr_ratio: float = 1.0
    weight_decay: float = 0.0
    stop_gradient: bool = True
    symmetric_chain: bool = True
    chain_seed: int = 0
    head_scale: float = 0.1

    def __post_init__(self) -> None:
        at_least("width", float(self.width), 1.0)
        at_least("chain_states", float(self.chain_states), float(self.width))
        at_least("weight_decay", self.weight_decay, 0.0)

    @property
    def exact_head(self) -> bool:
        """Whether the head is the best one at every instant."""
        return self.head_lr_ratio == np.inf

    @property
    def horizon(self) -> float:
        """Long against the relaxation of the chain."""
        return 200.0 if self.weight_decay == 0 else 40 / self.weight_decay

    @property
    def chain(self) -> Float[np.ndarray, "states states"]:
        """The transition matrix T."""
        return transition_matrix(self.chain_states, self.chain_seed, self.symmetric_chain)

    def start(self, generator: np.random.Generator) -> State:
        """Orthonormal features and a small random head."""
        n, k = self.chain_states, self.width
        Phi = np.linalg.qr(generator.standard_normal((n, k)))[0]
        if self.exact_head:
            return {"representation": Phi}
        return {
            "representation": Phi,
            "head": self.head_scale * generator.standard_normal((k, k)) / np.sqrt(k),
        }

    def velocity(self, time: float, state: State) -> State:
        """-gradient of the loss with weight decay."""
        Phi, T, eta = state["representation"], self.chain, self.weight_decay
        target = T @ Phi
        P = np.linalg.lstsq(Phi, target, rcond=None)[0] if self.exact_head else state["head"]
        residual = target - Phi @ P
        moved = residual @ P.T - eta * Phi
        if not self.stop_gradient:
            moved = moved - T.T @ residual
        if self.exact_head:
            return {"representation": moved}
        return {
            "representation": moved,
            "head": self.head_lr_ratio * Phi.T @ residual - eta * P,
        }

    def readings(self, solution: Solution) -> Mapping[str, np.ndarray]:
        """Singular values of Phi, and captured = 1/2 |Phi^T T Phi|^2."""
        Phi = solution.states["representation"]
        inner = np.swapaxes(Phi, -1, -2) @ self.chain @ Phi
        return {
            "singular_values": np.linalg.svd(Phi, compute_uv=False),
            "captured": (inner**2).sum((-2, -1)) / 2,
        }

    def balance(self, solution: Solution) -> Float[np.ndarray, "times width width"]:
        """Phi^T Phi - P P^T / head_lr_ratio: conserved, times exp(-2 eta t) with decay."""
        Phi = solution.states["representation"]
        gram = np.swapaxes(Phi, -1, -2) @ Phi
        if self.exact_head:
            return np.asarray(gram)
        P = solution.states["head"]
        return np.asarray(gram - P @ np.swapaxes(P, -1, -2) / self.head_lr_ratio)

    def outcome(self, solution: Solution) -> Learned:
        """Whether all, some or no directions of the representation are left."""
        sizes = self.readings(solution)["singular_values"]
        return Learned.of(solution, sizes[-1], LEVEL * float(sizes[0].max()))


@lru_cache(maxsize=256)
def transition_matrix(
    states: int, seed: int, symmetric: bool
) -> Float[np.ndarray, "states states"]:
    """A doubly stochastic matrix, the mean of three permutations, or its symmetric part."""
    generator = np.random.default_rng(seed)
    T = np.mean([np.eye(states)[generator.permutation(states)] for _ in range(3)], axis=0)
    T = (T + T.T) / 2 if symmetric else T
    T.flags.writeable = False
    return np.asarray(T)


def conserved(dynamics: SelfPredictive, starts: int) -> Finding:
    if not dynamics.stop_gradient:
        return does_not_apply("without stop-gradient the target moves the features too")
    drift = {}
    for ratio in (0.1, 1.0, 10.0, np.inf):
        one = replace(dynamics, head_lr_ratio=ratio)
        worst = 0.0
        for run in solve_starts(one, starts, time=20.0, rtol=1e-8):
            kept = one.balance(run) * np.exp(2 * one.weight_decay * run.time)[:, None, None]
            worst = max(worst, float(np.abs(kept - kept[0]).max()))
        drift[f"{ratio:g}"] = worst
    worst = max(drift.values())
    return judged(
        worst < 1e-4,
        f"largest drift to t = 20 at head rates .1, 1, 10 and exact: {worst:.1e}",
        numbers={"drift": drift},
        starts=4 * starts,
    )


def no_collapse(dynamics: SelfPredictive, starts: int) -> Finding:
    shares = {}
    for ratio in (0.1, 1.0, 10.0):
        one = replace(dynamics, head_lr_ratio=ratio, weight_decay=0.0, stop_gradient=True)
        kept = [one.outcome(run) is Learned.ALL for run in solve_starts(one, starts, rtol=1e-4)]
        shares[f"{ratio:g}"] = Share(sum(kept), starts)
    words = ", ".join(f"{ratio}: {share}" for ratio, share in shares.items())
    return judged(
        all(share.count == starts for share in shares.values()),
        f"all directions kept, by head rate: {words}",
        numbers=shares,
        starts=3 * starts,
    )


def collapse_with_decay(dynamics: SelfPredictive, starts: int) -> Finding:
    values, vectors = np.linalg.eigh(replace(dynamics, symmetric_chain=True).chain)
    below, left = 0.0, {}
    for decay in (0.02, 0.05, 0.1, 0.3):
        one = replace(
            dynamics,
            weight_decay=decay,
            stop_gradient=True,
            symmetric_chain=True,
            head_lr_ratio=1.0,
            head_scale=1.0,
        )
        runs = solve_starts(one, starts, rtol=1e-4)
        ends = np.stack([run.states["representation"][-1] for run in runs])
        lost = vectors[:, values**2 < 4 * decay]
        below = max(below, float(np.abs(lost.T @ ends).max(initial=0.0)))
        left[f"{decay:g}"] = float((np.linalg.svd(ends, compute_uv=False) > LEVEL).sum(1).mean())
    words = ", ".join(f"{decay}: {count:.2g}" for decay, count in left.items())
    return judged(
        below < 1e-2 and left["0.3"] == 0,
        f"largest rest below the threshold {below:.1e}; mean directions left of "
        f"{dynamics.width}, by decay: {words}",
        numbers={"below": below, "left": left},
        starts=4 * starts,
    )


def collapse_without_stop_gradient(dynamics: SelfPredictive, starts: int) -> Finding:
    one = replace(dynamics, stop_gradient=False, head_lr_ratio=1.0, weight_decay=0.0)
    smallest = [
        float(one.readings(run)["singular_values"][-1].min()) for run in solve_starts(one, starts)
    ]
    fewer = Share(sum(value < 0.5 for value in smallest), starts)
    return judged(
        fewer.low > 0.5,
        f"smallest singular value at the end (1 at the start), median "
        f"{np.median(smallest):.2g}; below .5: {fewer}",
        numbers={"median_smallest": float(np.median(smallest)), "below": fewer},
        starts=starts,
    )


def captures_top_eigenvalues(dynamics: SelfPredictive, starts: int) -> Finding:
    one = replace(
        dynamics, head_lr_ratio=np.inf, weight_decay=0.0, stop_gradient=True, symmetric_chain=True
    )
    squares = np.sort(np.linalg.eigvalsh(one.chain) ** 2)[::-1]
    goal = float(squares[: one.width].sum() / 2)
    falls, reached = 0.0, []
    for run in solve_starts(one, starts, time=1_000.0):
        captured = one.readings(run)["captured"]
        falls = max(falls, float(-np.diff(captured).min()))
        reached.append(float(captured[-1] / goal))
    there = Share(sum(value > 0.99 for value in reached), starts)
    return judged(
        falls < 1e-5 and there.low > 0.5,
        f"largest fall {max(falls, 0):.1e}; of the most that {one.width} directions can capture, "
        f"median {np.median(reached):.3g}; above .99: {there}",
        numbers={"fall": falls, "reached": reached, "there": there},
        starts=starts,
    )


def general_chain_not_monotone(dynamics: SelfPredictive, starts: int) -> Finding:
    one = replace(
        dynamics, head_lr_ratio=np.inf, weight_decay=0.0, stop_gradient=True, symmetric_chain=False
    )
    falling = 0
    for seed, generator in enumerate(generators(starts)):
        chain = replace(one, chain_seed=seed)
        captured = chain.readings(solve(chain, chain.start(generator)))["captured"]
        falling += bool(np.diff(captured).min() < -1e-4)
    share = Share(falling, starts)
    return judged(
        share.low > 0.0,
        f"chains on which it falls at some time: {share}",
        numbers={"falling": share},
        starts=starts,
    )


CLAIMS: tuple[Claim[SelfPredictive], ...] = (
    Claim(
        key="conserved",
        title="A quantity is conserved at any rate of the head",
        source=f"{PAPER} for the exact head; {HERE} for a finite rate",
        statement="Phi^T Phi - P P^T / rho does not change (with weight decay it decays)",
        requirement="drift below 1e-4",
        measure=conserved,
    ),
    Claim(
        key="no-collapse",
        title="No collapse, however slow the head",
        source=f"{PAPER} for the exact head; {HERE} for a finite rate",
        statement="Without weight decay a small head never lets the representation collapse",
        requirement="every start, at head rates .1, 1 and 10",
        measure=no_collapse,
    ),
    Claim(
        key="collapse-with-decay",
        title="Weight decay brings collapse",
        source=HERE,
        statement="With weight decay eta a symmetric chain keeps only modes with eigenvalue "
        "lambda^2 >= 4 eta, so none above eta = 1/4",
        requirement="less than .01 left below the threshold, nothing at .3",
        measure=collapse_with_decay,
    ),
    Claim(
        key="collapse-without-stop-gradient",
        title="Collapse without stop-gradient",
        source=f"{PAPER} (abstract)",
        statement="Without stop-gradient the representation loses directions",
        requirement="smallest singular value below .5 in more than half, 95 % sure",
        measure=collapse_without_stop_gradient,
    ),
    Claim(
        key="captures-top-eigenvalues",
        title="The exact head finds the top of the spectrum",
        source=f"{PAPER} (sense as recalled; derived here)",
        statement="On a symmetric chain 1/2 |Phi^T T Phi|^2 never falls and reaches its largest "
        "value",
        requirement="no fall above 1e-5; .99 of the largest in more than half, 95 % sure",
        measure=captures_top_eigenvalues,
    ),
    Claim(
        key="general-chain",
        title="Not so on a general chain",
        source=HERE,
        statement="On chains that are not symmetric it falls at times",
        requirement="on some chain",
        measure=general_chain_not_monotone,
    ),
)
