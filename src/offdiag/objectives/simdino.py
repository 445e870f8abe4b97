"""SimDINO (Wu et al. 2025): match the teacher, and keep the coding rate instead of prototypes."""

from typing import Annotated

import torch.nn.functional as F
from torch import nn

from offdiag._checks import above_zero, at_least
from offdiag._types import Embeddings
from offdiag.objectives.coding_rate import coding_rate
from offdiag.objectives.objective import Loss, detached, full_precision


class SimDINOObjective(nn.Module):
    """1 - mean cos(student, teacher) - weight * rate, the coding rate of the student's batch Z.

    Rows of length 1. The rate is (dim + n) / (dim n) * half log det(I + dim / (n eps) Z^T Z), at
    most half (1 + dim / n) log(1 + 1 / eps), for a tight frame. No gradient reaches the teacher.
    """

    def __init__(
        self,
        *,
        eps: Annotated[float, "distortion of the coding rate, above 0"] = 0.5,
        weight: Annotated[float, "weight of the coding rate"] = 1.0,
    ) -> None:
        super().__init__()
        at_least("the weight of the coding rate", weight, 0)
        above_zero("the distortion", eps)
        self.eps, self.weight = eps, weight

    def forward(self, prediction: Embeddings, target: Embeddings) -> Loss:
        z = F.normalize(full_precision(prediction), dim=1)
        t = F.normalize(full_precision(target.detach()), dim=1)
        n, dim = z.shape
        similarity = (z * t).sum(1).mean()
        rate = (dim + n) / (dim * n) * 0.5 * coding_rate(z, gain=dim / (n * self.eps))
        return Loss(
            total=1 - similarity - self.weight * rate,
            terms=detached(invariance=1 - similarity, coding_rate=rate),
        )
