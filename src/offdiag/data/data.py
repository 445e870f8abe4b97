"""What a run is trained on: samples, their views, and how evaluation sees them."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader
from torch.utils.data import Dataset as TorchDataset

from offdiag._checks import ConfigError, DataError
from offdiag.data.dataset import Source, Splits, splits_of
from offdiag.data.samples import Samples, TorchSource

Views = Callable[[Any, torch.Generator], tuple[Any, ...]]
"""From a batch of samples to a tuple of views of it, in the same order, by the generator alone."""


@runtime_checkable
class ViewsOfPart(Protocol):
    """Views that can be made of a part of a batch as if the whole had been there.

    Where several processes share a batch, each then reads and makes its own part only.
    """

    def of_part(
        self, samples: Any, generator: torch.Generator, *, rows: slice, batch_size: int
    ) -> tuple[Any, ...]: ...


def as_it_is(batch: Any) -> Any:
    """The batch, unchanged."""
    return batch


@dataclass(frozen=True, kw_only=True)
class Data:
    """Samples to train on, the views of them, and labelled samples to judge the features.

    `pretrain` is seen without its labels. kNN and the linear probe learn from `train` and are
    scored on `test`; both are None without labels. A tensor, a tuple or dict of tensors, an
    array, a torch Dataset or a DataLoader becomes a `Source`.

    `views(batch, generator)` makes the views of a batch on the batch's device; the generator,
    on the same device, is its only randomness. On several processes each makes the views of
    the whole batch and takes its part. `whole(batch)` is what the encoder is given in
    evaluation: the sample without augmentation, normalised as the views are. `encoder` is an
    encoder for these samples, or better a function that builds one, from the run's seed then.
    """

    pretrain: Any
    train: Any = None
    test: Any = None
    views: Views
    whole: Callable[[Any], Any] = as_it_is
    encoder: nn.Module | Callable[[], nn.Module] | None = None

    def __post_init__(self) -> None:
        pretrain = source_of(self.pretrain)
        object.__setattr__(self, "pretrain", pretrain)
        for name in ("train", "test"):
            given = getattr(self, name)
            if given is not None and getattr(source := source_of(given), "labels", None) is None:
                raise DataError(
                    f"the {name} samples have no labels, and kNN and the linear probe need them: "
                    f"give {name}=Samples(..., labels=...), or leave train and test out."
                )
            object.__setattr__(self, name, None if given is None else source)
        if (self.train is None) != (self.test is None):
            raise DataError("evaluation needs train and test: give both, or neither.")
        if not callable(self.views) or not callable(self.whole):
            raise ConfigError("views and whole of the data must be functions.")

    @classmethod
    def of(cls, samples: Any, *, views: Views, **settings: Any) -> "Data":
        """Data of one set of samples; a fifth of every class is held out where there are labels."""
        source = source_of(samples)
        if source.labels is None:
            return cls(pretrain=source, views=views, **settings)
        return cls.of_splits(splits_of(source), views=views, **settings)

    @classmethod
    def of_splits(cls, splits: Splits, *, views: Views, **settings: Any) -> "Data":
        """Data of splits that are made already."""
        return cls(
            pretrain=splits.pretrain, train=splits.train, test=splits.test, views=views, **settings
        )

    def to(self, device: torch.device | str) -> "Data":
        """The same samples on `device`; what is one source stays one copy."""
        pretrain = self.pretrain.to(device)
        same = self.train is self.pretrain
        train = pretrain if same else None if self.train is None else self.train.to(device)
        test = None if self.test is None else self.test.to(device)
        return replace(self, pretrain=pretrain, train=train, test=test)


def source_of(samples: Any) -> Source:
    """Anything that holds samples, as a `Source`; DataError says what is taken."""
    if isinstance(samples, Source):
        return samples
    if isinstance(samples, TorchDataset | DataLoader):
        return TorchSource(samples)
    if isinstance(samples, Tensor | np.ndarray | tuple | list | Mapping):
        return Samples(samples)
    raise DataError(
        "samples must be a tensor, a tuple or dict of tensors, a torch Dataset or DataLoader, or a "
        f"Source; got {type(samples).__name__}."
    )
