"""Images as data: two augmented views, and the normalisation that travels with them."""

from dataclasses import dataclass

import torch
from torch import Tensor

from offdiag._types import Images
from offdiag.data.data import Data
from offdiag.data.dataset import ImageSource, Splits
from offdiag.data.draws import draw_two
from offdiag.data.view_recipes import ViewPair
from offdiag.data.views import Normalisation, normalisation_of, view_as_drawn


@dataclass(frozen=True, kw_only=True)
class ImageViews:
    """Two normalised views of a batch of images, one by each recipe.

    Each process draws the views of the whole batch, which costs little, and makes those of its
    own part. `channels_last` is the memory layout of the views.
    """

    recipe: ViewPair
    normalisation: Normalisation
    channels_last: bool = False

    def __call__(self, images: Images, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        batch = len(images)
        return self.of_part(images, generator, rows=slice(0, batch), batch_size=batch)

    def of_part(
        self, samples: Images, generator: torch.Generator, *, rows: slice, batch_size: int
    ) -> tuple[Tensor, Tensor]:
        """The views of the rows of a batch, of which `samples` are the images."""
        layout = torch.channels_last if self.channels_last else torch.contiguous_format
        height, width = samples.shape[2:]
        drawn = draw_two(batch_size, height, width, generator, recipes=self.recipe)
        first, second = (
            # Here and not before use: turning view a takes all threads, and so on a CPU
            # keeps them awake while one of them makes view b (docs/decisions.md).
            view_as_drawn(
                samples, draws.part(rows), recipe=recipe, normalisation=self.normalisation
            ).contiguous(memory_format=layout)
            for draws, recipe in zip(drawn, self.recipe, strict=True)
        )
        return first, second


def image_data(
    splits: Splits,
    *,
    recipe: ViewPair,
    normalisation: Normalisation | None = None,
    channels_last: bool = False,
) -> Data:
    """Images with two views by `recipe`; normalised by the images to train on, if not given."""
    if normalisation is None:
        assert isinstance(splits.pretrain, ImageSource)
        normalisation = normalisation_of(splits.pretrain)
    views = ImageViews(recipe=recipe, normalisation=normalisation, channels_last=channels_last)
    return Data.of_splits(splits, views=views, whole=normalisation)
