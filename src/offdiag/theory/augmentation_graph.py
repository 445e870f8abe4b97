"""The spectral contrastive loss on a finite augmentation graph (HaoChen et al. 2021).

Every sample x has augmentations a with probabilities p(a | x); positive pairs are two
augmentations of one sample. With A the normalised adjacency, A_ab = w_ab / sqrt(w_a w_b), and
rows F_a = sqrt(w_a) f(a), the loss is -2 tr(F^T A F) + |F^T F|^2.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
from jaxtyping import Float

from offdiag._checks import at_least, within
from offdiag.theory.claim import Claim, Finding, Share, does_not_apply, judged
from offdiag.theory.dynamics import Learned
from offdiag.theory.solution import Solution, State
from offdiag.theory.solve import solve_starts

PAPER = "HaoChen et al. 2021"
LEVEL = 0.5  # a direction is learned if its eigenvalue of F^T F is above this share of A's


@dataclass(frozen=True, kw_only=True)
class AugmentationGraph:
    """Features F (augmentations, width), from entries of standard deviation `scale`.

    `clusters` clusters of `samples` samples with `views` own augmentations each. An augmentation
    of a sample is one of its own with probability 1 - reach, else one drawn from its cluster,
    or, with probability `leak`, from all. reach 0: augmentations of different samples are
    disjoint; reach and leak 1: they do not depend on the sample.
    """

    clusters: int = 2
    samples: int = 3
    views: int = 2
    reach: float = 0.5
    leak: float = 0.1
    width: int = 2
    scale: float = 0.01

    def __post_init__(self) -> None:
        for name in ("clusters", "samples", "views", "width"):
            at_least(name, float(getattr(self, name)), 1.0)
        within("reach", self.reach, 0.0, 1.0)
        within("leak", self.leak, 0.0, 1.0)

    @property
    def augmentations(self) -> Float[np.ndarray, "samples augmentations"]:
        """p(a | x): one row a sample, summing to 1."""
        return augmentation_table(
            self.clusters, self.samples, self.views, float(self.reach), float(self.leak)
        )

    @property
    def adjacency(self) -> Float[np.ndarray, "augmentations augmentations"]:
        """The normalised adjacency matrix: symmetric, eigenvalues in [0, 1], the largest 1."""
        return normalised_adjacency(self.augmentations)

    @property
    def eigenvalues(self) -> Float[np.ndarray, " augmentations"]:
        """Those of the adjacency, largest first."""
        return np.linalg.eigvalsh(self.adjacency)[::-1]

    @property
    def least_loss(self) -> float:
        """-sum of the squares of the `width` largest eigenvalues."""
        return -float((self.eigenvalues[: self.width] ** 2).sum())

    @property
    def horizon(self) -> float:
        """Long against the last mode that can be learned."""
        last = max(float(self.eigenvalues[min(self.width, len(self.eigenvalues)) - 1]), 0.05)
        return 10 + 3 * np.log(1 / self.scale) / last

    def start(self, generator: np.random.Generator) -> State:
        """Small random features."""
        nodes = self.clusters * self.samples * self.views
        return {"features": self.scale * generator.standard_normal((nodes, self.width))}

    def velocity(self, time: float, state: State) -> State:
        """-gradient: 4 (A F - F F^T F)."""
        F = state["features"]
        return {"features": 4 * (self.adjacency @ F - F @ (F.T @ F))}

    def readings(self, solution: Solution) -> Mapping[str, np.ndarray]:
        """Eigenvalues of F^T F, and the loss."""
        F = solution.states["features"]
        F_T = np.swapaxes(F, -1, -2)
        gram = F_T @ F
        inner = np.trace(F_T @ self.adjacency @ F, axis1=-2, axis2=-1)
        return {
            "eigenvalues": np.linalg.eigvalsh(gram)[:, ::-1],
            "loss": -2 * inner + (gram**2).sum((-2, -1)),
        }

    def outcome(self, solution: Solution) -> Learned:
        """How many of the directions that the graph offers are learned."""
        offered = self.eigenvalues[: self.width]
        offered = offered[offered > 1e-9]
        last = self.readings(solution)["eigenvalues"][-1][: len(offered)]
        return Learned.of(solution, last / offered, LEVEL)


@lru_cache(maxsize=256)
def augmentation_table(
    clusters: int, samples: int, views: int, reach: float, leak: float
) -> Float[np.ndarray, "samples augmentations"]:
    """p(a | x) of `AugmentationGraph`."""
    total = clusters * samples
    own = np.kron(np.eye(total), np.full((1, views), 1 / views))
    cluster = np.kron(np.eye(clusters), np.full((samples, samples * views), 1 / (samples * views)))
    everything = np.full((total, total * views), 1 / (total * views))
    table = (1 - reach) * own + reach * ((1 - leak) * cluster + leak * everything)
    table.flags.writeable = False
    return table


def normalised_adjacency(
    augmentations: Float[np.ndarray, "samples nodes"],
) -> Float[np.ndarray, "nodes nodes"]:
    """A_ab = sum_x p(x) p(a|x) p(b|x) / sqrt(p(a) p(b)), samples equally likely."""
    joint = augmentations.T @ augmentations / len(augmentations)
    weight = joint.sum(1)
    return np.asarray(joint / np.sqrt(np.outer(weight, weight)))


def complexity(augmentations: Float[np.ndarray, "samples nodes"]) -> tuple[float, float]:
    """kappa^2 = max_x K(x, x) and S = E K(x, x), with K(x, y) = sum_a p(a|x) p(a|y) / p(a).

    kappa^2 is 1 if augmentations do not depend on the sample, and the number of samples if
    those of different samples are disjoint. S is the sum of the eigenvalues.
    """
    own = (augmentations**2 / augmentations.mean(0)).sum(1)
    return float(own.max()), float(own.mean())


def minimum_reached(dynamics: AugmentationGraph, starts: int) -> Finding:
    worst = 0.0
    for run in solve_starts(dynamics, starts, time=5 * dynamics.horizon):
        worst = max(worst, float(dynamics.readings(run)["loss"][-1] - dynamics.least_loss))
    return judged(
        worst < 1e-3,
        f"least loss {dynamics.least_loss:.4g}; largest distance {worst:.1e}",
        numbers={"least": dynamics.least_loss, "distance": worst},
        starts=starts,
    )


def complexity_extremes(dynamics: AugmentationGraph, starts: int) -> Finding:
    samples = dynamics.clusters * dynamics.samples
    apart = complexity(replace(dynamics, reach=0.0).augmentations)
    same = complexity(replace(dynamics, reach=1.0, leak=1.0).augmentations)
    here, total = complexity(dynamics.augmentations), float(dynamics.eigenvalues.sum())
    good = abs(apart[0] - samples) < 1e-9 and abs(same[0] - 1) < 1e-9
    return judged(
        good and abs(here[1] - total) < 1e-9,
        f"kappa^2 {apart[0]:.4g} for disjoint augmentations of {samples} samples, {same[0]:.4g} "
        f"for independent ones, {here[0]:.4g} here; S {here[1]:.4g}, sum of eigenvalues "
        f"{total:.4g}",
        numbers={"disjoint": apart[0], "independent": same[0], "here": here[0]},
        starts=1,
    )


def clusters_found(dynamics: AugmentationGraph, starts: int) -> Finding:
    one = replace(dynamics, width=dynamics.clusters)
    if one.clusters < 2 or one.reach in (0.0, 1.0) or one.leak > 0.3 or one.samples < 2:
        return does_not_apply("the graph has no clusters to find")
    nodes = one.samples * one.views
    labels = np.repeat(np.arange(one.clusters), nodes)
    right = 0
    for run in solve_starts(one, starts, time=5 * one.horizon):
        F = run.states["features"][-1]
        probe = np.linalg.lstsq(F, np.eye(one.clusters)[labels], rcond=None)[0]
        right += bool(((F @ probe).argmax(1) == labels).all())
    share = Share(right, starts)
    return judged(
        share.count == starts,
        f"starts whose features a linear probe separates by cluster: {share}",
        numbers={"right": share},
        starts=starts,
    )


CLAIMS: tuple[Claim[AugmentationGraph], ...] = (
    Claim(
        key="minimum",
        title="The minimum is the top of the spectrum",
        source=PAPER,
        statement="The flow ends at -sum of the squares of the `width` largest eigenvalues",
        requirement="within 1e-3 in every start",
        measure=minimum_reached,
    ),
    Claim(
        key="clusters",
        title="A linear probe reads the clusters",
        source=PAPER,
        statement="With as many features as clusters a linear probe separates them",
        requirement="every start, every augmentation",
        measure=clusters_found,
    ),
    Claim(
        key="complexity",
        title="Complexity of an augmentation",
        source="Zhai et al. 2024 (through reviews)",
        statement="kappa^2 runs from 1 (independent of the sample) to the number of samples "
        "(disjoint); S is the sum of the eigenvalues",
        requirement="to 1e-9",
        measure=complexity_extremes,
    ),
)
