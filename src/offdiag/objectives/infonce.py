"""InfoNCE (SimCLR, Chen et al. 2020) and DCL (Yeh et al. 2022): one positive, many negatives."""

from typing import Annotated

import torch
import torch.nn.functional as F
from torch import nn

from offdiag._checks import above_zero
from offdiag._types import Embeddings
from offdiag.objectives.objective import Loss, detached, full_precision


class InfoNCE(nn.Module):
    """-mean [s_ii' / tau - log (positive + sum of 2 n - 2 negatives)], s the cosines.

    Each row of each view is scored against its partner and against every other row of both
    views (NT-Xent). log(2 n - 1) where all outputs are equal, log(2 n - 2) with `decoupled`,
    which leaves the positive out of the sum (DCL) and is then unbounded below.
    """

    def __init__(
        self,
        *,
        temperature: Annotated[float, "tau, above 0"] = 0.5,
        decoupled: Annotated[bool, "leave the positive out of the denominator (DCL)"] = False,
    ) -> None:
        super().__init__()
        above_zero("the temperature", temperature)
        self.temperature, self.decoupled = temperature, decoupled

    def forward(self, z_a: Embeddings, z_b: Embeddings) -> Loss:
        rows = F.normalize(full_precision(torch.cat((z_a, z_b))), dim=1)
        n = len(z_a)
        similarity = rows @ rows.T / self.temperature
        own = torch.eye(2 * n, dtype=torch.bool, device=rows.device)
        partner = own.roll(n, 0)
        positive = similarity[partner]
        left_out = own | partner if self.decoupled else own
        others = similarity.masked_fill(left_out, -torch.inf).logsumexp(1)
        return Loss(
            total=(others - positive).mean(),
            terms=detached(alignment=-positive.mean(), uniformity=others.mean()),
        )
