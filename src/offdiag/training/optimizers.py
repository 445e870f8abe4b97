"""Optimisers by name, with the head's own learning rate."""

from collections.abc import Iterable
from functools import partial
from typing import Any

import torch
from torch import nn
from torch.optim import SGD, Adam, AdamW, Optimizer

from offdiag._checks import at_least, choice
from offdiag.methods.method import AbstractMethod
from offdiag.registry import OPTIMIZERS


class LARS(Optimizer):
    """SGD with momentum whose step is scaled to each tensor's norm (You et al. 2017).

    For a tensor w with gradient g and decay d the update is g + d w, times
    trust * |w| / |g + d w| where both norms are positive, as in BYOL's and
    SimCLR's recipes. Groups with `adapt` False (biases, BatchNorm, the head) are
    plain SGD: the scaling would stop a tensor that starts at 0 from ever leaving it.
    """

    def __init__(
        self,
        params: Iterable[Any],
        *,
        lr: float,
        momentum: float = 0.9,
        weight_decay: float = 0.0,
        trust: float = 1e-3,
    ) -> None:
        defaults = {
            "lr": lr,
            "momentum": momentum,
            "weight_decay": weight_decay,
            "trust": trust,
            "adapt": True,
        }
        super().__init__(params, defaults)

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        """One update; the loss is not re-evaluated."""
        for group in self.param_groups:
            weights = [weight for weight in group["params"] if weight.grad is not None]
            if not weights:
                continue
            for weight in weights:
                if "velocity" not in self.state[weight]:
                    self.state[weight]["velocity"] = torch.zeros_like(weight)
            velocities = [self.state[weight]["velocity"] for weight in weights]
            slopes = [weight.grad for weight in weights]
            updates = torch._foreach_add(slopes, weights, alpha=group["weight_decay"])
            if group["adapt"]:
                sizes, lengths = (torch.stack(torch._foreach_norm(x)) for x in (weights, updates))
                scales = torch.where(
                    (sizes > 0) & (lengths > 0), group["trust"] * sizes / lengths, 1.0
                )
                torch._foreach_mul_(updates, list(scales))
            torch._foreach_mul_(velocities, group["momentum"])
            torch._foreach_add_(velocities, updates)
            torch._foreach_add_(weights, velocities, alpha=-group["lr"])


# One kernel for each group's tensors, on CPU, CUDA and MPS alike.
sgd = partial(SGD, momentum=0.9, fused=True)
adam = partial(Adam, fused=True)
adamw = partial(AdamW, fused=True)
lars = LARS


def parameter_groups(
    method: AbstractMethod, *, lr: float, weight_decay: float, head_lr_ratio: float
) -> list[dict[str, Any]]:
    """Weights, biases-and-norms, and the head, each with its rate and decay.

    Biases and BatchNorm's parameters (every tensor with one axis) are not
    decayed. Only what asks for a gradient is listed, so a frozen head or an EMA
    target adds no group.
    """
    head = [] if method.head is None else trainable(method.head)
    in_head = {id(p) for p in head}
    body = [p for p in trainable(method) if id(p) not in in_head]
    groups: list[dict[str, Any]] = [
        _group("weights", [p for p in body if p.ndim > 1], lr, weight_decay, adapt=True),
        _group("biases", [p for p in body if p.ndim <= 1], lr, 0.0, adapt=False),
        _group("head", [p for p in head if p.ndim > 1], lr * head_lr_ratio, weight_decay),
        _group("head biases", [p for p in head if p.ndim <= 1], lr * head_lr_ratio, 0.0),
    ]
    return [group for group in groups if group["params"]]


def trainable(part: nn.Module) -> list[nn.Parameter]:
    """The parameters that ask for a gradient."""
    return [p for p in part.parameters() if p.requires_grad]


def _group(
    name: str, params: list[nn.Parameter], lr: float, weight_decay: float, *, adapt: bool = False
) -> dict[str, Any]:
    # `base_lr` survives in checkpoints; the schedule multiplies it.
    return {
        "name": name,
        "params": params,
        "lr": lr,
        "base_lr": lr,
        "weight_decay": weight_decay,
        "adapt": adapt,
    }


def make_optimizer(
    name: str,
    method: AbstractMethod,
    *,
    lr: float,
    weight_decay: float = 0.0,
    head_lr_ratio: float = 1.0,
) -> Optimizer:
    """The named optimiser over `parameter_groups(method)`."""
    choice("optimiser", name, OPTIMIZERS)
    at_least("the learning rate", lr, 0)
    at_least("the weight decay", weight_decay, 0)
    at_least("the head's learning-rate ratio", head_lr_ratio, 0)
    groups = parameter_groups(method, lr=lr, weight_decay=weight_decay, head_lr_ratio=head_lr_ratio)
    optimizer: Optimizer = OPTIMIZERS[name].target(groups, lr=lr)
    return optimizer
