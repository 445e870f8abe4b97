"""Marks of modes: which normalisers use the statistics of a batch, and of how many rows."""

from collections.abc import Iterable

import torch
from torch import nn

from offdiag.results.readings import NAN

BatchNorm = nn.modules.batchnorm._BatchNorm
OTHER_NORMS = (nn.LayerNorm, nn.GroupNorm, nn.RMSNorm, nn.modules.instancenorm._InstanceNorm)


def norm_marks(online: Iterable[nn.Module]) -> dict[str, float]:
    """How many normalisers there are, and the share of BatchNorms that use stored statistics."""
    layers = {id(layer): layer for module in online for layer in module.modules()}.values()
    batch = [layer for layer in layers if isinstance(layer, BatchNorm)]
    stored = [layer for layer in batch if not layer.training and layer.track_running_stats]
    return {
        "modes/batch_norms": float(len(batch)),
        "modes/other_norms": float(sum(isinstance(layer, OTHER_NORMS) for layer in layers)),
        "modes/stored_statistics": len(stored) / len(batch) if batch else NAN,
    }


@torch.no_grad()
def stale_statistics(target: nn.Module, online: nn.Module) -> float:
    """How far a target's stored BatchNorm statistics are from the online network's, in its stds.

    The root mean square over channels. nan where the target uses none, or where the two do not
    match layer by layer.
    """
    ours = [layer for layer in target.modules() if isinstance(layer, BatchNorm)]
    theirs = [layer for layer in online.modules() if isinstance(layer, BatchNorm)]
    used = [(a, b) for a, b in zip(ours, theirs, strict=False) if not a.training]
    gaps = []
    for mine, yours in used:
        if mine.running_mean is None or yours.running_mean is None or yours.running_var is None:
            continue
        if mine.running_mean.shape != yours.running_mean.shape:
            return NAN
        scale = (yours.running_var + yours.eps).sqrt()
        gaps.append(((mine.running_mean - yours.running_mean) / scale).square().mean())
    return float(torch.stack(gaps).mean().sqrt()) if gaps else NAN


def narrowest(module: nn.Module) -> int | None:
    """The width of the narrowest linear layer; None where there is none."""
    widths = [layer.out_features for layer in module.modules() if isinstance(layer, nn.Linear)]
    return min(widths) if widths else None
