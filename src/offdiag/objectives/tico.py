"""TiCo (Zhu et al. 2022): invariance, and a covariance with memory that new rows avoid."""

from typing import Annotated

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from offdiag._checks import at_least, within
from offdiag._types import Embeddings
from offdiag.objectives.objective import Loss, detached, full_precision


class TiCo(nn.Module):
    """1 - mean cos(z_a, z_b) + weight * mean z^T C z over both views, rows of length 1.

    C is the moving average of the rows' second moment, this batch included and at first alone; no
    gradient passes through its past. The second term is weight / dim for a white batch and
    `weight` where all outputs are equal. The published method takes view b from a momentum
    encoder; here both views are online, which makes the loss symmetric.
    """

    moment: Tensor
    fitted: Tensor

    def __init__(
        self,
        dim: int,
        *,
        memory: Annotated[float, "share of the covariance that is kept at a step"] = 0.9,
        weight: Annotated[float, "weight of the covariance term"] = 8.0,
    ) -> None:
        super().__init__()
        within("the memory of the covariance", memory, 0, 1)
        at_least("the weight of the covariance term", weight, 0)
        self.memory, self.weight = memory, weight
        self.register_buffer("moment", torch.zeros(dim, dim))
        self.register_buffer("fitted", torch.zeros((), dtype=torch.bool))

    def forward(self, z_a: Embeddings, z_b: Embeddings) -> Loss:
        z_a, z_b = (F.normalize(full_precision(z), dim=1) for z in (z_a, z_b))
        rows = torch.cat((z_a, z_b))
        keep = torch.where(self.fitted, self.memory, 0.0)
        C = keep * self.moment + (1 - keep) * rows.T @ rows / len(rows)
        invariance = 1 - (z_a * z_b).sum(1).mean()
        covariance = (rows @ C * rows).sum(1).mean()
        return Loss(
            total=invariance + self.weight * covariance,
            terms=detached(invariance=invariance, covariance=covariance),
        )

    @torch.no_grad()
    def refit(self, views: tuple[Embeddings, ...], *, step: int) -> None:
        """Move the covariance by this batch."""
        rows = F.normalize(full_precision(torch.cat(views)), dim=1)
        keep = torch.where(self.fitted, self.memory, 0.0)
        self.moment.mul_(keep).add_((1 - keep) * rows.T @ rows / len(rows))
        self.fitted.fill_(True)
