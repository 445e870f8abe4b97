"""The target network: a copy that follows the online network by an exponential moving average."""

import copy
import math

from torch import nn
from torch.optim.swa_utils import get_ema_multi_avg_fn

from offdiag._checks import within
from offdiag.targets.target import Module


class EMATarget:
    """A copy that follows the online network, with a momentum that rises to 1 along a cosine."""

    def __init__(self, *, momentum: float = 0.99) -> None:
        within("the target's momentum", momentum, 0, 1)
        self.momentum = momentum

    def copy_of(self, online: Module) -> Module | None:
        return frozen_copy(online)

    def follow(self, copy: nn.Module, online: nn.Module, *, progress: float) -> None:
        move_towards(copy, online, momentum=cosine_momentum(self.momentum, progress))


def frozen_copy(online: Module) -> Module:
    """A copy with the same weights and buffers whose parameters ask for no gradient."""
    return copy.deepcopy(online).requires_grad_(False)


def move_towards(target: nn.Module, online: nn.Module, *, momentum: float) -> None:
    """target <- momentum * target + (1 - momentum) * online, for parameters only.

    Buffers stay: a target in training mode normalises by its own batch and keeps
    its own running BatchNorm statistics, which a moving average would overwrite
    with those of other weights.
    """
    average = get_ema_multi_avg_fn(momentum)  # type: ignore[no-untyped-call]
    average(tuple(target.parameters()), tuple(online.parameters()), 0)


def cosine_momentum(base: float, progress: float) -> float:
    """1 - (1 - base) (cos(pi * progress) + 1) / 2: from `base` to 1 (Grill et al. 2020)."""
    return 1 - (1 - base) * (math.cos(math.pi * progress) + 1) / 2
