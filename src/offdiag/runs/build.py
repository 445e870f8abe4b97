"""From the settings of a run to its parts; the one place where names choose things."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import nn

from offdiag._checks import ConfigError, choice
from offdiag.data.data import Data
from offdiag.data.dataset import ImageSource, Splits
from offdiag.data.folder import memory_bytes
from offdiag.data.from_file import data_of_file
from offdiag.data.image_views import image_data
from offdiag.data.loader import ViewLoader
from offdiag.data.readers import load
from offdiag.data.view_recipes import VIEWS, ViewPair
from offdiag.data.views import Normalisation
from offdiag.methods.method import AbstractMethod
from offdiag.registry import DATASETS, find
from offdiag.runs.config import AUTO, OWN, RunConfig, is_own_file
from offdiag.runs.device import pick_device as pick_device
from offdiag.runs.fingerprint import shape_of
from offdiag.training.schedules import Schedule

OwnEncoder = nn.Module | Callable[[], nn.Module]


def load_data(
    config: RunConfig, *, device: torch.device, normalisation: Normalisation | None = None
) -> Data:
    """The data that the settings name; a folder that would fill `device` is streamed.

    Images are normalised by their own mean and deviation if no `normalisation` is given.
    ConfigError for data that were given as an object: they have to be given again.
    """
    if config.data == OWN:
        raise ConfigError("the data are given as an object here: give data=... again.")
    if is_own_file(config.data):
        return data_of_file(config.data)
    splits = load_splits(config, device=device)
    assert isinstance(splits.pretrain, ImageSource)
    return image_data(
        splits,
        recipe=build_views(config, image_shape=splits.pretrain.image_shape),
        normalisation=normalisation,
        channels_last=config.channels_last,
    )


def own_data_needed(directory: Path, config: RunConfig) -> str:
    """The sentence that asks for data of one's own again."""
    from_file = is_own_file(config.data)
    name = f" ({config.data})" if from_file else ""
    option = "--data FILE.py:FUNCTION, or " if from_file else ""
    return (
        f"{directory} was trained on data of your own{name}: give them again with {option}data=..."
    )


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


def build_method(
    config: RunConfig, *, image_channels: int = 3, encoder: OwnEncoder | None = None
) -> AbstractMethod:
    """The method with fresh weights, drawn from the run's seed and from nothing else.

    An `encoder` of your own takes the place of the one that `config` names; a function that
    builds one draws its weights from the run's seed as well.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        if encoder is None:
            net = _part(config, "encoder", image_channels)
        else:
            net = encoder if isinstance(encoder, nn.Module) else encoder()
        if not isinstance(dim := getattr(net, "dim", None), int):
            raise ConfigError(
                "an encoder needs the width of its features as .dim: wrap it, "
                "offdiag.Encoder(net, dim=...)."
            )
        projection = _part(config, "projector", (dim, *config.projector))
        return method_of(config, net, projection)


def channels_of(config: RunConfig, data: Data) -> int:
    """The channels of the images, for an encoder by name; ConfigError if they are no images."""
    shape = shape_of(data.pretrain)
    if isinstance(shape, tuple) and len(shape) == 3 and all(isinstance(n, int) for n in shape):
        return int(shape[0])
    raise ConfigError(
        f"the encoder {config.encoder!r} is for images (channels, height, width), and a sample of "
        f"{data.pretrain.name} has the shape {shape}: give an encoder with the data."
    )


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
    """The named pair of view recipes.

    `auto` takes those of the data set's row, if it has any, and else goes by channels and size.
    """
    if config.views != AUTO:
        return VIEWS[choice("recipe of views", config.views, VIEWS)]
    row = DATASETS.get(config.data)
    if row is not None and "views" in row.parts:
        return VIEWS[row.parts["views"]]
    channels, height, _ = image_shape
    if channels != 3:
        return VIEWS["gray"]
    return VIEWS["simsiam-cifar"] if height <= 96 else VIEWS["simsiam-imagenet"]


def build_loader(
    config: RunConfig, data: Data, *, device: torch.device, rank: int = 0, world_size: int = 1
) -> ViewLoader:
    """Batches of views of the samples to train on; a rank's part of them."""
    return ViewLoader(
        data.pretrain,
        data.views,
        batch_size=config.batch_size,
        seed=config.seed,
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
