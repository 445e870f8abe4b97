"""Random views of a whole batch at once, each image with its own draw.

A view is made of uint8 images where they live: crop, resize and flip as one
linear map, brightness, contrast and saturation as one matrix product, then hue,
grayscale, blur and solarise. On a CPU the same is compiled (`view_kernel`), where
nothing is blurred. The laws of the draws are torchvision's
(RandomResizedCrop, RandomHorizontalFlip, ColorJitter in RandomApply,
RandomGrayscale, GaussianBlur in RandomApply, RandomSolarize). What differs:

- ColorJitter takes its four changes in random order and clamps to [0, 1] after
  each; we take brightness, contrast and saturation together (unclamped they
  commute), clamp once, then shift the hue.
- torchvision rounds uint8 images after every step; we round nowhere.
- Saturation, hue and grayscale are of images with three channels; of others they are left
  out, and contrast scales the distance from the mean over all channels.
- Images are of 8 or 16 bits a value.
"""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from offdiag._checks import ConfigError, DataError
from offdiag._types import Images, View
from offdiag.data import operations
from offdiag.data.dataset import ImageSource
from offdiag.data.draws import Draws, draw
from offdiag.data.view_recipes import ViewRecipe

# On a CPU the operations work a batch off in pieces, whose results stay in the cache meanwhile.
CACHED_PIXELS = 128 * 32 * 32
LEVELS = {torch.uint8: 255, torch.uint16: 65_535}
"""The value that stands for 1."""
NORMALISATION_IMAGES = 4096


@dataclass(frozen=True)
class Normalisation:
    """Mean and standard deviation per channel of values in [0, 1]: (x - mean) / std is seen."""

    mean: tuple[float, ...]
    std: tuple[float, ...]

    def __call__(self, images: Images) -> View:
        """Normalise whole images, as evaluation sees them: no crop, no change of colour."""
        return self.apply(images.float().div_(LEVELS[images.dtype]))

    def apply(self, view: View) -> View:
        """Normalise values in [0, 1]."""
        scale, shift = self.affine(view)
        return torch.addcmul(shift[:, None, None], view, scale[:, None, None])

    def affine(self, view: View) -> tuple[Float[Tensor, " channels"], Float[Tensor, " channels"]]:
        """The same as a factor and an offset per channel; DataError for other channels."""
        if len(self.mean) != view.shape[1]:
            known = {3: ": read them with channels 'rgb'", 1: ": read them with channels 'gray'"}
            raise DataError(
                f"the normalisation is for images of {len(self.mean)} channel(s), these have "
                f"{view.shape[1]}{known.get(len(self.mean), '')}."
            )
        where = view.device, view.dtype
        scale = 1 / operations.constant(self.std, *where)
        return scale, operations.constant(self.mean, *where) * -scale


@torch.no_grad()
def make_view(
    images: Images,
    generator: torch.Generator,
    *,
    recipe: ViewRecipe,
    normalisation: Normalisation | None = None,
) -> Float[Tensor, "batch channels rows columns"]:
    """One random view of every image, in [0, 1] or, if a normalisation is given, normalised.

    `generator` must live on the device of the images.
    The same generator state gives the same view; two views are two calls. Always
    computed in float32, also under autocast.
    """
    batch, _, height, width = images.shape
    draws = draw(batch, height, width, generator, recipe=recipe)
    return view_as_drawn(images, draws, recipe=recipe, normalisation=normalisation)


@torch.no_grad()
def view_as_drawn(
    images: Images,
    draws: Draws,
    *,
    recipe: ViewRecipe,
    normalisation: Normalisation | None = None,
) -> Float[Tensor, "batch channels rows columns"]:
    """The view of every image that `draws` has drawn for it; see `make_view`."""
    batch, channels, height, width = images.shape
    if images.dtype not in LEVELS:
        raise DataError(f"views are made of images of 8 or 16 bits; these are {images.dtype}.")
    compiled = images.device.type == "cpu" and images.dtype == torch.uint8 and channels in (1, 3)
    size = (height, width) if recipe.size is None else (recipe.size, recipe.size)
    if recipe.blur > 0 and recipe.blur_kernel // 2 >= min(size):
        raise ConfigError(
            f"blur_kernel={recipe.blur_kernel} reaches beyond views of {size[0]} x {size[1]} "
            f"pixels; choose at most {2 * min(size) - 1}."
        )
    view = torch.empty((batch, channels, *size), device=images.device)
    with torch.autocast(images.device.type, enabled=False):
        if compiled and recipe.blur == 0:
            apply_compiled(images, draws, recipe, normalisation, out=view)
        else:
            most = CACHED_PIXELS // max(height * width, size[0] * size[1])
            most = max(1, most) if images.device.type == "cpu" else batch
            for start in range(0, batch, most):
                rows = slice(start, start + most)
                apply(images[rows], draws.part(rows), recipe, normalisation, out=view[rows])
    return view


