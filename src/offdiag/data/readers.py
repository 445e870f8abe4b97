"""The named image sets; the table by which they are found is in the registry.

torchvision keeps the CIFAR sets as pickles; it loads them only after their
published checksums have matched.
"""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import UInt8
from torch import Tensor

from offdiag._checks import ConfigError, DataError, choice
from offdiag._types import Images
from offdiag.data.dataset import Dataset, Source, Splits, splits_of
from offdiag.data.decode import MODES
from offdiag.data.folder import image_folder
from offdiag.data.operations import LUMA
from offdiag.registry import DATASETS

FOLDER = "folder:"
IMAGES_PER_RESIZE = 1024


def load(
    spec: str,
    *,
    root: Path | str = "data",
    download: bool = False,
    image_size: int | None = None,
    channels: str | None = None,
    labelled: bool | None = None,
    skip_corrupt: bool = False,
    stream: bool | None = None,
    memory_limit_bytes: int | None = None,
    workers: int | None = None,
) -> Splits:
    """Read a set of the registry (`digits`, `cifar10`, ...) or `folder:PATH`.

    `root` is where torchvision's sets lie, or where `download` puts them. With
    `image_size` the shorter side is resized to it and the central square kept; with
    `channels` ("rgb" or "gray") images are converted. The other settings are for
    folders: see `image_folder`.
    """
    if channels is not None:
        choice("channels", channels, MODES)
    if spec.startswith(FOLDER):
        return image_folder(
            spec.removeprefix(FOLDER),
            image_size=image_size,
            channels=channels,
            labelled=labelled,
            skip_corrupt=skip_corrupt,
            stream=stream,
            memory_limit_bytes=memory_limit_bytes,
            workers=workers,
        )
    if spec not in DATASETS:
        raise ConfigError(
            f"unknown data {spec!r}: choose one of {', '.join(DATASETS)}, {FOLDER}PATH, or "
            "FILE.py:FUNCTION of your own."
        )
    row = DATASETS[spec]
    read = row.target() if "packaged" in row.tags else row.target(root, download)
    return converted(read, image_size=image_size, channels=channels)


def digits() -> Splits:
    """scikit-learn's 1,797 hand-written digits: 8x8 pixels, one channel, ten classes.

    Grey levels 0 to 16 become 0 to 255. A fixed fifth of every class is held out.
    """
    from sklearn.datasets import load_digits

    bunch = load_digits()
    return splits_of(
        Dataset(
            images=_tensor(np.rint(bunch.images * (255 / 16)).astype(np.uint8)[:, None]),
            labels=torch.from_numpy(bunch.target).long(),
            classes=tuple(str(name) for name in bunch.target_names),
            name="digits",
        )
    )


def cifar10(root: Path | str = "data", download: bool = False) -> Splits:
    """CIFAR-10: 50,000 and 10,000 colour images of 32x32 pixels, ten classes."""
    from torchvision.datasets import CIFAR10

    return _cifar(CIFAR10, "cifar10", root, download)


def cifar100(root: Path | str = "data", download: bool = False) -> Splits:
    """CIFAR-100: 50,000 and 10,000 colour images of 32x32 pixels, a hundred classes."""
    from torchvision.datasets import CIFAR100

    return _cifar(CIFAR100, "cifar100", root, download)


def stl10(root: Path | str = "data", download: bool = False) -> Splits:
    """STL-10: 96x96 pixels; trains on 5,000 + 100,000 unlabelled, is judged on 5,000 and 8,000."""
    from torchvision.datasets import STL10

    def part(split: str) -> Dataset:
        read = _from_torchvision(STL10, "stl10", root, download, split=split)
        return Dataset(
            images=_tensor(read.data),
            labels=torch.from_numpy(read.labels).long(),
            classes=tuple(read.classes),
            name="stl10",
        )

    train, every = part("train"), part("train+unlabeled")
    pretrain = replace(every, labels=None, classes=())
    return Splits(pretrain=pretrain, train=train, test=part("test"))


def fashion_mnist(root: Path | str = "data", download: bool = False) -> Splits:
    """Fashion-MNIST: 60,000 and 10,000 images of 28x28 pixels, one channel, ten classes."""
    from torchvision.datasets import FashionMNIST

    def part(train: bool) -> Dataset:
        read = _from_torchvision(FashionMNIST, "fashion-mnist", root, download, train=train)
        return Dataset(
            images=read.data[:, None],
            labels=read.targets.long(),
            classes=tuple(read.classes),
            name="fashion-mnist",
        )

    train = part(True)
    return Splits(pretrain=train, train=train, test=part(False))


def converted(splits: Splits, *, image_size: int | None, channels: str | None) -> Splits:
    """The same splits with square images of `image_size` pixels and the channels asked for."""
    if image_size is None and channels is None:
        return splits
    if image_size is not None and image_size < 1:
        raise ConfigError(f"the image size must be at least 1 pixel; got {image_size}.")
    done: dict[int, Dataset] = {}  # pretrain and train are often one and the same

    def convert(source: Source) -> Dataset:
        assert isinstance(source, Dataset)
        if id(source) not in done:
            pieces = [
                _resized(_with_channels(piece, channels), image_size)
                for piece in torch.split(source.images, IMAGES_PER_RESIZE)
            ]
            done[id(source)] = replace(source, images=torch.cat(pieces))
        return done[id(source)]

    return Splits(
        pretrain=convert(splits.pretrain),
        train=None if splits.train is None else convert(splits.train),
        test=None if splits.test is None else convert(splits.test),
    )


def _resized(images: Images, size: int | None) -> Tensor:
    from torchvision.transforms.v2 import functional

    if size is None:
        return images
    shorter = functional.resize(images, [size], antialias=True)
    return functional.center_crop(shorter, [size, size])


def _with_channels(images: Images, channels: str | None) -> Tensor:
    if channels == "rgb" and images.shape[1] == 1:
        return images.expand(-1, 3, -1, -1)
    if channels == "gray" and images.shape[1] == 3:
        luma = images.new_tensor(LUMA, dtype=torch.float32) / sum(LUMA)
        gray = (images * luma[:, None, None]).sum(1, keepdim=True)
        return gray.round_().to(torch.uint8)
    return images


def _cifar(kind: Callable[..., Any], name: str, root: Path | str, download: bool) -> Splits:
    def part(train: bool) -> Dataset:
        read = _from_torchvision(kind, name, root, download, train=train)
        return Dataset(
            images=_tensor(read.data.transpose(0, 3, 1, 2)),
            labels=torch.tensor(read.targets),
            classes=tuple(read.classes),
            name=name,
        )

    train = part(True)
    return Splits(pretrain=train, train=train, test=part(False))


def _from_torchvision(
    kind: Callable[..., Any], name: str, root: Path | str, download: bool, **part: Any
) -> Any:
    try:
        return kind(root=str(root), download=download, **part)
    except (RuntimeError, OSError) as error:
        if download:
            raise DataError(
                f"{name} could not be downloaded to {root} ({error}): check the connection, or put "
                "its files there by hand."
            ) from None
        raise DataError(
            f"{name} is not in {root}, or not whole: ask for the download (download=True, "
            "--download), or give the folder that holds it."
        ) from None


def _tensor(images: UInt8[np.ndarray, "batch channels height width"]) -> Images:
    return torch.from_numpy(np.ascontiguousarray(images))
