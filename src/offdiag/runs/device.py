"""The device of a run: which one, in which precision, and what is said when it cannot be had."""

import os
import warnings
from collections.abc import Mapping
from dataclasses import replace

import torch

from offdiag._checks import ConfigError, RunError
from offdiag.runs.config import RunConfig

LEAST_FREE_GIB = 1.0
"""CUDA's own context takes half of this; with less no net of use trains."""
GIB = 2**30


def pick_device(name: str, *, local_rank: int = 0) -> torch.device:
    """The device asked for; auto takes a CUDA device where there is one.

    Metal has no float64, in which losses and readings are summed: mps is refused. Each
    process of a machine, counted by `local_rank`, has a CUDA device of its own. A card
    that a driver too old keeps from being used is named, also where auto takes the CPU.
    """
    if name == "mps":
        raise ConfigError("device 'mps' has no float64, which offdiag needs: use --device cpu.")
    if name == "cpu":
        return torch.device("cpu")
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        available = torch.cuda.is_available()
    if not available:
        return _no_card(name, " ".join(str(warning.message) for warning in said))
    if local_rank >= (cards := torch.cuda.device_count()):
        raise ConfigError(
            f"each process needs a GPU of its own, and this machine has {cards}: "
            "start fewer processes, or use --device cpu."
        )
    return torch.device("cuda", local_rank)


def _no_card(name: str, said: str) -> torch.device:
    """The CPU for auto; a ConfigError that says why there is no card for cuda."""
    if "driver" in said and "too old" in said:
        why = (
            f"the NVIDIA driver is too old for this torch (CUDA {torch.version.cuda}): update the "
            "driver, or install a torch for an older CUDA"
        )
        if name == "auto":
            warnings.warn(f"{why}; this run uses the CPU.", stacklevel=3)
    elif os.environ.get("CUDA_VISIBLE_DEVICES", "0") in ("", "-1"):
        why = "CUDA_VISIBLE_DEVICES is empty, which hides every card: unset it"
    elif torch.version.cuda is None:
        why = "this torch was built without CUDA: install one that has it"
    else:
        why = "device 'cuda' is not available on this machine: use --device auto"
    if name == "cuda":
        raise ConfigError(f"{why}, or use --device cpu.")
    return torch.device("cpu")


def refuse_full_card(device: torch.device) -> None:
    """RunError if other processes have filled the card, naming those that have room."""
    if device.type != "cuda":
        return
    free, total = torch.cuda.mem_get_info(device)
    if free >= LEAST_FREE_GIB * GIB:
        return
    others = [
        str(card)
        for card in range(torch.cuda.device_count())
        if card != device.index
        and torch.cuda.mem_get_info(torch.device("cuda", card))[0] >= LEAST_FREE_GIB * GIB
    ]
    instead = "wait for it, or use --device cpu"
    if others:
        instead = f"card {', '.join(others)} has room: set CUDA_VISIBLE_DEVICES={others[0]}"
    raise RunError(
        f"{device} has {free / GIB:.1f} of {total / GIB:.1f} GiB free, another process holds the "
        f"rest: {instead}."
    )


def resolved(config: RunConfig, device: torch.device) -> RunConfig:
    """The same settings with `auto` precision as what it becomes on `device`.

    bfloat16 autocast and the channels-last layout on a card with bfloat16 units (of compute
    capability 8 or more), float32 in the layout that was asked for elsewhere.
    """
    if config.precision != "auto":
        return config
    # Without `including_emulation`, older cards say yes and are slower for it.
    if device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False):
        return replace(config, precision="bf16-mixed", channels_last=True)
    return replace(config, precision="32-true")


def described(device: torch.device) -> Mapping[str, object]:
    """What a run on a card adds to its record: memory, cards, and where TF32 is used."""
    if device.type != "cuda":
        return {}
    return {
        "cards": torch.cuda.device_count(),
        "memory_gib": round(torch.cuda.mem_get_info(device)[1] / GIB, 1),
        "tensor_float32": "in training; readings and evaluation are float32",
        "cuda": torch.version.cuda,
    }
