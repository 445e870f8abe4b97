"""SIGReg (LeJEPA, Balestriero & LeCun 2025) and its weak form: projections towards N(0, I)."""

import math
from typing import Annotated

import torch
from jaxtyping import Float
from torch import Tensor, nn

from offdiag._checks import at_least, within
from offdiag._types import Embeddings, Scalar
from offdiag.objectives.objective import Loss, detached, full_precision

Directions = Float[Tensor, "dim slices"]
SEED = 20251111


def epps_pulley(
    embeddings: Embeddings, directions: Directions, *, knots: int = 17, end: float = 3.0
) -> Scalar:
    """Mean over the directions of n * integral |phi(t) - exp(-t^2 / 2)|^2 exp(-t^2 / 2) dt.

    phi is the empirical characteristic function of the projected rows, the integral the
    trapezoidal rule on [-end, end] with `knots` on its positive half. About 1.05 for rows drawn
    from N(0, I), whatever n and dim; .402 n where all rows are 0: it grows with n.
    """
    t = torch.linspace(0, end, knots).to(embeddings)
    step = end / (knots - 1)
    weights = torch.full_like(t, 2 * step)
    weights[0] = weights[-1] = step
    gaussian = torch.exp(-t.square() / 2)
    angles = (embeddings @ directions).unsqueeze(-1) * t
    real, imaginary = angles.cos().mean(0), angles.sin().mean(0)
    distance = (real - gaussian).square() + imaginary.square()
    return len(embeddings) * (distance * gaussian * weights).sum(-1).mean()


def random_directions(slices: int, *, like: Embeddings, step: int) -> Directions:
    """Unit vectors as columns for rows like these, drawn from the step alone, on every process."""
    generator = torch.Generator().manual_seed(SEED + step)
    drawn = torch.randn(like.shape[1], slices, generator=generator)
    return (drawn / drawn.norm(dim=0)).to(like)


class Stepped(nn.Module):
    """Counts the steps that it is refitted at, and keeps the count in checkpoints."""

    def __init__(self) -> None:
        super().__init__()
        self.step = 0

    def refit(self, views: tuple[Embeddings, ...], *, step: int) -> None:
        self.step = step + 1

    def get_extra_state(self) -> Tensor:
        return torch.tensor(self.step)

    def set_extra_state(self, state: Tensor) -> None:
        self.step = int(state)


class SIGReg(Stepped):
    """weight * mean over views of T(z_v) + (1 - weight) * mean (z_v - mean over views)^2.

    T is `epps_pulley` over `slices` random directions, drawn anew at each step. No stop-gradient,
    no target network, no head. T grows with the batch, so the weight means another thing at
    another batch size. Beyond 16 dimensions it sees little besides mean and covariance.
    """

    def __init__(
        self,
        *,
        weight: Annotated[float, "weight of the Gaussian term, in [0, 1]"] = 0.02,
        slices: Annotated[int, "random directions at each step"] = 256,
    ) -> None:
        super().__init__()
        within("the weight of the Gaussian term", weight, 0, 1)
        at_least("the number of directions", slices, 1)
        self.weight, self.slices = weight, slices

    def forward(self, *projections: Embeddings) -> Loss:
        views = torch.stack([full_precision(z) for z in projections])
        directions = random_directions(self.slices, like=views[0], step=self.step)
        gaussian = torch.stack([epps_pulley(z, directions) for z in views]).mean()
        invariance = (views - views.mean(0)).square().mean()
        return Loss(
            total=self.weight * gaussian + (1 - self.weight) * invariance,
            terms=detached(gaussian=gaussian, invariance=invariance),
        )


class WeakSIGReg(Stepped):
    """mean (z_v - mean over views)^2 + weight * mean over views of |cov(z_v S) - I|_F.

    S has `sketch` Gaussian columns of variance 1 / dim, drawn anew at each step, so that white
    rows keep the covariance of their sketch near the identity. 0 is not reached: the sketch of a
    white batch has sampling noise.
    """

    def __init__(
        self,
        *,
        weight: Annotated[float, "weight of the covariance term"] = 0.1,
        sketch: Annotated[int, "columns of the random sketch"] = 64,
    ) -> None:
        super().__init__()
        at_least("the weight of the covariance term", weight, 0)
        at_least("the width of the sketch", sketch, 1)
        self.weight, self.sketch = weight, sketch

    def forward(self, *projections: Embeddings) -> Loss:
        views = torch.stack([full_precision(z) for z in projections])
        dim = views.shape[2]
        columns = min(self.sketch, dim)
        generator = torch.Generator().manual_seed(SEED + self.step)
        S = torch.randn(dim, columns, generator=generator).to(views) / math.sqrt(dim)
        covariance = torch.stack([_distance_to_white(z @ S) for z in views]).mean()
        invariance = (views - views.mean(0)).square().mean()
        return Loss(
            total=invariance + self.weight * covariance,
            terms=detached(covariance=covariance, invariance=invariance),
        )


def _distance_to_white(rows: Embeddings) -> Scalar:
    centred = rows - rows.mean(0)
    C = centred.T @ centred / max(1, len(rows) - 1)
    # the root of a sum of squares has no slope at 0: a little is added under it
    return ((C - torch.eye(len(C), device=C.device)).square().sum() + 1e-12).sqrt()
