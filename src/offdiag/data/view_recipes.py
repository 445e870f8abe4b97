"""How views are drawn: the laws that papers name, as data."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType

from offdiag._checks import ConfigError, at_least, within


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
