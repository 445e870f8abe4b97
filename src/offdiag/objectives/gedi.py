"""GEDI without generation (Sansone & Manhaeve 2024): clusters that are matched and all used."""

import math
from typing import Annotated

import torch.nn.functional as F
from torch import nn

from offdiag._checks import above_zero, at_least
from offdiag._types import Embeddings
from offdiag.objectives.cplearn import mean_cross_entropy
from offdiag.objectives.objective import Loss, detached, full_precision


class GEDIWithoutGeneration(nn.Module):
    """-(1/2) sum_k log mean p_k + match * mean cross-entropy of the views' assignments.

    p = softmax(Linear(z) / temperature) over `clusters`. The first term is at least
    clusters / 2 * log(clusters), reached where all clusters are used evenly, and grows without
    bound as one dies. The published cross-entropy goes one way; both ways are averaged here.
    """

    def __init__(
        self,
        dim: int,
        *,
        clusters: Annotated[int, "number of clusters"] = 64,
        temperature: Annotated[float, "of the assignments, above 0"] = 0.1,
        match: Annotated[float, "weight of the cross-entropy between views"] = 10.0,
    ) -> None:
        super().__init__()
        at_least("the number of clusters", clusters, 2)
        at_least("the weight of the cross-entropy", match, 0)
        above_zero("the temperature", temperature)
        self.temperature, self.match = temperature, match
        self.clusters = nn.Linear(dim, clusters)

    def forward(self, z_a: Embeddings, z_b: Embeddings) -> Loss:
        logs = [
            F.log_softmax(
                full_precision(self.clusters(F.normalize(z, dim=1))) / self.temperature, 1
            )
            for z in (z_a, z_b)
        ]
        log_means = [log.logsumexp(0) - math.log(len(log)) for log in logs]
        spread = -0.25 * (log_means[0].sum() + log_means[1].sum())
        matched = mean_cross_entropy(*logs)
        return Loss(
            total=spread + self.match * matched,
            terms=detached(uniformity=spread, cross_entropy=matched),
        )
