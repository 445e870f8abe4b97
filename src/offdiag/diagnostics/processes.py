"""Monitors of one torch.distributed group: who is there, and what they gather."""

import time
from itertools import count
from typing import Any

import torch
import torch.distributed as dist
from jaxtyping import Float
from torch import Tensor

from offdiag._types import Embeddings

WAIT_SECONDS = 10.0
"""How long the first reading waits for the other processes to have built their monitors: the
optimiser step before it has kept them together, so that they have or never will."""
_NUMBERS = count()


def grouped() -> bool:
    """Is this process in a torch.distributed group?"""
    return dist.is_available() and dist.is_initialized()


def device_of_collectives() -> torch.device:
    """Where this group's collectives take their tensors."""
    return torch.device("cuda" if dist.get_backend() == "nccl" else "cpu")


def gathered(rows: Embeddings) -> Float[Tensor, "gathered dim"]:
    """The rows of all processes, in their order; each may have another number of them."""
    device = device_of_collectives()
    mine = torch.tensor([len(rows)], device=device)
    counts = [torch.empty_like(mine) for _ in range(dist.get_world_size())]
    dist.all_gather(counts, mine)
    most = max(int(count) for count in counts)
    padded = torch.zeros(most, rows.shape[1], device=device)
    padded[: len(rows)] = rows.to(device)
    pieces = [torch.empty_like(padded) for _ in counts]
    dist.all_gather(pieces, padded)
    whole = [piece[: int(count)] for piece, count in zip(pieces, counts, strict=True)]
    return torch.cat(whole).to(rows.device)


def agreed(numbers: list[int]) -> list[int]:
    """The numbers of the first process, in all processes."""
    plan = torch.tensor(numbers, device=device_of_collectives())
    dist.broadcast(plan, src=0)
    return [int(number) for number in plan]


class Presence:
    """Says in the group's store that this process has a monitor, and asks for the others'.

    The n-th monitor of one process belongs to the n-th of another. Without a store, all count
    as there.
    """

    def __init__(self) -> None:
        self.name = f"offdiag/monitor/{next(_NUMBERS)}"
        self._store = _store()
        if self._store is not None:
            self._store.set(f"{self.name}/{dist.get_rank()}", "here")

    def missing(self) -> list[int]:
        """The ranks that have no monitor, after a wait if need be; all processes find the same."""
        if self._store is None:
            return []
        missing = list(range(dist.get_world_size()))
        end = time.monotonic() + WAIT_SECONDS
        while missing:
            missing = [rank for rank in missing if not self._store.check([f"{self.name}/{rank}"])]
            if not missing or time.monotonic() > end:
                break
            time.sleep(0.05)
        return missing


def _store() -> Any:
    try:
        return dist.distributed_c10d._get_default_store()
    except (AttributeError, RuntimeError):  # a private name: it may go
        return None
