"""A head set to a power of the features' second moment (Wang et al. 2021: DirectSet, DirectCopy).

P = (W W^T)^alpha is not trained; the loss is 1/2 E |P W x_1 - stop_gradient(W x_2)|^2 with
weight decay on W. The views' noise has its own variance in each direction of the input.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float

from offdiag._checks import ConfigError, at_least
from offdiag.theory.claim import Claim, Finding, Share, judged
from offdiag.theory.dynamics import Learned
from offdiag.theory.solution import Solution, State
from offdiag.theory.solve import generators, solve

PAPER = "Wang et al. 2021"
LEVEL = 1e-2  # a direction is kept if its share of W^T W is above this
INVARIANT, TASK_NOISE = 3, 0.5  # directions without view noise, and noise of the labels, below


@dataclass(frozen=True, kw_only=True)
class DirectSet:
    """Encoder W (inputs, inputs); `noise_variances` has one entry a direction of the input.

    `power` is alpha: 1/2 DirectPred, 1 DirectCopy, 0 no head. The encoder starts near
    scale times the identity, with Gaussian entries of standard deviation `spread` added.
    """

    noise_variances: tuple[float, ...] = (0.0, 0.5, 1.0, 2.0, 4.0, 8.0)
    power: float = 1.0
    weight_decay: float = 0.1
    scale: float = 0.7
    spread: float = 0.01

    def __post_init__(self) -> None:
        if not self.noise_variances or min(self.noise_variances) < 0:
            raise ConfigError(
                "noise_variances must be one or more numbers from 0 up, one for each direction; "
                f"got {self.noise_variances}."
            )
        at_least("power", self.power, 0.0)

    @property
    def horizon(self) -> float:
        """Many times the decay of a direction that is not kept."""
        return 60.0 / max(self.weight_decay, 0.01)

    @property
    def largest_noise(self) -> float:
        """1 / (4 eta) - 1, the variance up to which a direction can be kept, for every alpha."""
        return 1 / (4 * self.weight_decay) - 1

    def start(self, generator: np.random.Generator) -> State:
        """An encoder near a multiple of the identity."""
        n = len(self.noise_variances)
        return {"encoder": self.scale * np.eye(n) + self.spread * generator.standard_normal((n, n))}

    def velocity(self, time: float, state: State) -> State:
        """P (W - P W (I + diag(sigma^2))) - eta W, with P = (W W^T)^alpha."""
        W = state["encoder"]
        P = matrix_power(W @ W.T, self.power)
        residual = W - (P @ W) * (1 + np.array(self.noise_variances))
        return {"encoder": P @ residual - self.weight_decay * W}

    def readings(self, solution: Solution) -> Mapping[str, np.ndarray]:
        """How much of each input direction is kept, |W e_i|^2, and the eigenvalues of W W^T."""
        W = solution.states["encoder"]
        return {
            "kept": (W**2).sum(-2),
            "eigenvalues": np.linalg.svd(W, compute_uv=False) ** 2,
        }

    def outcome(self, solution: Solution) -> Learned:
        """Whether all, some or no directions of the input are kept at the end."""
        return Learned.of(solution, self.readings(solution)["kept"][-1], LEVEL)


def matrix_power(
    matrix: Float[np.ndarray, "dim dim"], power: float
) -> Float[np.ndarray, "dim dim"]:
    """A power of a positive semi-definite matrix; negative powers leave out its null space."""
    values, vectors = np.linalg.eigh(matrix)
    floor = 1e-14 * max(float(values[-1]), 1e-300)
    if power < 0:
        sizes = np.where(values > floor, np.maximum(values, floor) ** power, 0.0)
    else:
        sizes = np.maximum(values, 0.0) ** power
    return np.asarray((vectors * sizes) @ vectors.T)


def sharp_threshold(dynamics: DirectSet, starts: int) -> Finding:
    edge = dynamics.largest_noise
    right = total = 0
    if edge <= 0:
        return judged(False, "no direction can be kept", numbers={"edge": edge}, starts=0)
    for power in (0.5, 1.0, 2.0):
        ladder = edge * np.array([0.5, 0.9, 0.97, 1.03, 1.1, 1.5])
        one = replace(dynamics, noise_variances=tuple(ladder), power=power, spread=0.0)
        # At the threshold the fixed point is (2 eta)^(1 / 2 alpha): all start above it.
        W = np.eye(len(ladder)) * (2.5 * dynamics.weight_decay) ** (1 / (2 * power))
        run = solve(one, {"encoder": W}, time=20 * one.horizon, rtol=1e-4)
        kept = one.readings(run)["kept"][-1] > LEVEL ** (1 / power)
        right += int((kept == (ladder < edge)).sum())
        total += len(ladder)
    share = Share(right, total)
    return judged(
        right == total,
        f"sigma^2 = {edge:.4g} cuts rightly, powers .5, 1, 2: {share}",
        numbers={"edge": edge, "right": share},
        starts=total,
    )


def keeps_the_quiet(dynamics: DirectSet, starts: int) -> Finding:
    noise = np.array(dynamics.noise_variances)
    right = 0
    for generator in generators(starts):
        run = solve(dynamics, dynamics.start(generator))
        kept = dynamics.readings(run)["kept"][-1]
        right += bool(((kept > LEVEL) == (noise <= dynamics.largest_noise)).all())
    share = Share(right, starts)
    return judged(
        share.value >= 0.9,
        f"starts whose kept set is sigma^2 <= {dynamics.largest_noise:.3g}: {share}",
        numbers={"right": share, "edge": dynamics.largest_noise},
        starts=starts,
    )


def fewer_labels(dynamics: DirectSet, starts: int) -> Finding:
    width, labels, gains = 10, 15, []
    noise = (0.0,) * INVARIANT + (2 * max(dynamics.largest_noise, 1.0),) * (width - INVARIANT)
    one = replace(dynamics, noise_variances=noise)
    for generator in generators(starts):
        W = solve(one, one.start(generator), rtol=1e-4).states["encoder"][-1]
        task = np.zeros(width)
        task[:INVARIANT] = generator.standard_normal(INVARIANT)
        x = generator.standard_normal((labels, width))
        y = x @ task + TASK_NOISE * generator.standard_normal(labels)
        risks = []
        for features in (x @ W.T, x):
            solution = np.linalg.lstsq(features, y, rcond=1e-3)[0]
            error = (W.T @ solution if features is not x else solution) - task
            risks.append(float(error @ error))
        gains.append(risks[1] / risks[0])
    smaller = Share(sum(gain > 1 for gain in gains), starts)
    return judged(
        smaller.low > 0.5,
        f"{labels} labels: risk on inputs / on features, median {np.median(gains):.2g}; "
        f"smaller on features: {smaller}",
        numbers={"median_gain": float(np.median(gains)), "smaller": smaller},
        starts=starts,
    )


CLAIMS: tuple[Claim[DirectSet], ...] = (
    Claim(
        key="sharp-threshold",
        title="A threshold that no power moves",
        source="derived here",
        statement="A direction can be kept exactly if sigma^2 <= 1 / (4 eta) - 1, for every alpha",
        requirement="every direction, from 3 % off the threshold, for alpha = 1/2, 1, 2",
        measure=sharp_threshold,
    ),
    Claim(
        key="keeps-the-quiet",
        title="Weight decay picks the invariant directions",
        source=f"{PAPER} (abstract)",
        statement="Directions with much noise between views are dropped, the others kept",
        requirement="the kept set is right in 90 % of random starts",
        measure=keeps_the_quiet,
    ),
    Claim(
        key="fewer-labels",
        title="Fewer labels are needed",
        source=f"{PAPER} (abstract)",
        statement="On the learned features a task on the invariant directions needs fewer labels",
        requirement="smaller risk than on the inputs in more than half of the tasks, 95 % sure",
        measure=fewer_labels,
    ),
)
