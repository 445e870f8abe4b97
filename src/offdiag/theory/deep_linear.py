"""Deep linear encoders that predict the embedding or the input (Littwin et al. 2024).

Pairs (x, y) have E[x_j^2] = lambda_j / rho_j and E[x_j y_j] = lambda_j in their common
eigenbasis, rho_j the regression coefficient of y on x ("influence"). The encoder is
f = W_L ... W_1, the decoder V. Joint embedding: 1/2 E |V f(x) - stop_gradient(f(y))|^2.
Reconstruction: 1/2 E |V f(x) - y|^2.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float
from scipy.integrate import quad

from offdiag._checks import ConfigError, at_least
from offdiag.theory.claim import Claim, Finding, does_not_apply, judged
from offdiag.theory.dynamics import Learned
from offdiag.theory.solution import Solution, State
from offdiag.theory.solve import generators, solve

PAPER = "Littwin et al. 2024"
HERE = "derived here"


@dataclass(frozen=True, kw_only=True)
class DeepLinear:
    """Layers (depth, features, features), first layer first, and decoder (features, features).

    `covariances` are lambda_j, `influences` rho_j. `reconstruct` takes the loss of a masked
    autoencoder. All layers start with singular values `scale`, aligned with the data and with
    one another: the balanced start for which the closed forms hold.
    """

    covariances: tuple[float, ...] = (1.0, 1.0)
    influences: tuple[float, ...] = (1.0, 0.3)
    depth: int = 2
    reconstruct: bool = False
    scale: float = 0.05

    def __post_init__(self) -> None:
        if len(self.covariances) != len(self.influences) or not self.covariances:
            raise ConfigError(
                "covariances and influences must be as many as there are features; got "
                f"{len(self.covariances)} and {len(self.influences)}."
            )
        if min(self.covariances) <= 0 or min(self.influences) <= 0:
            raise ConfigError("covariances and influences must be positive numbers.")
        at_least("depth", float(self.depth), 1.0)
        at_least("scale", self.scale, 1e-6)

    @property
    def horizon(self) -> float:
        """Three times the learning time of the slowest feature."""
        return max(3.0 * float(self.learning_times().max()), 1.0)

    def start(self, generator: np.random.Generator) -> State:
        """Rotations between the layers are random; the dynamics of the modes does not see them."""
        n, a = len(self.covariances), self.scale
        turns = [np.eye(n)] + [
            np.linalg.qr(generator.standard_normal((n, n)))[0] for _ in range(self.depth)
        ]
        layers = np.stack(
            [a * after @ before.T for before, after in zip(turns, turns[1:], strict=False)]
        )
        out = np.eye(n) if self.reconstruct else turns[-1]
        return {"layers": layers, "decoder": a * out @ turns[-1].T}

    def velocity(self, time: float, state: State) -> State:
        """-gradient of the loss; none passes through the target."""
        layers, V = state["layers"], state["decoder"]
        cross = np.diag(self.covariances)
        own = np.diag(np.array(self.covariances) / np.array(self.influences))
        f = product_of(layers)
        target = cross if self.reconstruct else f @ cross
        residual = target - V @ f @ own
        into = V.T @ residual
        moved = np.stack(
            [
                product_of(layers[i + 1 :], len(f)).T @ into @ product_of(layers[:i], len(f)).T
                for i in range(len(layers))
            ]
        )
        return {"layers": moved, "decoder": residual @ f.T}

    @property
    def ends(self) -> Float[np.ndarray, " features"]:
        """Singular value of each layer when a feature is learned."""
        rho = np.array(self.influences)
        return np.asarray(rho ** (1 / (self.depth + 1)) if self.reconstruct else rho)

    def mode_velocity(
        self, sizes: Float[np.ndarray, " features"]
    ) -> Float[np.ndarray, " features"]:
        """The velocity of the singular values that all layers share, on the balanced start.

        Joint embedding: a^(2L) lambda (1 - a / rho). Reconstruction: a^L lambda
        (1 - a^(L+1) / rho).
        """
        rate, rho = np.array(self.covariances), np.array(self.influences)
        if self.reconstruct:
            return sizes**self.depth * rate * (1 - sizes ** (self.depth + 1) / rho)
        return sizes ** (2 * self.depth) * rate * (1 - sizes / rho)

    def learning_times(self) -> Float[np.ndarray, " features"]:
        """When each feature's encoder reaches half of its end, by quadrature of `mode_velocity`.

        0 for a feature that starts above it.
        """
        halves = self.ends * 0.5 ** (1 / self.depth)
        times = []
        for j, half in enumerate(halves):
            if half <= self.scale:
                times.append(0.0)
                continue
            one = replace(
                self, covariances=(self.covariances[j],), influences=(self.influences[j],)
            )
            in_log = quad(
                lambda u, one=one: np.exp(u) / float(one.mode_velocity(np.exp([u]))[0]),
                np.log(self.scale),
                np.log(half),
                limit=200,
            )[0]
            times.append(in_log)
        return np.array(times)

    def readings(self, solution: Solution) -> Mapping[str, np.ndarray]:
        """How much of each feature the encoder has, |f e_j| over its end."""
        layers = solution.states["layers"]
        f = np.stack([product_of(one) for one in layers])
        return {"features": np.linalg.norm(f, axis=1) / self.ends**self.depth}

    def outcome(self, solution: Solution) -> Learned:
        """How many features are above half of their end."""
        return Learned.of(solution, self.readings(solution)["features"][-1], 0.5)


def product_of(
    layers: Float[np.ndarray, "depth features features"], width: int | None = None
) -> Float[np.ndarray, "features features"]:
    """The layers multiplied, the first applied first; of none, the identity of `width`."""
    size = layers.shape[-1] if width is None else width
    f = np.eye(size)
    for W in layers:
        f = W @ f
    return f


def measured_times(dynamics: DeepLinear, start: State) -> Float[np.ndarray, " features"]:
    """When each feature passes half of its end on a solved trajectory."""
    run = solve(dynamics, start, rtol=1e-8)
    sizes = dynamics.readings(run)["features"]
    return np.array([float(np.interp(0.5, one, run.time)) for one in sizes.T])


def closed_forms(dynamics: DeepLinear, starts: int) -> Finding:
    worst, count = 0.0, min(starts, 6)
    for reconstruct in (False, True):
        one = replace(dynamics, reconstruct=reconstruct)
        for generator in generators(count):
            times = measured_times(one, one.start(generator))
            worst = max(worst, float(np.abs(times / one.learning_times() - 1).max()))
    return judged(
        worst < 0.01,
        f"learning time over its closed form, largest departure {worst:.1e}",
        numbers={"departure": worst},
        starts=2 * count,
    )


def influence_first(dynamics: DeepLinear, starts: int) -> Finding:
    gaps: dict[str, list[float]] = {}
    for name, reconstruct in (("joint embedding", False), ("reconstruction", True)):
        one = replace(
            dynamics, covariances=(1.0, 1.0), influences=(1.0, 0.3), reconstruct=reconstruct
        )
        gaps[name] = []
        for scale in (0.1, 0.03, 0.01):
            times = replace(one, scale=scale).learning_times()
            gaps[name].append(float(times[1] - times[0]))
    joint, masked = gaps["joint embedding"], gaps["reconstruction"]
    if dynamics.depth == 1:
        return does_not_apply("the gap is claimed for depth 2 and more")
    return judged(
        joint[-1] > 10 * joint[0] > 0 and abs(masked[-1]) < 2 * abs(masked[0]),
        "time by which the feature of influence .3 comes after that of 1, from scale .1, .03, "
        f".01: {' / '.join(f'{g:.3g}' for g in joint)} joint embedding, "
        f"{' / '.join(f'{g:.3g}' for g in masked)} reconstruction",
        numbers=gaps,
        starts=6,
    )


def order_reversed(dynamics: DeepLinear, starts: int) -> Finding:
    first = {}
    for reconstruct in (False, True):
        one = replace(
            dynamics,
            covariances=(1.0, 1.05),
            influences=(2.0, 0.25),
            reconstruct=reconstruct,
            scale=0.05,
        )
        times = measured_times(one, one.start(generators(1)[0]))
        first[reconstruct] = times
    joint, masked = first[False], first[True]
    if dynamics.depth == 1:
        return does_not_apply("the order is claimed for depth 2 and more")
    return judged(
        bool(joint[0] < joint[1] and masked[1] < masked[0]),
        "influence 2, covariance 1 against influence .25, covariance 1.05: times "
        f"{joint[0]:.4g} / {joint[1]:.4g} joint embedding, {masked[0]:.4g} / {masked[1]:.4g} "
        "reconstruction",
        numbers={"joint": joint, "reconstruction": masked},
        starts=2,
    )


CLAIMS: tuple[Claim[DeepLinear], ...] = (
    Claim(
        key="closed-forms",
        title="Layers move as one number a feature",
        source=HERE,
        statement="From a balanced start the matrices follow the closed velocities of the modes",
        requirement="learning times within 1 %",
        measure=closed_forms,
    ),
    Claim(
        key="influence-first",
        title="Influence decides under joint embedding",
        source=f"{PAPER} (not read; derived here)",
        statement="Of two features of equal covariance the one of higher influence is learned "
        "first; the gap grows without bound as the start shrinks, that of reconstruction does not",
        requirement="gap more than ten times larger from a start ten times smaller; at most "
        "twice for reconstruction",
        measure=influence_first,
    ),
    Claim(
        key="order-reversed",
        title="The two losses can disagree on the order",
        source=f"{PAPER} (not read; derived here)",
        statement="A feature of higher influence and slightly lower covariance comes first under "
        "joint embedding and second under reconstruction",
        requirement="the orders differ",
        measure=order_reversed,
    ),
)
