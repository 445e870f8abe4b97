"""Barlow Twins of a linear model learns one eigenmode after the other (Simon et al. 2023).

Embeddings W x; the loss is |W Gamma W^T - I|^2 with Gamma = E[(x x'^T + x' x^T) / 2], the
cross-covariance of the inputs of the two views.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float

from offdiag._checks import ConfigError, at_least
from offdiag.theory.claim import Claim, Finding, Share, does_not_apply, judged
from offdiag.theory.dynamics import Learned
from offdiag.theory.solution import Solution, State
from offdiag.theory.solve import solve_starts

PAPER = "Simon et al. 2023"
HERE = "derived here"


@dataclass(frozen=True, kw_only=True)
class StepwiseBarlow:
    """Encoder W (width, inputs) in the eigenbasis of Gamma, from entries of size `scale`.

    `eigenvalues` are those of Gamma, largest first; negative ones are never learned.
    """

    eigenvalues: tuple[float, ...] = (1.0, 0.6, 0.35, 0.2, 0.1, 0.05)
    width: int = 4
    scale: float = 1e-3

    def __post_init__(self) -> None:
        if list(self.eigenvalues) != sorted(self.eigenvalues, reverse=True):
            raise ConfigError(
                f"eigenvalues must fall from the first to the last; got {self.eigenvalues}."
            )
        at_least("width", float(self.width), 1.0)
        at_least("scale", self.scale, 1e-12)

    @property
    def learnable(self) -> int:
        """How many modes can be learned: positive eigenvalues, at most `width`."""
        return min(self.width, sum(value > 0 for value in self.eigenvalues))

    @property
    def horizon(self) -> float:
        """Twice the time of the last mode."""
        last = self.eigenvalues[max(self.learnable, 1) - 1]
        return 2.0 * np.log(1 / self.scale) / (4 * abs(last))

    def start(self, generator: np.random.Generator) -> State:
        """A small random encoder."""
        size = (self.width, len(self.eigenvalues))
        return {"encoder": self.scale * generator.standard_normal(size)}

    def velocity(self, time: float, state: State) -> State:
        """-gradient: 4 (I - W Gamma W^T) W Gamma."""
        W = state["encoder"]
        WG = W * np.array(self.eigenvalues)
        return {"encoder": 4 * (WG - (WG @ W.T) @ WG)}

    def readings(self, solution: Solution) -> Mapping[str, np.ndarray]:
        """Each mode's gamma_j |W e_j|^2 (1: learned), loss, eigenvalues of the cross-covariance."""
        W, gamma = solution.states["encoder"], np.array(self.eigenvalues)
        C = (W * gamma) @ np.swapaxes(W, -1, -2)
        return {
            "modes": gamma * (W**2).sum(-2),
            "eigenvalues": np.linalg.eigvalsh(C)[:, ::-1],
            "loss": ((C - np.eye(self.width)) ** 2).sum((-2, -1)),
        }

    def learning_time(self, start: State) -> Float[np.ndarray, " learnable"]:
        """When each mode would pass 1/2 if it grew alone: log((1 - u) / u) / (8 gamma).

        u is gamma_j times the square of what of W e_j is orthogonal to the modes before it.
        """
        W = start["encoder"]
        gamma = np.array(self.eigenvalues)[: self.learnable]
        free = np.abs(np.diag(np.linalg.qr(W[:, : self.learnable], mode="r")))
        u = gamma * free**2
        return np.asarray(np.log((1 - u) / u) / (8 * gamma))

    def outcome(self, solution: Solution) -> Learned:
        """How many of the learnable modes are above 1/2 at the end."""
        modes = self.readings(solution)["modes"][-1]
        return Learned.of(solution, modes[: self.learnable], 0.5)


