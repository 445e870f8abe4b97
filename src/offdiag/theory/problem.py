"""One frozen description of the data, the network and its training."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
from jaxtyping import Float

from offdiag._checks import ConfigError, at_least
from offdiag.theory import kernels

Masks = Literal["half", "independent"]
Normaliser = Literal["bn", "none"]
StopGradient = Literal["target", "none", "online"]

# E[u^q v^q] of two Gaussians: the pairings of q copies of u and of v, j of them across, are
# C(q, j)^2 j! ((q - j - 1)!!)^2 for odd j; from j = q down to 1.
MOMENTS: Mapping[int, tuple[float, ...]] = {3: (6.0, 9.0), 5: (120.0, 600.0, 225.0)}

# Whether the gradient passes through the online branch F and through the target branch G.
GRADIENT: Mapping[str, tuple[float, float]] = {
    "target": (1.0, 0.0),
    "none": (1.0, 1.0),
    "online": (0.0, 1.0),
}


@dataclass(frozen=True, kw_only=True)
class Problem:
    """The setting of docs/theory.md, section 1; the defaults are its reference problem.

    A sample is `patches` vectors of dimension `dim`. In `feature_patches` of them stands
    +-`strengths[l]` v_l for the one feature l of the sample, drawn with
    `probabilities` (uniform if None); the others hold Gaussian noise of standard deviation
    `noise` in each coordinate off the features. The two views keep complementary patches:
    a uniformly drawn half of them, or each with probability 1/2.

    `neurons` neurons of odd activation `power` 3 or 5. `normaliser` "bn" divides each
    output by its standard deviation. `stop_gradient` says where no gradient passes: the
    target branch (the paper), nowhere, or the online branch. `head_trains[j][r]` says
    whether entry (j, r) of the head learns (None: all off the diagonal), from `head_start`
    (None: the identity), at `head_lr_ratio` times the learning rate of the neurons; 0
    freezes it. `seed` draws the starts.
    """

    dim: int = 1000
    strengths: tuple[float, ...] = (4.0, 2.0)
    probabilities: tuple[float, ...] | None = None
    patches: int = 16
    feature_patches: int = 2
    masks: Masks = "half"
    noise: float = 1.0
    neurons: int = 2
    power: int = 3
    normaliser: Normaliser = "bn"
    stop_gradient: StopGradient = "target"
    head_trains: tuple[tuple[bool, ...], ...] | None = None
    head_start: tuple[tuple[float, ...], ...] | None = None
    head_lr_ratio: float = 0.01
    seed: int = 0

    def __post_init__(self) -> None:
        m, k = self.neurons, self.features
        if k < 1 or not all(0 < a < np.inf for a in self.strengths):
            raise ConfigError(
                "strengths must be one or more positive numbers, one for each feature; "
                f"got {self.strengths}."
            )
        if self.probabilities is not None and (
            len(self.probabilities) != k
            or not all(p > 0 for p in self.probabilities)
            or abs(sum(self.probabilities) - 1) > 1e-9
        ):
            raise ConfigError(
                f"probabilities must be {k} positive numbers, one for each strength, that sum "
                f"to 1; got {self.probabilities}."
            )
        at_least("neurons", float(m), 1.0)
        at_least("feature_patches", float(self.feature_patches), 1.0)
        if self.patches < self.feature_patches:
            raise ConfigError(
                f"patches must be at least feature_patches = {self.feature_patches}, "
                f"which are among them; got {self.patches}."
            )
        if self.masks == "half" and (self.patches % 2 or self.feature_patches < 2):
            raise ConfigError(
                "masks 'half' need an even number of patches, two of them with the feature, so "
                f"that both views can see it; got patches={self.patches}, feature_patches="
                f"{self.feature_patches}. Change one, or take masks 'independent'."
            )
        if self.feature_patches < 2:
            raise ConfigError(
                "feature_patches must be at least 2: with one patch the two views never share "
                f"the feature; got {self.feature_patches}."
            )
        if self.dim < k + m:
            raise ConfigError(
                f"dim must be at least features + neurons = {k + m}, so that noise has room "
                f"beside the features; got {self.dim}."
            )
        if not 0 < self.noise < np.inf:
            raise ConfigError(
                f"noise must be a positive number: without any, nothing is left to learn once a "
                f"feature is found, and steps would have no scale; got {self.noise}."
            )
        at_least("head_lr_ratio", self.head_lr_ratio, 0.0)
        if self.power not in MOMENTS:
            raise ConfigError(
                f"power must be odd and one of {', '.join(map(str, MOMENTS))}; got {self.power}."
            )
        for name, known in (
            ("masks", ("half", "independent")),
            ("normaliser", ("bn", "none")),
            ("stop_gradient", tuple(GRADIENT)),
        ):
            if getattr(self, name) not in known:
                raise ConfigError(
                    f"{name} must be one of {', '.join(known)}; got {getattr(self, name)!r}."
                )
        for name, table in (("head_trains", self.head_trains), ("head_start", self.head_start)):
            if table is not None and [len(row) for row in table] != [m] * m:
                raise ConfigError(f"{name} must be {m} rows of {m} entries; got {table}.")
        if not np.isfinite(self.head).all():
            raise ConfigError(f"head_start must hold finite numbers; got {self.head_start}.")
        at_least("seed", float(self.seed), 0.0)

    @property
    def features(self) -> int:
        """Number of features, k."""
        return len(self.strengths)

    @property
    def head(self) -> Float[np.ndarray, "neurons neurons"]:
        """The head at the start."""
        return np.eye(self.neurons) if self.head_start is None else np.array(self.head_start)

    @property
    def trains(self) -> np.ndarray:
        """Which entries of the head learn, (neurons, neurons), true or false."""
        if self.head_lr_ratio == 0:
            return np.zeros((self.neurons, self.neurons), bool)
        if self.head_trains is None:
            return ~np.eye(self.neurons, dtype=bool)
        return np.array(self.head_trains, bool)

    @property
    def patch_moments(self) -> tuple[float, float]:
        """k11 = E[n^2] of the feature patches n in one view, and k12 = E[n_1 n_2] (eq. 2)."""
        P, P_0 = self.patches, self.feature_patches
        variance = P_0 * (P - P_0) / (4 * (P - 1)) if self.masks == "half" else P_0 / 4
        return P_0**2 / 4 + variance, P_0**2 / 4 - variance

    @property
    def least_loss(self) -> float:
        """The loss with every neuron on some feature and no noise left, m (1 - k12 / k11).

        The same for one feature on all neurons as for one each: the loss cannot tell
        collapse from success. 0 without a normaliser, where vanishing is optimal.
        """
        k11, k12 = self.patch_moments
        return self.neurons * (1 - k12 / k11) if self.normaliser == "bn" else 0.0

    def constants(self) -> kernels.Constants:
        """The same as numbers for the compiled kernels."""
        k = self.features
        k11, k12 = self.patch_moments
        to_online, to_target = GRADIENT[self.stop_gradient]
        rows, columns = np.nonzero(self.trains)
        return kernels.Constants(
            neurons=self.neurons,
            features=k,
            power=self.power,
            signal=np.array(self.strengths, float) ** self.power,
            weights=np.array(self.probabilities or (1 / k,) * k, float),
            same=k11,
            cross=k12,
            noise_patches=(self.patches - self.feature_patches) / 2,
            noise_variance=float(self.noise) ** 2,
            moments=np.array(MOMENTS[self.power]),
            normalised=self.normaliser == "bn",
            to_online=to_online,
            to_target=to_target,
            rho=float(self.head_lr_ratio),
            head=self.head.astype(float),
            rows=np.ascontiguousarray(rows),
            columns=np.ascontiguousarray(columns),
        )

    def to_dict(self) -> dict[str, Any]:
        """Its fields, as JSON can hold them."""
        return asdict(self)

    @classmethod
    def from_dict(cls, fields: Mapping[str, Any]) -> "Problem":
        """The problem whose fields `to_dict` gave, also after a journey through JSON."""
        return cls(**{name: _tuples(value) for name, value in fields.items()})


def _tuples(value: Any) -> Any:
    return tuple(map(_tuples, value)) if isinstance(value, list | tuple) else value
