"""CPLearn (FALCON; Sansone et al. 2025): frozen random codes, matched and used evenly."""

import math
from typing import Annotated

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from offdiag._checks import ConfigError, at_least
from offdiag._types import Embeddings
from offdiag.objectives.assignment import Assignment
from offdiag.objectives.objective import Loss, detached, full_precision


class CPLearn(nn.Module):
    """Half the sum over both orders of KL(mean p | uniform) + match * CE(p_b -> p_a).

    p = softmax(tanh(BN(Linear(z))) W / T) with W of `codes` frozen columns of +-1 in `width`
    rows, T = width / (sqrt(n) log((1 - eps (codes - 1)) / eps)): sharper for larger batches. For
    equal views and match = 1 the loss is log(codes) - I(sample; code), at least
    log(codes / min(n, codes)); log(codes) where all samples have one code. No stop-gradient.
    """

    sees_whole_batch = True
    signs: Tensor

    def __init__(
        self,
        dim: int,
        *,
        codes: Annotated[int, "number of codes"] = 1024,
        width: Annotated[int, "width before the codes"] = 256,
        match: Annotated[float, "weight of the cross-entropy between views"] = 1.0,
        eps: Annotated[float, "probability left to each other code, above 0"] = 1e-8,
    ) -> None:
        super().__init__()
        at_least("the number of codes", codes, 2)
        at_least("the width before the codes", width, 1)
        at_least("the weight of the cross-entropy", match, 0)
        if not 0 < eps < 1 / codes:
            raise ConfigError(f"eps must lie between 0 and 1 / codes; got {eps:g}.")
        self.match = match
        self.sharpness = math.log((1 - eps * (codes - 1)) / eps)
        self.layer = nn.Sequential(nn.Linear(dim, width, bias=False), nn.BatchNorm1d(width))
        self.register_buffer("signs", torch.randint(0, 2, (width, codes)).float() * 2 - 1)

    def forward(self, z_a: Embeddings, z_b: Embeddings) -> Loss:
        temperature = len(self.signs) / (math.sqrt(len(z_a)) * self.sharpness)
        logs = [
            F.log_softmax(full_precision(self.layer(z)).tanh() @ self.signs / temperature, 1)
            for z in (z_a, z_b)
        ]
        spread = sum((_to_uniform(log) for log in logs), logs[0].new_zeros(())) / 2
        matched = mean_cross_entropy(*logs)
        return Loss(
            total=spread + self.match * matched,
            terms=detached(uniformity=spread, cross_entropy=matched),
        )


def _to_uniform(log_p: Assignment) -> Tensor:
    """KL of the batch's mean assignment from the uniform one, in [0, log codes]."""
    log_mean = log_p.logsumexp(0) - math.log(len(log_p))
    return (log_mean.exp() * log_mean).sum() + math.log(log_p.shape[1])


def mean_cross_entropy(log_a: Assignment, log_b: Assignment) -> Tensor:
    """Half the cross-entropy of each view's assignment with the other's, in nats."""
    both = (log_b.exp() * log_a).sum(1) + (log_a.exp() * log_b).sum(1)
    return -both.mean() / 2
