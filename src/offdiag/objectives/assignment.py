"""Cross-entropy of prototype assignments: DINO's centring and SwAV's Sinkhorn."""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from offdiag._types import Embeddings, Scalar
from offdiag.objectives.objective import full_precision

Assignment = Float[Tensor, "batch prototypes"]
"""Logits or probabilities of each row over the prototypes."""


class Prototypes(nn.Module):
    """Cosines of the rows with `count` trainable vectors of length 1."""

    def __init__(self, dim: int, count: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(F.normalize(torch.randn(count, dim), dim=1))

    def forward(self, rows: Embeddings) -> Assignment:
        return F.normalize(full_precision(rows), dim=1) @ F.normalize(self.weight, dim=1).T


def cross_entropy(assignment: Assignment, logits: Assignment) -> Scalar:
    """-mean over rows of sum t log softmax(logits), in nats, at least the entropy of t."""
    return -(assignment * F.log_softmax(logits, 1)).sum(1).mean()


@torch.no_grad()
def sinkhorn(scores: Assignment, *, eps: float, iterations: int) -> Assignment:
    """Assignments (rows, prototypes), each row of sum 1 and all prototypes used about evenly.

    Q = exp(scores / eps), then `iterations` times the columns and the rows are normalised, rows
    last. Each row sums to 1 after any number; the prototypes are even only in the limit: three
    leave some 14 % of imbalance. Constant scores give 1 / prototypes. In log space.
    """
    log_q = scores.double() / eps
    for _ in range(iterations):
        log_q = log_q - log_q.logsumexp(0, keepdim=True)
        log_q = log_q - log_q.logsumexp(1, keepdim=True)
    return log_q.softmax(1).to(scores.dtype)


def mean_entropy(assignment: Assignment) -> Tensor:
    """Mean over rows of the entropy of the assignment, in [0, log prototypes]."""
    return torch.special.entr(assignment).sum(1).mean()


def entropy_of_mean(assignment: Assignment) -> Tensor:
    """Entropy of the batch's mean assignment: 0 if one prototype takes all."""
    return torch.special.entr(assignment.mean(0)).sum()
