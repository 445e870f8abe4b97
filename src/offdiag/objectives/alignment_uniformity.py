"""Alignment and uniformity (Wang & Isola 2020)."""

import math
from typing import Annotated

import torch
import torch.nn.functional as F
from torch import nn

from offdiag._checks import above_zero, at_least
from offdiag._types import Embeddings, Scalar
from offdiag.objectives.objective import Loss, detached, full_precision


class AlignmentUniformity(nn.Module):
    """mean |z_a - z_b|^power + weight * mean over views of log mean exp(-t |z_i - z_j|^2).

    Rows of length 1; the second mean is over pairs i != j of one view. Uniformity is 0 where all
    outputs are equal and falls towards -2 t as they spread.
    """

    def __init__(
        self,
        *,
        power: Annotated[float, "power of the distance, above 0"] = 2.0,
        t: Annotated[float, "sharpness of the Gaussian kernel, above 0"] = 2.0,
        weight: Annotated[float, "weight of the uniformity"] = 1.0,
    ) -> None:
        super().__init__()
        for what, value in (("the power of the distance", power), ("the sharpness", t)):
            above_zero(what, value)
        at_least("the weight of the uniformity", weight, 0)
        self.power, self.t, self.weight = power, t, weight

    def forward(self, z_a: Embeddings, z_b: Embeddings) -> Loss:
        z_a, z_b = (F.normalize(full_precision(z), dim=1) for z in (z_a, z_b))
        squared = (z_a - z_b).square().sum(1)
        alignment = (squared + 1e-12).pow(self.power / 2).mean()
        uniformity = (log_potential(z_a, self.t) + log_potential(z_b, self.t)) / 2
        return Loss(
            total=alignment + self.weight * uniformity,
            terms=detached(alignment=alignment, uniformity=uniformity),
        )


def log_potential(rows: Embeddings, t: float) -> Scalar:
    """log of the mean over pairs i != j of exp(-t |z_i - z_j|^2), in [-4 t, 0] for unit rows."""
    n = len(rows)
    squared = (2 - 2 * rows @ rows.T).clamp_min(0)
    own = torch.eye(n, dtype=torch.bool, device=rows.device)
    kept = (-t * squared).masked_fill(own, -torch.inf)
    return kept.flatten().logsumexp(0) - math.log(n * (n - 1))
