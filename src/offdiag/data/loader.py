"""Batches of two views, in an order that the seed and the step decide alone."""

import itertools
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import IntEnum
from typing import TypeVar

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from offdiag._checks import ConfigError
from offdiag._types import Labels
from offdiag.data.dataset import Rows, Source
from offdiag.data.draws import draw_two
from offdiag.data.view_recipes import ViewPair
from offdiag.data.views import Normalisation, view_as_drawn

NORMALISATION_IMAGES = 4096
Item = TypeVar("Item")


@dataclass(frozen=True)
class Batch:
    """Two normalised views of the same images, and their labels where there are any.

    `waited_seconds` is how long the loader waited for the images: for decoding, where
    they are streamed.
    """

    step: int
    view_a: Float[Tensor, "batch channels rows_a columns_a"]
    view_b: Float[Tensor, "batch channels rows_b columns_b"]
    labels: Labels | None
    waited_seconds: float

    @property
    def views(self) -> tuple[Tensor, Tensor]:
        return self.view_a, self.view_b


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


class TwoViewLoader:
    """Shuffled batches of two views of a source, made on `device`.

    Holds no state that moves: epoch e is ordered by (seed, e), the views of step s
    are drawn from (seed, s), so a run that starts at step s gets what an
    undisturbed run got there, bit for bit on a CPU. An epoch's last images that do
    not fill a batch are left out of that epoch.

    `channels_last` is the memory layout of the views. `batch_size` counts the images
    of all ranks together; each of `world_size` ranks draws the views of the whole
    batch, which costs little, and makes those of its own part. A run on two ranks
    therefore sees the same views as on one.
    """

    def __init__(
        self,
        source: Source,
        *,
        batch_size: int,
        seed: int,
        recipe: ViewPair,
        normalisation: Normalisation | None = None,
        channels_last: bool = False,
        device: torch.device | str = "cpu",
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        if seed < 0:
            raise ConfigError(f"the seed must be at least 0; got {seed}.")
        if batch_size < 2:
            raise ConfigError(
                "a batch needs at least 2 images, for BatchNorm to have a variance; "
                f"got {batch_size}."
            )
        if batch_size > len(source):
            raise ConfigError(
                f"a batch of {batch_size} needs at least as many images; {source.name} has "
                f"{len(source)} to train on. Lower the batch size."
            )
        if batch_size % world_size or batch_size // world_size < 2:
            raise ConfigError(
                f"a batch of {batch_size} cannot be shared by {world_size} processes: choose a "
                f"multiple of {world_size} that gives each at least 2."
            )
        self.source = source.to(device)
        self.batch_size, self.seed, self.recipe = batch_size, seed, recipe
        self.device = torch.device(device)
        self.layout = torch.channels_last if channels_last else torch.contiguous_format
        self.rank, self.world_size = rank, world_size
        self.normalisation = normalisation_of(source) if normalisation is None else normalisation

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
        _, height, width = self.source.image_shape
        for step, ((images, labels), waited) in zip(steps, read, strict=True):
            generator = seeded(self.seed, Purpose.VIEWS, step, device=self.device)
            drawn = draw_two(self.batch_size, height, width, generator, recipes=self.recipe)
            view_a, view_b = (
                # Here and not before use: turning view a takes all threads, and so on a CPU
                # keeps them awake while one of them makes view b (docs/decisions.md).
                view_as_drawn(
                    images,
                    draws.part(self.share),
                    recipe=recipe,
                    normalisation=self.normalisation,
                ).contiguous(memory_format=self.layout)
                for draws, recipe in zip(drawn, self.recipe, strict=True)
            )
            yield Batch(step, view_a, view_b, labels, waited)

    def _rows(self, steps: Iterable[int]) -> Iterator[Rows]:
        order_of, order = -1, torch.empty(0, dtype=torch.long)
        for step in steps:
            epoch, batch = divmod(step, self.steps_per_epoch)
            if epoch != order_of:
                generator = seeded(self.seed, Purpose.ORDER, epoch)
                order_of, order = epoch, torch.randperm(len(self.source), generator=generator)
            yield order[batch * self.batch_size :][self.share]


def _timed(items: Iterator[Item]) -> Iterator[tuple[Item, float]]:
    """Each item with the seconds that it was waited for."""
    start = time.perf_counter()
    for item in items:
        yield item, time.perf_counter() - start
        start = time.perf_counter()


def normalisation_of(source: Source) -> Normalisation:
    """Mean and deviation of each channel over at most 4,096 images spread evenly over the source.

    Rounded to four digits. A channel that never changes is not divided by anything.
    """
    rows = torch.linspace(0, len(source) - 1, min(len(source), NORMALISATION_IMAGES)).long()
    total = square = torch.zeros(source.image_shape[0], dtype=torch.float64)
    pixels = 0
    for images, _ in source.read(torch.split(rows, 256)):
        values = images.double().div_(255)
        total = total + values.sum((0, 2, 3)).cpu()
        square = square + values.square_().sum((0, 2, 3)).cpu()
        pixels += images.numel() // images.shape[1]
    mean = total / pixels
    std = (square / pixels - mean**2).clamp_min(0).sqrt()
    return Normalisation(
        mean=tuple(round(value, 4) for value in mean.tolist()),
        std=tuple(round(value, 4) or 1.0 for value in std.tolist()),
    )
