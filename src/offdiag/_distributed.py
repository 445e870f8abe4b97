"""Sums, means and rows over all processes of a run; without torch.distributed, this process's."""

from typing import Any

import torch
import torch.distributed as dist
from jaxtyping import Float
from torch import Tensor

from offdiag._types import Embeddings

PerChannel = Float[Tensor, " channels"]
Rows = Float[Tensor, "batch channels *places"]


def processes() -> int:
    """How many processes share each batch: 1 unless torch.distributed has been set up."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def mean_over_processes(value: Tensor) -> Tensor:
    """The mean of a tensor over all processes, without a gradient; nothing waits for it.

    Fabric's `all_reduce` has all processes meet first, which on an accelerator holds up the
    one that issues the work.
    """
    if processes() == 1:
        return value
    return _summed(value.detach()) / processes()


class SumOverProcesses(torch.autograd.Function):
    """The sum of a tensor over all processes, with a gradient.

    Every process's loss depends on every process's input, so the gradient is the
    sum of theirs. It is then that of the sum of all losses, and averaged by DDP
    that of their mean, which is the loss of the whole batch.
    """

    @staticmethod
    def forward(ctx: Any, values: Tensor) -> Tensor:
        return _summed(values)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        return _summed(gradient)


def whole_batch(rows: Embeddings) -> Float[Tensor, "rows dim"]:
    """The rows of all processes, in the order of their ranks, with a gradient to each.

    A loss of these rows is the same on every process, and DDP's mean of the gradients is the
    gradient of that loss. Every process must hold equally many rows and call this together.
    """
    if processes() == 1:
        return rows
    size, own = processes(), len(rows)
    rank = dist.get_rank()
    spread = rows.new_zeros((size * own, *rows.shape[1:]))
    placed = torch.cat((spread[: rank * own], rows, spread[(rank + 1) * own :]))
    gathered: Tensor = SumOverProcesses.apply(placed)  # zeros elsewhere: exact
    return gathered


def moments_over_processes(rows: Rows) -> tuple[PerChannel, PerChannel]:
    """Mean and variance (divided by n) of each channel over all processes, in float64.

    Every process must hold equally many rows, and all must call this together.
    """
    axes = [0, *range(2, rows.ndim)]
    variance, mean = torch.var_mean(rows, axes, correction=0)
    # float64: these few numbers lose no digits then when the mean is large
    variance, mean = variance.double(), mean.double()
    own = torch.stack((mean, variance + mean.square()))
    mean, square = SumOverProcesses.apply(own) / processes()
    return mean, (square - mean.square()).clamp_min(0)


def _summed(values: Tensor) -> Tensor:
    total = values.clone(memory_format=torch.contiguous_format)
    dist.all_reduce(total)
    return total
