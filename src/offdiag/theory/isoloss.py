"""Implicit variance regularisation, and the loss that equalises it (Halvagal et al. 2023).

Isotropic inputs, a linear encoder W, a closed-form head P = (W W^T)^alpha that no gradient
reaches. Euclidean loss 1/2 E |P W x_1 - stop_gradient(W x_2)|^2; the equalised form multiplies
its gradient in the features by P^-1.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float

from offdiag._checks import ConfigError, at_least
from offdiag.theory.claim import Claim, Finding, Share, does_not_apply, judged
from offdiag.theory.direct_set import matrix_power
from offdiag.theory.dynamics import Learned
from offdiag.theory.solution import Solution, State
from offdiag.theory.solve import generators, solve, solve_starts

PAPER = "Halvagal et al. 2023"
LEVEL = 1e-3  # a mode is learned if its eigenvalue is above this and has not shrunk


@dataclass(frozen=True, kw_only=True)
class IsoLoss:
    """Encoder W (modes, modes), from given eigenvalues of W W^T in random eigenspaces.

    `power` is alpha, 0 for no head; `equalised` takes the equalised form, which needs
    stop-gradient; `stop_gradient` False lets the target move too.
    """

    eigenvalues: tuple[float, ...] = (1e-1, 1e-2, 1e-3, 1e-4)
    power: float = 0.5
    noise_variance: float = 0.0
    equalised: bool = True
    stop_gradient: bool = True

    def __post_init__(self) -> None:
        if not self.eigenvalues or min(self.eigenvalues) <= 0:
            raise ConfigError(
                f"eigenvalues must be one or more positive numbers; got {self.eigenvalues}."
            )
        if self.equalised and not self.stop_gradient:
            raise ConfigError("the equalised loss is defined with stop_gradient; got it without.")
        at_least("power", self.power, 0.0)
        at_least("noise_variance", self.noise_variance, 0.0)

    @property
    def horizon(self) -> float:
        """Long enough for the weakest mode under the euclidean loss."""
        return 10.0 + 4.0 * min(self.eigenvalues) ** -max(self.power, 0.1)

    def start(self, generator: np.random.Generator) -> State:
        """An encoder with the given spectrum and random singular vectors."""
        n = len(self.eigenvalues)
        U, V = (np.linalg.qr(generator.standard_normal((n, n)))[0] for _ in range(2))
        return {"encoder": (U * np.sqrt(self.eigenvalues)) @ V}

    def velocity(self, time: float, state: State) -> State:
        """-gradient of the loss, the head held fixed."""
        W = state["encoder"]
        P = matrix_power(W @ W.T, self.power)
        grown = 1 + self.noise_variance
        if not self.stop_gradient:
            return {"encoder": 2 * P @ W - grown * (P @ P @ W + W)}
        pull = W - grown * P @ W
        return {"encoder": pull if self.equalised else P @ pull}

    def mode_velocity(
        self, eigenvalues: Float[np.ndarray, " modes"]
    ) -> Float[np.ndarray, " modes"]:
        """The velocity of the eigenvalues of W W^T, in closed form."""
        p, grown = eigenvalues**self.power, 1 + self.noise_variance
        if not self.stop_gradient:
            return 2 * eigenvalues * (2 * p - grown * (1 + p**2))
        rate = 2 * eigenvalues * (1 - grown * p)
        return rate if self.equalised else rate * p

    def readings(self, solution: Solution) -> Mapping[str, np.ndarray]:
        """Eigenvalues of W W^T, largest first."""
        return {"eigenvalues": np.linalg.svd(solution.states["encoder"], compute_uv=False) ** 2}

    def outcome(self, solution: Solution) -> Learned:
        """How many modes have grown, or at least kept half of what they were."""
        sizes = self.readings(solution)["eigenvalues"]
        level = np.maximum(LEVEL, np.minimum(sizes[0], 1.0) / 2)
        return Learned.of(solution, sizes[-1] / level, 1.0)


def time_to_half(dynamics: IsoLoss, generator: np.random.Generator) -> list[float]:
    """When the eigenvalue of each mode passes 1/2, each mode alone; infinity if it never does."""
    times = []
    for value in dynamics.eigenvalues:
        one = replace(dynamics, eigenvalues=(value,))
        run = solve(one, one.start(generator), time=1.5 * dynamics.horizon + 100, rtol=1e-8)
        size = one.readings(run)["eigenvalues"][:, 0]
        if size.max() < 0.5:
            times.append(np.inf)
        else:
            at = int(np.argmax(size >= 0.5))
            low, high = np.log(size[at - 1]), np.log(size[at])
            part = (np.log(0.5) - low) / (high - low)
            times.append(float(run.time[at - 1] + part * (run.time[at] - run.time[at - 1])))
    return times


def equal_speed(dynamics: IsoLoss, starts: int) -> Finding:
    if (1 + dynamics.noise_variance) * 0.5**dynamics.power >= 1 or dynamics.power == 0:
        return does_not_apply("no mode grows to 1/2 with this noise and power")
    iso, euclid = (
        time_to_half(replace(dynamics, equalised=e, stop_gradient=True), generators(1)[0])
        for e in (True, False)
    )
    spans = [times[-1] / times[0] for times in (iso, euclid)]
    words = [" / ".join(f"{t:.3g}" for t in times) for times in (iso, euclid)]
    return judged(
        spans[0] < 4 < spans[1],
        f"times to 1/2: {words[0]} equalised, {words[1]} euclidean",
        numbers={"equalised": iso, "euclidean": euclid},
        starts=2 * len(iso),
    )


def variance_regularised(dynamics: IsoLoss, starts: int) -> Finding:
    if dynamics.power == 0:
        return does_not_apply("without a head there is nothing that grows")
    goal = (1 + dynamics.noise_variance) ** (-1 / dynamics.power)
    one = replace(dynamics, stop_gradient=True)
    ends = np.concatenate(
        [one.readings(run)["eigenvalues"][-1] for run in solve_starts(one, starts)]
    )
    worst = float(np.abs(ends / goal - 1).max())
    return judged(
        worst < 1e-2,
        f"largest relative distance from {goal:.3g}: {worst:.1e}",
        numbers={"goal": goal, "distance": worst},
        starts=starts,
    )


def stop_gradient_needed(dynamics: IsoLoss, starts: int) -> Finding:
    noisy = replace(
        dynamics,
        stop_gradient=False,
        equalised=False,
        noise_variance=max(dynamics.noise_variance, 0.1),
    )
    gone = sum(
        bool((noisy.readings(run)["eigenvalues"][-1] < LEVEL).all())
        for run in solve_starts(noisy, starts, time=200.0)
    )
    share = Share(gone, starts)
    return judged(
        gone == starts,
        f"collapsed without stop-gradient at noise {noisy.noise_variance:g}: {share}",
        numbers={"collapsed": share},
        starts=starts,
    )


def head_needed(dynamics: IsoLoss, starts: int) -> Finding:
    noisy = replace(dynamics, power=0.0, noise_variance=max(dynamics.noise_variance, 0.1))
    time, worst = 50.0, 0.0
    for run in solve_starts(noisy, starts, time=time, rtol=1e-8):
        sizes = noisy.readings(run)["eigenvalues"]
        law = np.exp(-2 * noisy.noise_variance * time)
        worst = max(worst, float(np.abs(sizes[-1] / sizes[0] / law - 1).max()))
    return judged(
        worst < 1e-3,
        f"without a head modes decay as exp(-2 sigma^2 t), largest departure {worst:.1e}",
        numbers={"departure": worst},
        starts=starts,
    )


CLAIMS: tuple[Claim[IsoLoss], ...] = (
    Claim(
        key="equal-speed",
        title="Modes learn at equal speed",
        source=f"{PAPER} (abstract); times derived here",
        statement="The equalised loss takes the eigenvalue out of the learning rate of its mode",
        requirement="weakest over strongest time below 4 equalised and above 4 euclidean",
        measure=equal_speed,
    ),
    Claim(
        key="variance-regularised",
        title="Implicit variance regularisation",
        source=f"{PAPER} (abstract)",
        statement="All modes are pulled to one common variance",
        requirement="within 1 % at the horizon",
        measure=variance_regularised,
    ),
    Claim(
        key="stop-gradient-needed",
        title="Collapse without stop-gradient",
        source=PAPER,
        statement="Without stop-gradient all modes decay",
        requirement="every start at noise .1 or more",
        measure=stop_gradient_needed,
    ),
    Claim(
        key="head-needed",
        title="Collapse without a head",
        source=PAPER,
        statement="Without a head all modes decay at the rate of the views' noise",
        requirement="within 1e-3 of exp(-2 sigma^2 t)",
        measure=head_needed,
    ),
)
