"""Batches of views, in an order that the seed and the step decide alone."""

import itertools
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import IntEnum
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor

from offdiag._checks import ConfigError
from offdiag._types import Labels
from offdiag.data import nest
from offdiag.data.data import Views, ViewsOfPart
from offdiag.data.dataset import ImageSource, Rows, Source
from offdiag.data.image_views import ImageViews
from offdiag.data.view_recipes import ViewPair
from offdiag.data.views import Normalisation, normalisation_of

__all__ = [
    "Batch",
    "Purpose",
    "TwoViewLoader",
    "ViewLoader",
    "normalisation_of",
    "seeded",
    "two_view_loader",
]

Item = TypeVar("Item")


@dataclass(frozen=True)
class Batch:
    """Views of the same samples, and their labels where there are any.

    `waited_seconds` is how long the loader waited for the samples: for decoding, where
    they are streamed.
    """

    step: int
    views: tuple[Any, ...]
    labels: Labels | None
    waited_seconds: float

    @property
    def view_a(self) -> Any:
        return self.views[0]

    @property
    def view_b(self) -> Any:
        return self.views[1]


class Purpose(IntEnum):
    """What a random stream is for; streams of other purposes are independent."""

    ORDER = 0
    VIEWS = 1


def seeded(
    seed: int, purpose: Purpose, *where: int, device: torch.device | str = "cpu"
) -> torch.Generator:
    """A fresh generator, the same whenever the arguments are the same."""
    state = np.random.SeedSequence([seed, purpose, *where]).generate_state(1, np.uint64)
    return torch.Generator(device).manual_seed(int(state[0] >> np.uint64(1)))


class ViewLoader:
    """Shuffled batches of views of a source, made on `device`.

    Holds no state that moves: epoch e is ordered by (seed, e), the views of step s
    are drawn from (seed, s), so a run that starts at step s gets what an
    undisturbed run got there, bit for bit on a CPU. An epoch's last samples that do
    not fill a batch are left out of that epoch.

    `batch_size` counts the samples of all ranks together. Each of `world_size` ranks makes
    the views of the whole batch and takes its part, or only its part where the views can do
    that (`ViewsOfPart`). A run on two ranks therefore sees the same views as on one.
    """

    def __init__(
        self,
        source: Source,
        views: Views,
        *,
        batch_size: int,
        seed: int,
        device: torch.device | str = "cpu",
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        if seed < 0:
            raise ConfigError(f"the seed must be at least 0; got {seed}.")
        what = "images" if isinstance(source, ImageSource) else "samples"
        if batch_size < 2:
            raise ConfigError(
                f"a batch needs at least 2 {what}, for BatchNorm to have a variance; "
                f"got {batch_size}."
            )
        if batch_size > len(source):
            raise ConfigError(
                f"a batch of {batch_size} needs at least as many {what}; {source.name} has "
                f"{len(source)} to train on. Lower the batch size."
            )
        if batch_size % world_size or batch_size // world_size < 2:
            raise ConfigError(
                f"a batch of {batch_size} cannot be shared by {world_size} processes: choose a "
                f"multiple of {world_size} that gives each at least 2."
            )
        self.source, self.views = source.to(device), views
        self.batch_size, self.seed = batch_size, seed
        self.device = torch.device(device)
        self.rank, self.world_size = rank, world_size

    @property
    def share(self) -> slice:
        """This rank's rows of the global batch."""
        rows = self.batch_size // self.world_size
        return slice(self.rank * rows, (self.rank + 1) * rows)

    @property
    def steps_per_epoch(self) -> int:
        return len(self.source) // self.batch_size

    def batches(self, first_step: int = 0, last_step: int | None = None) -> Iterator[Batch]:
        """Batches of steps first_step, ..., last_step - 1; without end if that is None."""
        steps, again = itertools.tee(
            itertools.count(first_step) if last_step is None else range(first_step, last_step)
        )
        read = _timed(self.source.read(self._rows(again)))
        for step, ((samples, labels), waited) in zip(steps, read, strict=True):
            generator = seeded(self.seed, Purpose.VIEWS, step, device=self.device)
            yield Batch(step, self._views_of(samples, generator), self._own(labels), waited)

    @torch.no_grad()
    def _views_of(self, samples: Any, generator: torch.Generator) -> tuple[Any, ...]:
        if isinstance(self.views, ViewsOfPart):
            return self.views.of_part(
                samples, generator, rows=self.share, batch_size=self.batch_size
            )
        views = self.views(samples, generator)
        if not isinstance(views, tuple | list) or nest.is_named_tuple(views) or not views:
            raise ConfigError(
                "the views of a batch must be a tuple, one entry a view; got "
                f"{type(views).__name__}."
            )
        if self.world_size > 1:
            return tuple(nest.part_of(view, self.share) for view in views)
        return tuple(views)

    @property
    def _reads_its_part(self) -> bool:
        return isinstance(self.views, ViewsOfPart)

    def _own(self, labels: Tensor | None) -> Tensor | None:
        if labels is None or self._reads_its_part:
            return labels
        return labels[self.share]

    def _rows(self, steps: Iterable[int]) -> Iterator[Rows]:
        order_of, order = -1, torch.empty(0, dtype=torch.long)
        part = self.share if self._reads_its_part else slice(self.batch_size)
        for step in steps:
            epoch, batch = divmod(step, self.steps_per_epoch)
            if epoch != order_of:
                generator = seeded(self.seed, Purpose.ORDER, epoch)
                order_of, order = epoch, torch.randperm(len(self.source), generator=generator)
            yield order[batch * self.batch_size :][part]


def two_view_loader(
    source: ImageSource,
    *,
    batch_size: int,
    seed: int,
    recipe: ViewPair,
    normalisation: Normalisation | None = None,
    channels_last: bool = False,
    device: torch.device | str = "cpu",
    rank: int = 0,
    world_size: int = 1,
) -> ViewLoader:
    """Batches of two views of images by `recipe`.

    Normalised by the source's own mean and deviation if no `normalisation` is given.
    `channels_last` is the memory layout of the views.
    """
    return ViewLoader(
        source,
        ImageViews(
            recipe=recipe,
            normalisation=normalisation_of(source) if normalisation is None else normalisation,
            channels_last=channels_last,
        ),
        batch_size=batch_size,
        seed=seed,
        device=device,
        rank=rank,
        world_size=world_size,
    )


TwoViewLoader = two_view_loader
"""The name of the first version."""


def _timed(items: Iterator[Item]) -> Iterator[tuple[Item, float]]:
    """Each item with the seconds that it was waited for."""
    start = time.perf_counter()
    for item in items:
        yield item, time.perf_counter() - start
        start = time.perf_counter()
