"""Weighted nearest neighbours on frozen features."""

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from offdiag._checks import ConfigError
from offdiag._precision import tensor_float32

NEIGHBOURS = 20
TEMPERATURE = 0.07
SIMILARITIES_AT_ONCE = {"cpu": 2**24, "cuda": 2**28}
"""By device: on a CPU what is read again at once, on a card enough to keep it busy (1 GiB)."""


@torch.no_grad()
def knn_accuracy(
    stored: Float[Tensor, "stored dim"],
    stored_labels: Int[Tensor, " stored"],
    queries: Float[Tensor, "queries dim"],
    query_labels: Int[Tensor, " queries"],
    *,
    neighbours: int = NEIGHBOURS,
    temperature: float = TEMPERATURE,
    rows_at_once: int | None = None,
) -> float:
    """Share of queries whose class wins the weighted vote of their nearest neighbours, in [0, 1].

    Cosine similarity s, each neighbour voting with weight exp(s / temperature)
    (Wu et al. 2018, section 3.4). Computed where the features lie, in float32 and never in
    TensorFloat-32. `rows_at_once` bounds memory and changes nothing.
    """
    if neighbours > len(stored):
        raise ConfigError(
            f"knn needs neighbours <= number of stored features; got {neighbours} and "
            f"{len(stored)}. Store more or ask for fewer neighbours."
        )
    classes = int(stored_labels.max()) + 1
    bank = F.normalize(stored.float(), dim=1).T
    votes = F.one_hot(stored_labels.long(), classes).float()
    if rows_at_once is None:
        most = SIMILARITIES_AT_ONCE.get(stored.device.type, SIMILARITIES_AT_ONCE["cpu"])
        rows_at_once = max(1, most // len(stored))
    right = torch.zeros((), dtype=torch.long, device=stored.device)  # waits for the device once
    with tensor_float32(False, stored.device):
        for rows, labels in zip(
            torch.split(queries, rows_at_once), torch.split(query_labels, rows_at_once), strict=True
        ):
            similarity, nearest = (F.normalize(rows.float(), dim=1) @ bank).topk(neighbours, dim=1)
            # against the best neighbour, so that no temperature overflows
            weight = ((similarity - similarity[:, :1]) / temperature).exp().unsqueeze(2)
            prediction = (votes[nearest] * weight).sum(1).argmax(1)
            right += (prediction == labels).sum()
    return int(right) / len(queries)
