"""From the settings of a run to its parts; the one place where names choose things."""

from typing import Any

import torch
from torch import nn

from offdiag._checks import choice
from offdiag.data.dataset import Splits
from offdiag.data.folder import memory_bytes
from offdiag.data.loader import TwoViewLoader, normalisation_of
from offdiag.data.readers import load
from offdiag.data.view_recipes import VIEWS, ViewPair
from offdiag.methods.method import AbstractMethod
from offdiag.registry import find
from offdiag.runs.config import RunConfig
from offdiag.runs.device import pick_device as pick_device
from offdiag.training.schedules import Schedule


def load_splits(config: RunConfig, *, device: torch.device) -> Splits:
    """The images that the settings ask for; a folder that would fill `device` is streamed."""
    limit = None  # the machine's memory sets it
    if device.type == "cuda":
        limit = min(memory_bytes(), torch.cuda.mem_get_info(device)[0]) // 4
    return load(
        config.data,
        root=config.data_root,
        image_size=config.image_size,
        channels=config.channels,
        download=config.download,
        skip_corrupt=config.skip_corrupt,
        stream=config.stream,
        memory_limit_bytes=limit,
        workers=config.workers,
    )


def build_method(config: RunConfig, *, image_channels: int) -> AbstractMethod:
    """The method with fresh weights, drawn from the run's seed and from nothing else."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        encoder = _part(config, "encoder", image_channels)
        projection = _part(config, "projector", (encoder.dim, *config.projector))
        return method_of(config, encoder, projection)


def method_of(config: RunConfig, encoder: nn.Module, projection: nn.Module) -> AbstractMethod:
    """The method that the settings name, around an encoder and a projector; draws fresh parts."""
    dim = config.projector[-1]
    built: dict[str, Any] = {}
    for kind in find("method", config.method).parts:
        if kind in config.parts and kind != "normaliser":
            built[kind] = _part(config, kind, dim)
    if "normaliser" in config.parts:
        built["normalise"] = find("normaliser", config.parts["normaliser"]).target
    row = find("method", config.method)
    if row.wants("dim"):
        built["dim"] = dim
    own = config.settings_of("method")
    method: AbstractMethod = row.target(encoder, projection, **built, **row.fixed, **own)
    return method


def _part(config: RunConfig, kind: str, size: Any) -> Any:
    return find(kind, config.parts[kind]).build(size, **config.settings_of(kind))


def build_views(config: RunConfig, *, image_shape: tuple[int, int, int]) -> ViewPair:
    """The named pair of view recipes; `auto` goes by the data set, then by channels and size."""
    if config.views != "auto":
        return VIEWS[choice("recipe of views", config.views, VIEWS)]
    channels, height, _ = image_shape
    if config.data == "digits":
        return VIEWS["digits"]
    if channels == 1:
        return VIEWS["gray"]
    return VIEWS["simsiam-cifar"] if height <= 96 else VIEWS["simsiam-imagenet"]


def build_loader(
    config: RunConfig, splits: Splits, *, device: torch.device, rank: int = 0, world_size: int = 1
) -> TwoViewLoader:
    """Batches of two views of the images to train on; a rank's part of them."""
    source = splits.pretrain
    return TwoViewLoader(
        source,
        batch_size=config.batch_size,
        seed=config.seed,
        recipe=build_views(config, image_shape=source.image_shape),
        normalisation=normalisation_of(source),
        channels_last=config.channels_last,
        device=device,
        rank=rank,
        world_size=world_size,
    )


def build_schedule(config: RunConfig, *, steps_per_epoch: int) -> Schedule:
    """The learning-rate schedule over the whole run."""
    return Schedule(
        steps=config.epochs * steps_per_epoch,
        shape=config.schedule,
        warmup=config.warmup_steps,
        milestones=config.milestones,
        decay_head=config.head_lr_decay,
    )
