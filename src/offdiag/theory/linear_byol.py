"""Linear BYOL: a linear encoder, a linear head and a target that follows (Tian et al. 2021).

Inputs have the identity as covariance, views add noise of variance sigma^2; the loss is
1/2 E |P W x_1 - stop_gradient(W_a x_2)|^2. Equations in docs/dynamics/linear-byol.md.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float

from offdiag._checks import at_least
from offdiag.theory.claim import Claim, Finding, Share, does_not_apply, judged
from offdiag.theory.dynamics import Learned
from offdiag.theory.solution import Solution, State
from offdiag.theory.solve import generators, solve, solve_starts

PAPER = "Tian et al. 2021"
SMALL = 0.05  # a start about where some modes survive and others do not
LEVEL = 1e-2  # a mode is learned if alpha s is above this; collapse takes it to 0


@dataclass(frozen=True, kw_only=True)
class LinearBYOL:
    """Encoder W (outputs, inputs), head P (outputs, outputs) and, with EMA, target W_a.

    `head_lr_ratio` is the learning rate of the head over that of the encoder, `weight_decay`
    acts on both; `ema_rate` is the rate at which the target follows, 0 for a target that is the
    online encoder. `symmetric_head` takes the symmetric part of the head's velocity, so that a
    head that starts symmetric stays so. Entries of the encoder start with standard deviation
    scale / sqrt(inputs); the head starts at scale (I + G / 2 sqrt(outputs)), G Gaussian.
    """

    inputs: int = 4
    outputs: int = 4
    noise_variance: float = 0.1
    head_lr_ratio: float = 1.0
    weight_decay: float = 0.05
    ema_rate: float = 0.0
    symmetric_head: bool = False
    scale: float = 0.7

    def __post_init__(self) -> None:
        for name in ("noise_variance", "weight_decay", "ema_rate"):
            at_least(name, getattr(self, name), 0.0)
        at_least("head_lr_ratio", self.head_lr_ratio, 1e-9)

    @property
    def horizon(self) -> float:
        """Some forty times the slowest of the rates: decay, head, target."""
        return 40.0 * (1 + 1 / max(self.ema_rate, 0.1) * (self.ema_rate > 0)) + 10 / max(
            self.weight_decay, 0.02
        )

    def start(self, generator: np.random.Generator) -> State:
        """A random encoder, a head near a multiple of the identity, a target equal to it."""
        k, n = self.outputs, self.inputs
        W = self.scale * generator.standard_normal((k, n)) / np.sqrt(n)
        G = generator.standard_normal((k, k)) / np.sqrt(k)
        if self.symmetric_head:
            G = (G + G.T) / 2
        state = {"encoder": W, "head": self.scale * (np.eye(k) + G / 2)}
        return {**state, "target": W.copy()} if self.ema_rate > 0 else state

    def velocity(self, time: float, state: State) -> State:
        """-gradient of the loss with weight decay; the target follows at `ema_rate`."""
        W, P = state["encoder"], state["head"]
        W_a = state.get("target", W)
        residual = W_a - (1 + self.noise_variance) * P @ W
        head = self.head_lr_ratio * residual @ W.T - self.weight_decay * P
        moved = {
            "encoder": P.T @ residual - self.weight_decay * W,
            "head": (head + head.T) / 2 if self.symmetric_head else head,
        }
        return {**moved, "target": self.ema_rate * (W - W_a)} if "target" in state else moved

    def readings(self, solution: Solution) -> Mapping[str, np.ndarray]:
        """Eigenvalues of W W^T, misalignment with the head, asymmetry of the head, imbalance."""
        W, P = solution.states["encoder"], solution.states["head"]
        F, P_T = W @ _t(W), _t(P)
        imbalance = F - P_T @ P / self.head_lr_ratio
        return {
            "eigenvalues": np.linalg.eigvalsh(F)[:, ::-1],
            "misalignment": _size(P @ F - F @ P) / np.maximum(_size(P @ F), 1e-300),
            "asymmetry": _size(P - P_T) / np.maximum(_size(P), 1e-300),
            "imbalance": _size(imbalance),
        }

    def outcome(self, solution: Solution) -> Learned:
        """How many of the min(inputs, outputs) modes are above `LEVEL` at the end."""
        most = min(self.inputs, self.outputs)
        last = self.readings(solution)["eigenvalues"][-1][:most]
        return Learned.of(solution, self.head_lr_ratio * last, LEVEL)


@dataclass(frozen=True, kw_only=True)
class LinearBYOLModes:
    """Head and encoder in common eigenspaces: eigenvalues p of P and s of W W^T.

    `target_scale` is tau: the target is W_a = tau W. Modes start on the invariant parabola
    s = p^2 / head_lr_ratio, with p log-uniform in [low, high].
    """

    modes: int = 4
    target_scale: float = 1.0
    noise_variance: float = 0.1
    head_lr_ratio: float = 1.0
    weight_decay: float = 0.05
    low: float = 0.01
    high: float = 0.5

    @property
    def horizon(self) -> float:
        """Long against the decay near the edge of the basin."""
        return 40.0 / max(self.weight_decay, 0.01)

    @property
    def edges(self) -> tuple[float, float] | None:
        """p_- and p_+, the edge of the basin and the fixed point; None where there is none."""
        tau, eta, a = self.target_scale, self.weight_decay, 1 + self.noise_variance
        inside = tau**2 - 4 * eta * a
        if inside < 0:
            return None
        return (tau - inside**0.5) / (2 * a), (tau + inside**0.5) / (2 * a)

    @property
    def largest_decay(self) -> float:
        """tau^2 / (4 (1 + sigma^2)): with more weight decay every mode collapses."""
        return self.target_scale**2 / (4 * (1 + self.noise_variance))

    def start(self, generator: np.random.Generator) -> State:
        """Modes on the parabola."""
        p = np.exp(generator.uniform(np.log(self.low), np.log(self.high), self.modes))
        return self.on_parabola(p)

    def on_parabola(self, p: Float[np.ndarray, " modes"]) -> State:
        """The state with these eigenvalues of the head and no imbalance."""
        return {"head": p, "encoder": p**2 / self.head_lr_ratio}

    def velocity(self, time: float, state: State) -> State:
        """p' = alpha s (tau - (1 + sigma^2) p) - eta p; s' = 2 p s (tau - ...) - 2 eta s."""
        p, s = state["head"], state["encoder"]
        pull = self.target_scale - (1 + self.noise_variance) * p
        return {
            "head": self.head_lr_ratio * s * pull - self.weight_decay * p,
            "encoder": 2 * p * s * pull - 2 * self.weight_decay * s,
        }

    def readings(self, solution: Solution) -> Mapping[str, np.ndarray]:
        """Eigenvalues of head and of W W^T."""
        return {"head": solution.states["head"], "eigenvalues": solution.states["encoder"]}

    def outcome(self, solution: Solution) -> Learned:
        """How many modes are above `LEVEL` at the end."""
        return Learned.of(solution, self.head_lr_ratio * solution.states["encoder"][-1], LEVEL)


def _t(matrices: np.ndarray) -> np.ndarray:
    return np.swapaxes(matrices, -1, -2)


def _size(matrices: np.ndarray) -> np.ndarray:
    return np.linalg.norm(matrices, axis=(-2, -1))


# Claims about the matrices


def balance_decays(dynamics: LinearBYOL, starts: int) -> Finding:
    if dynamics.symmetric_head:
        return does_not_apply("a head that is made symmetric does not follow its gradient")
    worst = 0.0
    for run in solve_starts(dynamics, starts, time=10.0, rtol=1e-8):
        imbalance = dynamics.readings(run)["imbalance"]
        law = imbalance[0] * np.exp(-2 * dynamics.weight_decay * run.time)
        worst = max(worst, float(np.abs(imbalance / law - 1).max()))
    return judged(
        worst < 1e-4,
        f"largest relative departure from exp(-2 eta t) {worst:.1e}",
        numbers={"departure": worst},
        starts=starts,
    )


def alignment(dynamics: LinearBYOL, starts: int) -> Finding:
    numbers = {}
    for symmetric in (True, False):
        one = replace(
            dynamics,
            symmetric_head=symmetric,
            outputs=2 * dynamics.inputs,
            weight_decay=min(dynamics.weight_decay, 0.01),
        )
        last = [
            one.readings(run)["misalignment"][-1]
            for run in solve_starts(one, starts, time=60.0, rtol=1e-4)
            if one.outcome(run) is not Learned.NONE
        ]
        if not last:
            return does_not_apply("every start collapses", starts=starts)
        numbers["symmetric" if symmetric else "free"] = float(np.median(last))
    return judged(
        numbers["symmetric"] < 1e-2 < 3e-2 < numbers["free"],
        f"median |[P, WW^T]| / |P WW^T| at t = 60: {numbers['symmetric']:.1e} symmetric, "
        f"{numbers['free']:.2g} free",
        numbers=numbers,
        starts=starts,
    )


def too_much_decay(dynamics: LinearBYOL, starts: int) -> Finding:
    edge = 1 / (4 * (1 + dynamics.noise_variance))
    above = replace(dynamics, weight_decay=1.1 * edge)
    found = [above.outcome(run) for run in solve_starts(above, starts, time=400.0)]
    share = Share(sum(one is Learned.NONE for one in found), starts)
    return judged(
        share.count == starts,
        f"collapsed at 1.1 times the threshold: {share}",
        numbers={"threshold": edge, "collapsed": share},
        starts=starts,
    )


def ema_keeps_the_rest_points(dynamics: LinearBYOL, starts: int) -> Finding:
    apart, compared = 0.0, 0
    with_ema = replace(dynamics, ema_rate=dynamics.ema_rate or 1.0)
    for generator in generators(starts):
        slow = solve(with_ema, with_ema.start(generator), time=200.0, rtol=1e-4)
        W = slow.states["encoder"][-1]
        apart = max(
            apart,
            float(np.abs(slow.states["target"][-1] - W).max()),
            float(
                np.abs(
                    replace(dynamics, ema_rate=0.0).velocity(
                        0.0, {"encoder": W, "head": slow.states["head"][-1]}
                    )["encoder"]
                ).max()
            ),
        )
        compared += 1
    return judged(
        apart < 1e-3,
        f"largest distance from a rest point without EMA {apart:.1e}",
        numbers={"distance": apart},
        starts=compared,
    )


def fast_head_survives_more(dynamics: LinearBYOL, starts: int) -> Finding:
    shares = {}
    for ratio in (0.2, 1.0, 5.0):
        kept = 0
        for generator in generators(starts):
            one = replace(dynamics, head_lr_ratio=ratio, scale=SMALL, ema_rate=0.0)
            run = solve(one, one.start(generator), time=200.0, rtol=1e-4)
            kept += one.outcome(run) is not Learned.NONE
        shares[ratio] = Share(kept, starts)
    slow, fast = shares[0.2], shares[5.0]
    words = ", ".join(f"{ratio:g}: {share}" for ratio, share in shares.items())
    return judged(
        fast.low > slow.high,
        f"starts that keep a mode, by rate of the head: {words}",
        numbers={str(ratio): share for ratio, share in shares.items()},
        starts=starts,
    )


CLAIMS: tuple[Claim[LinearBYOL], ...] = (
    Claim(
        key="balance-decays",
        title="Encoder and head balance",
        source=PAPER,
        statement="W W^T - P^T P / alpha decays as exp(-2 eta t), whatever the head",
        requirement="norm within 1e-4 of the law at all times to 10",
        measure=balance_decays,
    ),
    Claim(
        key="alignment",
        title="Eigenspaces align",
        source=f"{PAPER}; the part on a free head was found here",
        statement="Head and W W^T come to share eigenspaces if the head is kept symmetric, "
        "and do not for a free head",
        requirement="commutator below .01 with a symmetric head, above .03 with a free one",
        measure=alignment,
    ),
    Claim(
        key="too-much-decay",
        title="Too much weight decay collapses",
        source=PAPER,
        statement="With eta above 1 / (4 (1 + sigma^2)) every start collapses",
        requirement="every start, at 1.1 times the threshold",
        measure=too_much_decay,
    ),
    Claim(
        key="ema-rest-points",
        title="EMA changes the way, not the rest points",
        source="derived here",
        statement="Where a target that follows by EMA comes to rest, training without it rests too",
        requirement="distance below 1e-3 at t = 200",
        measure=ema_keeps_the_rest_points,
    ),
    Claim(
        key="fast-head",
        title="A fast head survives more starts",
        source=f"{PAPER} (sense as recalled)",
        statement="A faster head lets more small starts keep a mode",
        requirement="share at rate 5 above that at rate .2, intervals apart",
        measure=fast_head_survives_more,
    ),
)


# Claims about the modes


def basin_edge(dynamics: LinearBYOLModes, starts: int) -> Finding:
    if dynamics.edges is None:
        return does_not_apply("weight decay is above the threshold and there is no basin")
    edge = dynamics.edges[0]
    factors = np.concatenate(
        [np.geomspace(0.5, 0.98, starts // 2), np.geomspace(1.02, 2, starts // 2)]
    )
    one = replace(dynamics, modes=len(factors))
    run = solve(one, one.on_parabola(factors * edge), rtol=1e-9)
    kept = one.head_lr_ratio * run.states["encoder"][-1] > LEVEL
    right = Share(int((kept == (factors > 1)).sum()), len(factors))
    return judged(
        right.count == right.total,
        f"side of p_- = {edge:.4g} decides: {right}",
        numbers={"edge": edge, "right": right},
        starts=right.total,
    )


def fixed_point(dynamics: LinearBYOLModes, starts: int) -> Finding:
    if dynamics.edges is None:
        return does_not_apply("weight decay is above the threshold and there is no basin")
    runs = solve_starts(dynamics, starts, rtol=1e-8)
    ends = np.concatenate([run.states["head"][-1] for run in runs])
    kept = ends[dynamics.head_lr_ratio * ends**2 > LEVEL**2]
    kept = kept[kept > dynamics.edges[0]]
    if not kept.size:
        return does_not_apply("every start lies outside the basin", starts=starts)
    worst = float(np.abs(kept / dynamics.edges[1] - 1).max())
    return judged(
        worst < 1e-3,
        f"p_+ = {dynamics.edges[1]:.4g}; largest relative distance {worst:.1e}",
        numbers={"fixed_point": dynamics.edges[1], "distance": worst},
        starts=starts,
    )


def decay_threshold(dynamics: LinearBYOLModes, starts: int) -> Finding:
    ends = {}
    for factor in (0.98, 1.02):
        one = replace(dynamics, modes=starts, weight_decay=factor * dynamics.largest_decay)
        p = np.linspace(0.5, 2, starts) * one.target_scale / (1 + one.noise_variance)
        run = solve(one, one.on_parabola(p), time=4_000.0)
        ends[factor] = Share(
            int((one.head_lr_ratio * run.states["encoder"][-1] > LEVEL).sum()), starts
        )
    return judged(
        ends[0.98].count > 0 and ends[1.02].count == 0,
        f"modes kept at .98 of the threshold: {ends[0.98]}; at 1.02: {ends[1.02]}",
        numbers={"below": ends[0.98], "above": ends[1.02], "threshold": dynamics.largest_decay},
        starts=starts,
    )


MODE_CLAIMS: tuple[Claim[LinearBYOLModes], ...] = (
    Claim(
        key="basin-edge",
        title="The edge of the basin",
        source=PAPER,
        statement="A balanced mode collapses exactly if its head entry starts below p_-",
        requirement="every start, from 2 % off the edge",
        measure=basin_edge,
    ),
    Claim(
        key="fixed-point",
        title="The fixed point",
        source=PAPER,
        statement="A mode that survives ends at p_+",
        requirement="within 1e-3",
        measure=fixed_point,
    ),
    Claim(
        key="decay-threshold",
        title="The threshold of weight decay",
        source=PAPER,
        statement="Modes can be kept exactly if eta <= tau^2 / (4 (1 + sigma^2))",
        requirement="some kept at .98 of the threshold, none at 1.02",
        measure=decay_threshold,
    ),
)
