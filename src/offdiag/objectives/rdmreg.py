"""RDMReg (Rectified LpJEPA, 2026): rectified outputs towards a rectified generalised Gaussian."""

from typing import Annotated

import torch

from offdiag._checks import above_zero, at_least
from offdiag._types import Embeddings, Scalar
from offdiag.objectives.objective import Loss, detached, full_precision
from offdiag.objectives.sigreg import SEED, Stepped, random_directions


class RDMReg(Stepped):
    """mean (y_a - y_b)^2 + weight * mean over directions and ranks of (sort(y c) - sort(t c))^2.

    y = relu(z); t is drawn from max(0, x) with x of density proportional to exp(-|x|^p / p),
    mean `shift`, anew at each step; c are random unit directions. Near 0 for outputs of that law:
    about 1 / n, the noise of two samples. Sparse, non-negative outputs.
    """

    def __init__(
        self,
        *,
        weight: Annotated[float, "weight of the distribution term"] = 1.0,
        p: Annotated[float, "power of the generalised Gaussian, above 0; 2 is Gaussian"] = 1.0,
        shift: Annotated[float, "mean before rectification; below 0 is sparser"] = 0.0,
        slices: Annotated[int, "random directions at each step"] = 256,
    ) -> None:
        super().__init__()
        at_least("the weight of the distribution term", weight, 0)
        at_least("the number of directions", slices, 1)
        above_zero("the power p", p)
        self.weight, self.p, self.shift, self.slices = weight, p, shift, slices

    def forward(self, *projections: Embeddings) -> Loss:
        views = torch.stack([full_precision(z).relu() for z in projections])
        _, n, dim = views.shape
        directions = random_directions(self.slices, like=views[0], step=self.step)
        aim = rectified_sample(n, dim, p=self.p, shift=self.shift, step=self.step).to(views)
        ranked = (aim @ directions).sort(0).values
        distance = torch.stack([_to_ranks(y @ directions, ranked) for y in views]).mean()
        invariance = (views - views.mean(0)).square().mean()
        return Loss(
            total=invariance + self.weight * distance,
            terms=detached(invariance=invariance, distribution=distance),
        )


def _to_ranks(projected: Embeddings, ranked: Embeddings) -> Scalar:
    return (projected.sort(0).values - ranked).square().mean()


def rectified_sample(n: int, dim: int, *, p: float, shift: float, step: int) -> Embeddings:
    """max(0, shift + x), x of density proportional to exp(-|x|^p / p), drawn from the step alone.

    |x|^p / p follows a Gamma law of shape 1 / p, drawn here by inverting its distribution function.
    """
    import numpy as np
    from scipy.special import gammaincinv

    random = np.random.default_rng((SEED, step))
    size = (p * gammaincinv(1 / p, random.random((n, dim)))) ** (1 / p)
    signs = random.choice((-1.0, 1.0), size=(n, dim))
    return torch.from_numpy(np.maximum(0.0, shift + signs * size)).float()
