"""Weighted nearest neighbours on frozen features."""

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from offdiag._checks import ConfigError

NEIGHBOURS = 20
TEMPERATURE = 0.07


def knn_accuracy(
    stored: Float[Tensor, "stored dim"],
    stored_labels: Int[Tensor, " stored"],
    queries: Float[Tensor, "queries dim"],
    query_labels: Int[Tensor, " queries"],
    *,
    neighbours: int = NEIGHBOURS,
    temperature: float = TEMPERATURE,
    rows_at_once: int = 1024,
) -> float:
    """Share of queries whose class wins the weighted vote of their nearest neighbours, in [0, 1].

    Cosine similarity s, each neighbour voting with weight exp(s / temperature)
    (Wu et al. 2018, section 3.4). `rows_at_once` bounds memory and changes nothing.
    """
    if neighbours > len(stored):
        raise ConfigError(
            f"knn needs neighbours <= number of stored features; got {neighbours} and "
            f"{len(stored)}. Store more or ask for fewer neighbours."
        )
    classes = int(stored_labels.max()) + 1
    bank = F.normalize(stored.float(), dim=1).T
    votes = F.one_hot(stored_labels.long(), classes).float()
    right = 0
    for rows, labels in zip(
        torch.split(queries, rows_at_once), torch.split(query_labels, rows_at_once), strict=True
    ):
        similarity, nearest = (F.normalize(rows.float(), dim=1) @ bank).topk(neighbours, dim=1)
        # against the best neighbour, so that no temperature overflows
        weight = ((similarity - similarity[:, :1]) / temperature).exp().unsqueeze(2)
        prediction = (votes[nearest] * weight).sum(1).argmax(1)
        right += int((prediction == labels).sum())
    return right / len(queries)
