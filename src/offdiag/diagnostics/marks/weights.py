"""Marks of parameters between two steps: updates, the target's momentum, decay and precision."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from offdiag.results.readings import NAN

SAMPLED = 65_536
"""Entries of a part's parameters that are compared, spread evenly; all, where there are fewer."""
DECOUPLED = ("AdamW", "Lion", "AdamP", "SGDW", "Muon", "StableAdamW")
"""Optimisers whose weight decay does not pass through the gradient."""
Sample = Float[Tensor, " entries"]


def sample(tensors: Sequence[Tensor | None]) -> Sample:
    """Every k-th entry of the tensors as one float32 vector, k so that at most 65,536 come.

    The same shapes give the same entries, so that weights, their gradients and a target's
    weights can be set against each other. None is left out.
    """
    present = [_local(tensor) for tensor in tensors if tensor is not None]
    total = sum(tensor.numel() for tensor in present)
    if total == 0:
        return torch.zeros(0)
    stride = -(-total // SAMPLED)
    flat = [tensor.detach().reshape(-1)[::stride] for tensor in present]
    device = flat[0].device
    return torch.cat([piece.to(device, torch.float32) for piece in flat])


def _local(tensor: Tensor) -> Tensor:
    """This process's piece of a sharded parameter."""
    local = getattr(tensor, "to_local", None)
    return local() if callable(local) else tensor


def relative_update(before: Sample, after: Sample) -> float:
    """|after - before| / |before|, 0 for no change; nan where the weights are all 0 or none."""
    if before.shape != after.shape or before.numel() == 0:
        return NAN
    size = before.norm()
    return float((after - before).norm() / size) if size > 0 else NAN


def momentum_of(
    online: tuple[Sample, Sample], target: tuple[Sample, Sample]
) -> tuple[float, float, float]:
    """The momentum tau, the residual, and the gap of target and online, by least squares.

    Fits target_after - target_before = (1 - tau)(online - target_before), once with the online
    weights before the step and once after it, as loops do either, and takes the better fit.
    tau 1: the target does not move. 0: it is a copy. The residual, in [0, 1], is the part of the
    target's movement that no tau explains: 0 for an average, near 1 for a target that is trained.
    The gap is |online - target| / |target|.
    """
    moved = target[1] - target[0]
    size = float(moved.norm())
    scale = float(target[0].norm())
    fits = []
    for weights in online:
        pull = weights - target[0]
        power = float(pull.square().sum())
        gap = math.sqrt(power) / scale if scale > 0 else NAN
        if power == 0:
            continue
        rate = float((moved * pull).sum()) / power
        residual = float((moved - rate * pull).norm()) / size if size > 0 else 0.0
        fits.append((residual, 1 - rate, gap))
    if not fits:
        return (NAN, NAN, 0.0)
    residual, momentum, gap = min(fits)
    return momentum, residual, max(fit[2] for fit in fits)


def decay_ratio(
    weights: Sample, gradient: Sample, update: float, group: Mapping[str, Any], *, decoupled: bool
) -> float:
    """The pull of weight decay over that of the gradient, in one step; 1: they are equal.

    Coupled decay (SGD, Adam): weight_decay |w| / |g|. Decoupled (AdamW): the step that decay
    makes over the rest of the step, of which `update` is the whole as a share of |w|.
    """
    strength = float(group.get("weight_decay") or 0.0)
    size = float(weights.norm())
    if decoupled:
        decayed = float(group.get("lr") or 0.0) * strength
        rest = math.sqrt(max(update**2 - decayed**2, 0.0)) if math.isfinite(update) else NAN
        return decayed / rest if rest > 0 else (math.inf if decayed > 0 else 0.0)
    pull = float(gradient.norm())
    if strength == 0:
        return 0.0
    return strength * size / pull if pull > 0 else math.inf


def is_decoupled(optimizer: torch.optim.Optimizer, group: Mapping[str, Any]) -> bool:
    """Does this optimiser shrink the weights directly and not through the gradient?"""
    return bool(group.get("decoupled_weight_decay")) or type(optimizer).__name__ in DECOUPLED


def signature(module: nn.Module) -> tuple[tuple[str, torch.Size], ...]:
    """Names and shapes of the parameters: equal for a network and its copy."""
    return tuple((name, parameter.shape) for name, parameter in module.named_parameters())
