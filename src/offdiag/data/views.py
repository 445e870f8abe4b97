"""Random views of a whole batch at once, each image with its own draw.

A view is made of uint8 images where they live: crop, resize and flip as one
linear map, brightness, contrast and saturation as one matrix product, then hue,
grayscale, blur and solarise. The laws of the draws are torchvision's
(RandomResizedCrop, RandomHorizontalFlip, ColorJitter in RandomApply,
RandomGrayscale, GaussianBlur in RandomApply, RandomSolarize). What differs:

- ColorJitter takes its four changes in random order and clamps to [0, 1] after
  each; we take brightness, contrast and saturation together (unclamped they
  commute), clamp once, then shift the hue.
- torchvision rounds uint8 images after every step; we round nowhere.
- One-channel images have neither saturation, hue nor grayscale: those are left out.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from types import MappingProxyType

import torch
from jaxtyping import Float
from torch import Tensor

from offdiag._checks import ConfigError, DataError, at_least, within
from offdiag._types import Images, View
from offdiag.data import operations
from offdiag.data.operations import Box, Chosen, PerImage

CROP_TRIES = 10  # RandomResizedCrop's
# On a CPU a batch is worked off in pieces whose intermediate results stay in the cache.
CACHED_PIXELS = 128 * 32 * 32


@dataclass(frozen=True, kw_only=True)
class ViewRecipe:
    """How one view is drawn. The defaults are SimSiam's for CIFAR-10.

    `crop_scale` is the range of the crop's share of the area, `crop_ratio` that of
    width / height. `flip`, `jitter`, `grayscale`, `blur`, `solarise` are
    probabilities; a probability of 0 leaves the step out. Jittered images scale
    `brightness`, `contrast` and `saturation` by a factor uniform in
    [max(0, 1 - strength), 1 + strength] and shift the hue by up to `hue` turns.
    `blur_sigma` and `blur_kernel` (odd) are in pixels of the view, `solarise_threshold`
    in [0, 1]. `size` is the side of the square view in pixels; None keeps the images'.
    """

    crop_scale: tuple[float, float] = (0.2, 1.0)
    crop_ratio: tuple[float, float] = (3 / 4, 4 / 3)
    flip: float = 0.5
    jitter: float = 0.8
    brightness: float = 0.4
    contrast: float = 0.4
    saturation: float = 0.4
    hue: float = 0.1
    grayscale: float = 0.2
    blur: float = 0.0
    blur_sigma: tuple[float, float] = (0.1, 2.0)
    blur_kernel: int = 23
    solarise: float = 0.0
    solarise_threshold: float = 0.5
    size: int | None = None

    def __post_init__(self) -> None:
        for name in ("flip", "jitter", "grayscale", "blur", "solarise", "solarise_threshold"):
            within(name, getattr(self, name), 0.0, 1.0)
        for name in ("brightness", "contrast", "saturation"):
            at_least(name, getattr(self, name), 0.0)
        within("hue", self.hue, 0.0, 0.5)
        for name, limit in (
            ("crop_scale", 1.0),
            ("crop_ratio", math.inf),
            ("blur_sigma", math.inf),
        ):
            low, high = getattr(self, name)
            if not 0 < low <= high <= limit:
                raise ConfigError(
                    f"{name} must be a range (low, high) with 0 < low <= high"
                    f"{' <= 1' if limit == 1 else ''}; got ({low:g}, {high:g})."
                )
        if self.blur_kernel < 1 or self.blur_kernel % 2 == 0:
            raise ConfigError(f"blur_kernel must be odd and positive; got {self.blur_kernel}.")
        if self.size is not None and self.size < 1:
            raise ConfigError(f"the size of a view must be at least 1 pixel; got {self.size}.")


ViewPair = tuple[ViewRecipe, ViewRecipe]


def simsiam_cifar() -> ViewPair:
    """SimSiam on CIFAR-10 (Chen & He 2021, appendix D): no blur."""
    return ViewRecipe(), ViewRecipe()


def prediction_head_paper() -> ViewPair:
    """The probable recipe of the prediction-head paper: grayscale in one image of ten."""
    recipe = ViewRecipe(grayscale=0.1)
    return recipe, recipe


def simsiam_imagenet() -> ViewPair:
    """SimSiam on ImageNet (Chen & He 2021, after MoCo v2): every other view is blurred."""
    recipe = ViewRecipe(blur=0.5, size=224)
    return recipe, recipe


def byol_imagenet() -> ViewPair:
    """BYOL on ImageNet (Grill et al. 2020, table 6): two laws, one view always blurred."""
    first = ViewRecipe(crop_scale=(0.08, 1.0), saturation=0.2, blur=1.0, size=224)
    return first, replace(first, blur=0.1, solarise=0.2)


def digits() -> ViewPair:
    """Gentle views for hand-written digits: mirrored, they would be other signs."""
    recipe = ViewRecipe(crop_scale=(0.5, 1.0), flip=0.0, brightness=0.4, contrast=0.4)
    return recipe, recipe


def gray() -> ViewPair:
    """Views for one-channel pictures of things, such as Fashion-MNIST."""
    recipe = ViewRecipe(crop_scale=(0.3, 1.0))
    return recipe, recipe


VIEWS: Mapping[str, ViewPair] = MappingProxyType(
    {
        "simsiam-cifar": simsiam_cifar(),
        "paper": prediction_head_paper(),
        "simsiam-imagenet": simsiam_imagenet(),
        "byol-imagenet": byol_imagenet(),
        "digits": digits(),
        "gray": gray(),
    }
)


@dataclass(frozen=True)
class Normalisation:
    """Mean and standard deviation per channel of values in [0, 1]: (x - mean) / std is seen."""

    mean: tuple[float, ...]
    std: tuple[float, ...]

    def __call__(self, images: Images) -> View:
        """Normalise whole images, as evaluation sees them: no crop, no change of colour."""
        return self.apply(images.float().div_(255))

    def apply(self, view: View) -> View:
        """Normalise values in [0, 1]."""
        scale, shift = self.affine(view)
        return torch.addcmul(shift[:, None, None], view, scale[:, None, None])

    def affine(self, view: View) -> tuple[Float[Tensor, " channels"], Float[Tensor, " channels"]]:
        """The same as a factor and an offset per channel; DataError for other channels."""
        if len(self.mean) != view.shape[1]:
            channels = "rgb" if len(self.mean) == 3 else "gray"
            raise DataError(
                f"the normalisation is for images of {len(self.mean)} channel(s), these have "
                f"{view.shape[1]}: read them with channels {channels!r}."
            )
        scale = 1 / view.new_tensor(self.std)
        return scale, view.new_tensor(self.mean).mul(-scale)


@dataclass(frozen=True, kw_only=True)
class Draws:
    """What was drawn for each image of a batch. `turns` is the shift of the hue."""

    boxes: Box
    mirrored: Chosen
    brightness: PerImage
    contrast: PerImage
    saturation: PerImage
    turns: PerImage
    grayed: Chosen
    sigma: PerImage
    blurred: Chosen
    solarised: Chosen

    def part(self, rows: slice) -> "Draws":
        return Draws(**{field.name: getattr(self, field.name)[rows] for field in fields(self)})


@torch.no_grad()
def make_view(
    images: Images,
    generator: torch.Generator,
    *,
    recipe: ViewRecipe,
    normalisation: Normalisation | None = None,
    share: slice | None = None,
    of: int | None = None,
) -> Float[Tensor, "batch channels rows columns"]:
    """One random view of every image, in [0, 1] or, if a normalisation is given, normalised.

    `generator` must live on the device of the images, which have 1 or 3 channels.
    The same generator state gives the same view; two views are two calls. Always
    computed in float32, also under autocast. Images that are only the rows `share`
    of a batch of `of` get the views that they would get in the whole batch.
    """
    batch, channels, height, width = images.shape
    if channels not in (1, 3):
        raise DataError(f"views are made of images with 1 or 3 channels; these have {channels}.")
    size = (height, width) if recipe.size is None else (recipe.size, recipe.size)
    if recipe.blur > 0 and recipe.blur_kernel // 2 >= min(size):
        raise ConfigError(
            f"blur_kernel={recipe.blur_kernel} reaches beyond views of {size[0]} x {size[1]} "
            f"pixels; choose at most {2 * min(size) - 1}."
        )
    draws = draw(of or batch, height, width, generator, recipe=recipe)
    if share is not None:
        draws = draws.part(share)
    view = torch.empty((batch, channels, *size), device=images.device)
    most = batch
    if images.device.type == "cpu":
        most = max(1, CACHED_PIXELS // max(height * width, size[0] * size[1]))
    with torch.autocast(images.device.type, enabled=False):
        for start in range(0, batch, most):
            rows = slice(start, start + most)
            apply(images[rows], draws.part(rows), recipe, normalisation, out=view[rows])
    return view


def draw(
    batch: int, height: int, width: int, generator: torch.Generator, *, recipe: ViewRecipe
) -> Draws:
    """Draw the parameters of one view of each image; steps left out are drawn all the same."""

    def uniform(low: float, high: float) -> PerImage:
        return _uniform(batch, low, high, generator)

    def chosen(probability: float) -> Chosen:
        return uniform(0.0, 1.0) < probability

    def factor(strength: float) -> PerImage:
        return torch.where(jittered, uniform(max(0.0, 1 - strength), 1 + strength), 1.0)

    boxes = draw_crops(batch, height, width, generator, recipe=recipe)
    jittered = chosen(recipe.jitter)
    return Draws(
        boxes=boxes,
        mirrored=chosen(recipe.flip),
        brightness=factor(recipe.brightness),
        contrast=factor(recipe.contrast),
        saturation=factor(recipe.saturation),
        turns=torch.where(jittered, uniform(-recipe.hue, recipe.hue), 0.0),
        grayed=chosen(recipe.grayscale),
        sigma=uniform(*recipe.blur_sigma),
        blurred=chosen(recipe.blur),
        solarised=chosen(recipe.solarise),
    )


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
    view = operations.crop_resize_flip(images, draws.boxes, draws.mirrored, size=size).div_(255)
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


def draw_crops(
    batch: int, height: int, width: int, generator: torch.Generator, *, recipe: ViewRecipe
) -> Box:
    """Boxes by the law of torchvision's RandomResizedCrop, all images at once.

    Area uniform in `crop_scale`, ratio log-uniform, rounded to whole pixels; the
    first of ten candidates that fits the image, otherwise the largest central box
    whose ratio is in range.
    """
    shape = (batch, CROP_TRIES)
    area = height * width * _uniform(shape, *recipe.crop_scale, generator)
    low, high = recipe.crop_ratio
    ratio = _uniform(shape, math.log(low), math.log(high), generator).exp_()
    wide = (area * ratio).sqrt_().round_().long()
    tall = (area / ratio).sqrt_().round_().long()
    fits = (wide > 0) & (wide <= width) & (tall > 0) & (tall <= height)
    first = fits.int().argmax(1, keepdim=True)
    wide, tall = wide.gather(1, first)[:, 0], tall.gather(1, first)[:, 0]
    # floor(u (n + 1)) is uniform over 0..n; the minimum guards against u rounding up to 1
    top = (_uniform(batch, 0.0, 1.0, generator) * (height - tall + 1)).long()
    left = (_uniform(batch, 0.0, 1.0, generator) * (width - wide + 1)).long()
    top, left = torch.minimum(top, height - tall), torch.minimum(left, width - wide)
    boxes = torch.stack((top, left, tall, wide), dim=1)
    fallback = boxes.new_tensor(_central_box(height, width, recipe.crop_ratio))
    return torch.where(fits.gather(1, first), boxes, fallback)


def _central_box(
    height: int, width: int, crop_ratio: tuple[float, float]
) -> tuple[int, int, int, int]:
    tall, wide = height, width
    if width / height < crop_ratio[0]:
        tall = round(width / crop_ratio[0])
    elif width / height > crop_ratio[1]:
        wide = round(height * crop_ratio[1])
    return (height - tall) // 2, (width - wide) // 2, tall, wide


def _uniform(
    shape: int | tuple[int, ...], low: float, high: float, generator: torch.Generator
) -> Tensor:
    return torch.rand(shape, generator=generator, device=generator.device) * (high - low) + low
