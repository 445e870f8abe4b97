"""The sources that training and evaluation read, images as values, and the splits of a set."""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor

from offdiag._types import Images, Labels

Rows = Int[Tensor, " _"]  # any number: batches of one read may differ in length

HOLD_OUT = 0.2
HOLD_OUT_SEED = 20220513  # ours for good: a run's seed never moves the evaluation


class Source(ABC):
    """Labelled or unlabelled samples that can be read batch by batch, in any order.

    A batch is a tensor, or whatever else the views of the data are made of; whoever reads
    need not know whether it was in memory.
    """

    name: str
    classes: tuple[str, ...]
    labels: Labels | None

    @abstractmethod
    def __len__(self) -> int: ...

    @abstractmethod
    def to(self, device: torch.device | str) -> "Source":
        """The same samples, given out on `device`."""

    @abstractmethod
    def subset(self, rows: Rows) -> "Source":
        """Only these rows, in this order."""

    @abstractmethod
    def read(self, batches: Iterable[Rows]) -> Iterator[tuple[Any, Labels | None]]:
        """The samples and labels of each batch of rows, in the order asked for."""


class ImageSource(Source):
    """Images: `Dataset` holds them on a device, `FolderStream` decodes them when asked for."""

    @property
    @abstractmethod
    def image_shape(self) -> tuple[int, int, int]:
        """Channels, height and width of every image."""

    @property
    @abstractmethod
    def skipped(self) -> tuple[str, ...]:
        """Files that could not be decoded and were left out, as far as they have been met."""


@dataclass(frozen=True, kw_only=True)
class Dataset(ImageSource):
    """Images in memory: uint8 in [0, 255] or uint16 in [0, 65535], of any number of channels."""

    images: Images
    labels: Labels | None
    classes: tuple[str, ...]
    name: str
    skipped: tuple[str, ...] = ()

    @property
    def image_shape(self) -> tuple[int, int, int]:
        channels, height, width = self.images.shape[1:]
        return channels, height, width

    def __len__(self) -> int:
        return len(self.images)

    def to(self, device: torch.device | str) -> "Dataset":
        labels = None if self.labels is None else self.labels.to(device)
        return replace(self, images=self.images.to(device), labels=labels)

    def subset(self, rows: Rows) -> "Dataset":
        rows = rows.to(self.images.device)
        labels = None if self.labels is None else self.labels[rows]
        return replace(self, images=self.images[rows], labels=labels)

    def read(self, batches: Iterable[Rows]) -> Iterator[tuple[Images, Labels | None]]:
        for rows in batches:
            rows = rows.to(self.images.device, non_blocking=True)
            yield self.images[rows], None if self.labels is None else self.labels[rows]


@dataclass(frozen=True, kw_only=True)
class Splits:
    """Samples to train on, and labelled ones to judge the features.

    `pretrain` is seen without its labels. kNN and the linear probe learn from
    `train` and are scored on `test`; both are None without labels. `pretrain` never
    contains a sample of `test`.
    """

    pretrain: Source
    train: Source | None
    test: Source | None

    def to(self, device: torch.device | str) -> "Splits":
        pretrain = self.pretrain.to(device)
        if self.train is self.pretrain:  # mostly the same samples: they stay one copy
            train: Source | None = pretrain
        else:
            train = None if self.train is None else self.train.to(device)
        test = None if self.test is None else self.test.to(device)
        return replace(self, pretrain=pretrain, train=train, test=test)


def in_order(source: Source, *, batch_size: int = 512) -> Iterator[tuple[Any, Labels | None]]:
    """Every sample once, in the source's own order; the last batch may be short."""
    return source.read(torch.split(torch.arange(len(source)), batch_size))


def hold_out(labels: Labels) -> tuple[Int[Tensor, " train"], Int[Tensor, " test"]]:
    """Rows to learn from and rows to score on: a fifth of every class, at least one.

    Depends on the labels alone, not on any seed of a run.
    """
    random = np.random.default_rng(HOLD_OUT_SEED)
    held = np.zeros(len(labels), dtype=bool)
    values = labels.cpu().numpy()
    for label in np.unique(values):
        rows = random.permutation(np.flatnonzero(values == label))
        held[rows[: max(1, round(HOLD_OUT * len(rows)))]] = True
    return torch.from_numpy(np.flatnonzero(~held)), torch.from_numpy(np.flatnonzero(held))


def splits_of(labelled: Source) -> Splits:
    """Hold out a fifth of every class for scoring; train on the rest."""
    assert labelled.labels is not None
    learn, score = hold_out(labelled.labels)
    train = labelled.subset(learn)
    return Splits(pretrain=train, train=train, test=labelled.subset(score))