def kernel_eigenvalues(
    kernel: Float[np.ndarray, "both_views both_views"],
) -> Float[np.ndarray, " both_views"]:
    """The eigenvalues of Gamma in the feature space of a kernel, largest first.

    `kernel` is the Gram matrix of n samples of the first view followed by the same n of the
    second: with S the exchange of views, they are those of K^1/2 S K^1/2 / 2n.
    """
    values, vectors = np.linalg.eigh(kernel)
    root = (vectors * np.sqrt(np.maximum(values, 0.0))) @ vectors.T
    exchanged = np.roll(root, len(root) // 2, axis=0)
    return np.asarray(np.linalg.eigvalsh(root @ exchanged)[::-1] / len(root))


def half_times(dynamics: StepwiseBarlow, solution: Solution) -> Float[np.ndarray, " learnable"]:
    """When each learnable mode passes 1/2; infinity if it never does."""
    modes = dynamics.readings(solution)["modes"][:, : dynamics.learnable]
    at = np.argmax(modes >= 0.5, axis=0)
    return np.where(modes.max(axis=0) >= 0.5, solution.time[at], np.inf)


def one_by_one(dynamics: StepwiseBarlow, starts: int) -> Finding:
    if dynamics.learnable < 2:
        return does_not_apply("fewer than two modes can be learned")
    ordered, ratios = 0, []
    for run in solve_starts(dynamics, starts, time=2 * dynamics.horizon, rtol=1e-8):
        times = half_times(dynamics, run)
        ordered += bool((np.diff(times) > 0).all())
        ratios.append(times / dynamics.learning_time(run.state(0)))
    share, found = Share(ordered, starts), np.array(ratios)
    return judged(
        share.count == starts and float(np.abs(np.median(found, axis=0) - 1).max()) < 0.1,
        f"in the order of the eigenvalues: {share}; time over predicted, median by mode "
        f"{' / '.join(f'{r:.3f}' for r in np.median(found, axis=0))}",
        numbers={"ordered": share, "ratio": np.median(found, axis=0)},
        starts=starts,
    )


def staircase(dynamics: StepwiseBarlow, starts: int) -> Finding:
    k, whole = dynamics.learnable, []
    if k < 2:
        return does_not_apply("fewer than two modes can be learned")
    small = replace(dynamics, scale=min(dynamics.scale, 1e-6))
    for run in solve_starts(small, starts, time=2 * small.horizon, rtol=1e-8):
        loss, times = small.readings(run)["loss"], half_times(small, run)
        middles = np.sqrt(times[:-1] * times[1:])
        steps = np.interp(middles, run.time, loss)
        whole.append(np.abs(steps - (dynamics.width - np.arange(1, k))).max(initial=0.0))
    worst = float(np.median(whole))
    return judged(
        worst < 0.1,
        f"between two modes the loss is width - modes learned; median largest distance {worst:.2g}",
        numbers={"distance": worst},
        starts=starts,
    )


def top_modes_only(dynamics: StepwiseBarlow, starts: int) -> Finding:
    rest, learned = 0.0, 0.0
    for run in solve_starts(dynamics, starts, time=4 * dynamics.horizon):
        modes = dynamics.readings(run)["modes"][-1]
        rest = max(rest, float(np.abs(modes[dynamics.learnable :]).max(initial=0.0)))
        learned = max(learned, float(np.abs(modes[: dynamics.learnable] - 1).max()))
    return judged(
        rest < 1e-2 and learned < 1e-2,
        f"largest distance from 1 of the top modes {learned:.1e}, from 0 of the others {rest:.1e}",
        numbers={"top": learned, "others": rest},
        starts=starts,
    )


CLAIMS: tuple[Claim[StepwiseBarlow], ...] = (
    Claim(
        key="one-by-one",
        title="Modes one by one",
        source=f"{PAPER} (not read; derived here)",
        statement="From a small start modes are learned in the order of their eigenvalues, at "
        "log((1 - u) / u) / (8 gamma)",
        requirement="every start in order, median time of each mode within 10 %",
        measure=one_by_one,
    ),
    Claim(
        key="staircase",
        title="The loss is a staircase",
        source=f"{PAPER} (not read; derived here)",
        statement="From a small start (1e-6) each mode takes the loss down by one",
        requirement="median largest distance from whole steps below .1",
        measure=staircase,
    ),
    Claim(
        key="top-modes",
        title="The top of the spectrum, nothing else",
        source=f"{PAPER} (not read; derived here)",
        statement="A small start ends on the top `width` eigenmodes",
        requirement="within .01",
        measure=top_modes_only,
    ),
)