def apply(
    images: Images,
    draws: Draws,
    recipe: ViewRecipe,
    normalisation: Normalisation | None = None,
    *,
    out: Float[Tensor, "batch channels rows columns"],
) -> None:
    """Write the views that were drawn into `out`, which must be contiguous."""
    rgb = images.shape[1] == 3
    size = (out.shape[2], out.shape[3])
    view = operations.crop_resize_flip(images, draws.boxes, draws.mirrored, size=size)
    view.div_(LEVELS[images.dtype])
    if recipe.jitter > 0:
        saturation = draws.saturation if rgb else None
        view = operations.adjust_colour(view, draws.brightness, draws.contrast, saturation)
        if rgb and recipe.hue > 0:
            view = operations.adjust_hue(view, draws.turns)
    grayed = draws.grayed if rgb and recipe.grayscale > 0 else torch.zeros_like(draws.grayed)
    mixing = operations.graying(view, grayed)
    if recipe.blur > 0 or recipe.solarise > 0:
        view = operations.mix_channels(view, mixing, None)
        if recipe.blur > 0:
            view = operations.blur(view, draws.sigma, draws.blurred, kernel=recipe.blur_kernel)
        if recipe.solarise > 0:
            threshold = recipe.solarise_threshold
            view = operations.solarise(view, draws.solarised, threshold=threshold)
        mixing = torch.eye(len(mixing[0]), device=view.device)[None]
    # Graying and normalising are linear in a pixel's channels: one product, straight into place.
    offset = None
    if normalisation is not None:
        scale, offset = normalisation.affine(view)
        mixing = scale[:, None] * mixing
    operations.mix_channels(view, mixing, offset, out=out)


def apply_compiled(
    images: Images,
    draws: Draws,
    recipe: ViewRecipe,
    normalisation: Normalisation | None = None,
    *,
    out: Float[Tensor, "batch channels rows columns"],
) -> None:
    """`apply` for images of 8 bits and 1 or 3 channels on a CPU, and recipes without blur.

    In one thread: on two cores a second one gained nothing, since it waits for the core on
    which a thread of torch's last operation still waits for the next (docs/decisions.md).
    """
    from offdiag.data import view_kernel  # with Numba, a third of a second, which few need

    channels = images.shape[1]
    scale, shift = torch.ones(channels), torch.zeros(channels)
    if normalisation is not None:
        scale, shift = normalisation.affine(out)
    drawn = (  # in the order that the kernel takes them
        draws.boxes,
        draws.mirrored,
        draws.brightness,
        draws.contrast,
        draws.saturation,
        draws.turns,
        draws.grayed,
        draws.solarised,
    )
    view_kernel.write_views(
        images.numpy(),
        tuple(values.numpy() for values in drawn),
        np.float32(recipe.solarise_threshold),
        scale.numpy(),
        shift.numpy(),
        out.numpy(),
    )


def normalisation_of(source: ImageSource) -> Normalisation:
    """Mean and deviation of each channel over at most 4,096 images spread evenly over the source.

    Rounded to four digits. A channel that never changes is not divided by anything.
    """
    rows = torch.linspace(0, len(source) - 1, min(len(source), NORMALISATION_IMAGES)).long()
    total = square = torch.zeros(source.image_shape[0], dtype=torch.float64)
    pixels = 0
    for images, _ in source.read(torch.split(rows, 256)):
        values = images.double().div_(LEVELS[images.dtype])
        total = total + values.sum((0, 2, 3)).cpu()
        square = square + values.square_().sum((0, 2, 3)).cpu()
        pixels += images.numel() // images.shape[1]
    mean = total / pixels
    std = (square / pixels - mean**2).clamp_min(0).sqrt()
    return Normalisation(
        mean=tuple(round(value, 4) for value in mean.tolist()),
        std=tuple(round(value, 4) or 1.0 for value in std.tolist()),
    )
