"""What is drawn for each image of a batch, all images at once."""

import math
from dataclasses import dataclass, fields

import torch
from torch import Tensor

from offdiag.data.operations import Box, Chosen, PerImage
from offdiag.data.view_recipes import ViewRecipe

CROP_TRIES = 10  # RandomResizedCrop's


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


def draw_two(
    batch: int,
    height: int,
    width: int,
    generator: torch.Generator,
    *,
    recipes: tuple[ViewRecipe, ViewRecipe],
) -> tuple[Draws, Draws]:
    """Draw two views of each image: both at once, at half the cost, where one law draws both."""
    first, second = recipes
    if first == second:
        both = draw(2 * batch, height, width, generator, recipe=first)
        return both.part(slice(batch)), both.part(slice(batch, None))
    a = draw(batch, height, width, generator, recipe=first)
    return a, draw(batch, height, width, generator, recipe=second)


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
    found = fits.gather(1, first)[:, 0]
    central = _central_box(height, width, recipe.crop_ratio)
    sides = zip((top, left, tall, wide), central, strict=True)
    return torch.stack([torch.where(found, side, fixed) for side, fixed in sides], dim=1)


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
