"""Spectral filters on the online and on the target branch (Zhuo et al. 2023).

Isotropic inputs, a linear encoder W with F = W W^T over its mean eigenvalue. Online output
F^(online_power/2) W x_1, target stop_gradient(F^(target_power/2) W x_2): a feature of singular
value s comes out as s^(1 + power). Loss 1/2 E |online - target|^2, filters held fixed.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float

from offdiag._checks import at_least
from offdiag.theory.claim import Claim, Finding, Share, does_not_apply, judged
from offdiag.theory.direct_set import matrix_power
from offdiag.theory.dynamics import Learned
from offdiag.theory.solution import Solution, State
from offdiag.theory.solve import generators, solve, solve_starts

PAPER = "Zhuo et al. 2023"
LEVEL = 0.05  # a mode is learned if its eigenvalue is above this share of the largest


@dataclass(frozen=True, kw_only=True)
class RankDifferential:
    """Encoder W (modes, modes), from eigenvalues of W W^T log-uniform in [low, 1].

    `online_power` and `target_power` are the filters' powers of the singular value: 1 and 0 a
    low-pass head, 0 and -1 a whitened target, 0 and 0 no filter.
    """

    modes: int = 6
    online_power: float = 1.0
    target_power: float = 0.0
    noise_variance: float = 0.0
    low: float = 0.05

    def __post_init__(self) -> None:
        at_least("modes", float(self.modes), 2.0)
        at_least("noise_variance", self.noise_variance, 0.0)

    @property
    def horizon(self) -> float:
        """Long against the growth of the weakest mode."""
        return 20.0

    def start(self, generator: np.random.Generator) -> State:
        """Random singular vectors and a spread of eigenvalues."""
        values = np.exp(generator.uniform(np.log(self.low), 0.0, self.modes))
        U, V = (
            np.linalg.qr(generator.standard_normal((self.modes, self.modes)))[0] for _ in range(2)
        )
        return {"encoder": (U * np.sqrt(values)) @ V}

    def velocity(self, time: float, state: State) -> State:
        """P (T - (1 + sigma^2) P) W, with filters P online and T on the target."""
        W = state["encoder"]
        F = W @ W.T
        F = F / (np.trace(F) / len(F))
        P, T = matrix_power(F, self.online_power / 2), matrix_power(F, self.target_power / 2)
        return {"encoder": P @ (T - (1 + self.noise_variance) * P) @ W}

    def mode_velocity(
        self, eigenvalues: Float[np.ndarray, " modes"]
    ) -> Float[np.ndarray, " modes"]:
        """The velocity of the eigenvalues of W W^T, in closed form."""
        share = eigenvalues / eigenvalues.mean()
        p, t = share ** (self.online_power / 2), share ** (self.target_power / 2)
        return 2 * eigenvalues * p * (t - (1 + self.noise_variance) * p)

    def readings(self, solution: Solution) -> Mapping[str, np.ndarray]:
        """Singular values, and effective ranks of features, online output and target."""
        s = np.linalg.svd(solution.states["encoder"], compute_uv=False)
        return {
            "singular_values": s,
            "rank": effective_rank(s),
            "online_rank": effective_rank(s ** (1 + self.online_power)),
            "target_rank": effective_rank(s ** (1 + self.target_power)),
        }

    def outcome(self, solution: Solution) -> Learned:
        """How many modes are above `LEVEL` times the largest at the end; none if all vanish."""
        s = self.readings(solution)["singular_values"]
        if s[-1].max() < 1e-3 * s[0].max():
            return Learned.of(solution, s[-1], np.inf)
        return Learned.of(solution, s[-1] ** 2 / s[-1].max() ** 2, LEVEL)


def effective_rank(
    singular_values: Float[np.ndarray, "*times modes"],
) -> Float[np.ndarray, "*times"]:
    """Exponential of the entropy of the normalised singular values, in [1, modes]."""
    share = singular_values / singular_values.sum(-1, keepdims=True)
    return np.asarray(np.exp(-(share * np.log(np.maximum(share, 1e-300))).sum(-1)))


def rank_follows(dynamics: RankDifferential, starts: int) -> Finding:
    agree = total = 0
    pairs = [(1.0, 0.0), (0.5, 0.0), (0.0, -1.0), (-0.5, 0.0), (0.0, 0.5)]
    for online, target in pairs:
        one = replace(dynamics, online_power=online, target_power=target, modes=12)
        for generator in generators(starts):
            values = np.exp(generator.uniform(np.log(one.low), 0.0, one.modes))
            s, h = np.sqrt(values), 1e-6
            step = one.mode_velocity(values)
            change = effective_rank(np.sqrt(values + h * step)) - effective_rank(s)
            lead = effective_rank(s ** (1 + target)) - effective_rank(s ** (1 + online))
            agree += bool(change * lead > 0)
            total += 1
    share = Share(agree, total)
    return judged(
        share.low > 0.9,
        f"random spectra on which the rank moves as the difference says: {share}",
        numbers={"agree": share},
        starts=total,
    )


def filters_raise_rank(dynamics: RankDifferential, starts: int) -> Finding:
    shares = {}
    for name, online, target in (("online 1", 1.0, 0.0), ("target -1", 0.0, -1.0)):
        one = replace(dynamics, online_power=online, target_power=target)
        ranks = [one.readings(run)["rank"] for run in solve_starts(one, starts, rtol=1e-4)]
        shares[name] = Share(sum(bool(rank[-1] > rank[0]) for rank in ranks), starts)
    words = ", ".join(f"{name}: {share}" for name, share in shares.items())
    return judged(
        all(share.count == starts for share in shares.values()),
        f"starts whose rank rises: {words}",
        numbers=shares,
        starts=2 * starts,
    )


def wrong_filter_lowers_rank(dynamics: RankDifferential, starts: int) -> Finding:
    one = replace(dynamics, online_power=-0.5, target_power=0.0)
    fallen = 0
    for generator in generators(starts):
        run = solve(one, one.start(generator), time=0.02, rtol=1e-4)
        rank = one.readings(run)["rank"]
        fallen += bool(rank[-1] < rank[0])
    share = Share(fallen, starts)
    return judged(
        share.count == starts,
        f"starts whose rank falls with a high-pass online filter: {share}",
        numbers={"fallen": share},
        starts=starts,
    )


def no_filter_no_change(dynamics: RankDifferential, starts: int) -> Finding:
    one = replace(dynamics, online_power=0.0, target_power=0.0)
    if one.noise_variance == 0:
        one = replace(one, noise_variance=0.1)
    worst = 0.0
    for run in solve_starts(one, starts, time=10.0):
        rank = one.readings(run)["rank"]
        worst = max(worst, float(np.abs(rank - rank[0]).max()))
    if worst != worst:
        return does_not_apply("the features vanish", starts=starts)
    return judged(
        worst < 1e-3,
        f"largest change of the rank {worst:.1e}",
        numbers={"change": worst},
        starts=starts,
    )


CLAIMS: tuple[Claim[RankDifferential], ...] = (
    Claim(
        key="rank-follows",
        title="The rank follows the difference of ranks",
        source=f"{PAPER} (summary)",
        statement="The features' rank rises if the target's rank is above the online output's, "
        "and falls if it is below",
        requirement="more than 90 % of random spectra, 95 % sure",
        measure=rank_follows,
    ),
    Claim(
        key="filters-raise-rank",
        title="A low-pass online or a high-pass target filter raises the rank",
        source=f"{PAPER} (summary)",
        statement="Online power 1, or target power -1, ends at a higher rank",
        requirement="every start",
        measure=filters_raise_rank,
    ),
    Claim(
        key="wrong-filter",
        title="A high-pass online filter lowers it",
        source=f"{PAPER} (summary)",
        statement="Online power -1/2 lowers the rank",
        requirement="every start, by t = .02 (the weak modes are gone soon after)",
        measure=wrong_filter_lowers_rank,
    ),
    Claim(
        key="no-filter",
        title="Without filters the rank stays",
        source="derived here",
        statement="Without filters all modes shrink alike and the rank does not change",
        requirement="within 1e-3 to t = 10",
        measure=no_filter_no_change,
    ),
)
