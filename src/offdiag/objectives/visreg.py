"""VISReg (2026): scale, shape and centre of each view towards a standard Gaussian."""

from typing import Annotated

import torch

from offdiag._checks import at_least, within
from offdiag._types import Embeddings, Scalar
from offdiag.objectives.objective import Loss, detached, full_precision
from offdiag.objectives.sigreg import Directions, Stepped, random_directions


class VISReg(Stepped):
    """prediction * mean (z_a - z_b)^2 + (1 - prediction) * (scale + shape + centre), mean of views.

    scale: mean (1 - std_j)^2. shape: the sliced squared 2-Wasserstein distance of the
    standardised batch (deviation detached) to Gaussian quantiles. centre: mean of the squared
    mean. The scale's gradient stays finite where all outputs are equal, unlike SIGReg's.
    """

    def __init__(
        self,
        *,
        prediction: Annotated[float, "share of the distance between views, in [0, 1]"] = 0.1,
        slices: Annotated[int, "random directions at each step"] = 256,
    ) -> None:
        super().__init__()
        within("the share of the distance between views", prediction, 0, 1)
        at_least("the number of directions", slices, 1)
        self.prediction, self.slices = prediction, slices

    def forward(self, z_a: Embeddings, z_b: Embeddings) -> Loss:
        z_a, z_b = full_precision(z_a), full_precision(z_b)
        invariance = (z_a - z_b).square().mean()
        directions = random_directions(self.slices, like=z_a, step=self.step)
        parts = [_gaussian_terms(z, directions) for z in (z_a, z_b)]
        scale, shape, centre = (torch.stack(pair).mean() for pair in zip(*parts, strict=True))
        return Loss(
            total=self.prediction * invariance + (1 - self.prediction) * (scale + shape + centre),
            terms=detached(invariance=invariance, scale=scale, shape=shape, centre=centre),
        )


def _gaussian_terms(z: Embeddings, directions: Directions) -> tuple[Scalar, Scalar, Scalar]:
    mean = z.mean(0)
    std = (z.var(0, correction=0) + 1e-12).sqrt()
    standard = (z - mean) / std.detach().clamp_min(1e-4)
    ranked = (standard @ directions).sort(0).values
    shape = (ranked - gaussian_quantiles(len(z)).to(z).unsqueeze(1)).square().mean()
    return (1 - std).square().mean(), shape, mean.square().mean()


def gaussian_quantiles(n: int) -> torch.Tensor:
    """The quantiles of N(0, 1) at (i + 1/2) / n."""
    shares = (torch.arange(n) + 0.5) / n
    return torch.special.ndtri(shares)
