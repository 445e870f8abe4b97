"""Image operations for a whole batch at once, with one parameter per image.

Every function is deterministic and gives what torchvision's function of the same
name gives on float images, image by image; the draws are in `views`. Views hold
values in [0, 1]. Nothing here waits for the device.
"""

from functools import lru_cache

import torch
from jaxtyping import Bool, Float, Int, Num
from torch import Tensor

from offdiag._types import View

Box = Int[Tensor, "batch 4"]  # top, left, height, width in pixels
PerImage = Float[Tensor, " batch"]
Chosen = Bool[Tensor, " batch"]

LUMA = (0.2989, 0.587, 0.114)  # torchvision's rounding of ITU-R 601


def crop_resize_flip(
    images: Num[Tensor, "batch channels height width"],
    boxes: Box,
    flip: Chosen,
    *,
    size: tuple[int, int],
) -> Float[Tensor, "batch channels rows columns"]:
    """Cut each image to its box, resize the piece to `size` and mirror it where `flip`.

    Bilinear with anti-aliasing; nothing outside the box is read, so its border
    repeats. Values keep their scale. Crop, resize and flip are one linear map that
    separates into rows and columns, hence two matrix products for the whole batch:
    on a CPU twice as fast as `grid_sample`, and, unlike it, anti-aliased.
    """
    top, left, tall, wide = boxes.unbind(1)
    rows = _resize_weights(top, tall, torch.zeros_like(flip), images.shape[2], size[0])
    columns = _resize_weights(left, wide, flip, images.shape[3], size[1])
    return _separable(images, rows, columns)


def adjust_colour(
    view: View, brightness: PerImage, contrast: PerImage, saturation: PerImage | None
) -> View:
    """Scale brightness, contrast and saturation by the given factors, then clamp to [0, 1].

    A factor of 1 changes nothing. Contrast scales the distance from the image's
    mean luma, saturation the distance from each pixel's own luma; images that are not
    of three channels have no saturation: give None. One pass, without clamping in between: so
    taken, the three commute and need no order.
    """
    batch, channels = view.shape[:2]
    pixels = view.flatten(2)
    luma = _luma(channels, view)
    identity = torch.eye(channels, dtype=view.dtype, device=view.device)
    if saturation is None:
        mixing = identity.expand(batch, -1, -1)
    else:
        gray = luma.expand(channels, -1)
        mixing = torch.lerp(gray, identity, saturation[:, None, None])
    mixing = mixing * (brightness * contrast)[:, None, None]
    offset = brightness * (1 - contrast) * (pixels.mean(2) @ luma)
    return torch.baddbmm(offset[:, None, None], mixing, pixels).clamp_(0, 1).view_as(view)


def adjust_hue(view: View, turns: PerImage) -> View:
    """Shift the hue by `turns` of the colour circle (-0.5 to 0.5), in HSV, exactly.

    Keeps each pixel's largest and smallest channel. A rotation about the gray axis,
    which would be one matrix, misses the exact result by nearly as much as the
    shift itself changes the image (see docs/decisions.md), so we pay for HSV.
    """
    red, green, blue = view.unbind(1)
    low = torch.minimum(red, green).minimum(blue)  # aminmax over channels is far slower
    top = torch.maximum(red, green).maximum(blue)
    chroma = top - low
    hue = torch.where(  # in sixths of the circle, times chroma
        top == red,
        green - blue,
        torch.where(
            top == green,
            (blue - red).add_(chroma, alpha=2),
            (red - green).add_(chroma, alpha=4),
        ),
    )
    tiny = torch.finfo(view.dtype).tiny  # gray pixels: chroma 0, any hue
    hue = hue.div_(chroma.clamp_min(tiny)).add_(6 * turns[:, None, None] + 6)
    hue = hue.sub_((hue / 6).floor_(), alpha=6)  # fmod takes four times as long on a CPU
    shifted = torch.empty_like(view)
    for channel, (peak, sign, rise) in enumerate(((3, 1, -1), (2, -1, 2), (4, -1, 2))):
        share = (hue - peak).abs_().mul_(sign).add_(rise).clamp_(0, 1)
        torch.addcmul(low, share, chroma, out=shifted[:, channel])
    return shifted


def to_gray(view: View, chosen: Chosen) -> View:
    """Replace the channels of the chosen images by their luma."""
    return mix_channels(view, graying(view, chosen), None)


def graying(view: View, chosen: Chosen) -> Float[Tensor, "batch channels channels"]:
    """For each image the matrix that mixes its channels: luma where chosen, else the identity."""
    channels = view.shape[1]
    identity = torch.eye(channels, dtype=view.dtype, device=view.device)
    gray = _luma(channels, view).expand(channels, -1)
    return torch.where(chosen[:, None, None], gray, identity)


def mix_channels(
    view: View,
    mixing: Float[Tensor, "#batch channels channels"],
    offset: Float[Tensor, " channels"] | None,
    *,
    out: View | None = None,
) -> View:
    """mixing @ pixel + offset for every pixel; written into `out`, which must be contiguous."""
    mixing = mixing.expand(len(view), -1, -1)
    into = None if out is None else out.view(*out.shape[:2], -1)
    if offset is None:
        return torch.bmm(mixing, view.flatten(2), out=into).view_as(view)
    return torch.baddbmm(offset[:, None], mixing, view.flatten(2), out=into).view_as(view)


def blur(view: View, sigma: PerImage, chosen: Chosen, *, kernel: int) -> View:
    """Gaussian blur of the chosen images, each with its own `sigma` in pixels.

    The Gaussian is cut off at `kernel` pixels, an odd number, and mirrored at the
    border without repeating it; so kernel // 2 must be smaller than the image.
    """
    reach = torch.arange(kernel, device=view.device, dtype=view.dtype) - kernel // 2
    weights = torch.softmax(-0.5 * (reach / sigma[:, None]) ** 2, dim=1)
    weights = torch.where(chosen[:, None], weights, (reach == 0).to(view.dtype))
    rows, columns = (
        torch.tensordot(weights, _mirrored_shifts(kernel, side, view.device).to(view.dtype), 1)
        for side in view.shape[2:]
    )
    return _separable(view, rows, columns)


def solarise(view: View, chosen: Chosen, *, threshold: float) -> View:
    """Invert, in the chosen images, every value of at least `threshold`."""
    invert = chosen[:, None, None, None] & (view >= threshold)
    return torch.where(invert, 1 - view, view)


def _separable(
    images: Num[Tensor, "batch channels height width"],
    rows: Float[Tensor, "batch new_height height"],
    columns: Float[Tensor, "batch new_width width"],
) -> Float[Tensor, "batch channels new_height new_width"]:
    """rows @ image @ columns.T, for every channel.

    Channels lie between rows and columns meanwhile: one product per image and side
    instead of one per channel, and the images are turned while they are bytes.
    """
    batch, channels, height, width = images.shape
    turned = images.transpose(1, 2).contiguous().to(rows.dtype)
    short = torch.bmm(rows, turned.view(batch, height, channels * width))
    short = short.view(batch, rows.shape[1] * channels, width)
    small = torch.bmm(short, columns.transpose(1, 2))
    return small.view(batch, rows.shape[1], channels, columns.shape[1]).transpose(1, 2).contiguous()


def _resize_weights(
    start: Int[Tensor, " batch"],
    length: Int[Tensor, " batch"],
    backwards: Chosen,
    old: int,
    new: int,
) -> Float[Tensor, "batch {new} {old}"]:
    """Row o holds what each of `old` pixels gives to pixel o of the piece resized to `new`."""
    place = torch.arange(new, device=start.device)
    place = torch.where(backwards[:, None], new - 1 - place, place)
    pixel = torch.arange(old, device=start.device)
    inside = (pixel >= start[:, None]) & (pixel < (start + length)[:, None])
    scale = (length / new)[:, None]
    support = scale.clamp_min(1)
    centre = (start[:, None] + (place + 0.5) * scale) / support
    weights = (pixel + 0.5) / support[:, None] - centre[:, :, None]
    weights.abs_().neg_().add_(1).clamp_min_(0).mul_(inside[:, None])
    return weights.div_(weights.sum(2, keepdim=True))


@lru_cache(maxsize=16)
def _mirrored_shifts(
    kernel: int, side: int, device: torch.device
) -> Float[Tensor, "{kernel} {side} {side}"]:
    """Matrix t moves an image by t - kernel // 2 pixels, mirrored at the border."""
    pixel = torch.arange(side, device=device)
    source = (pixel + torch.arange(kernel, device=device)[:, None] - kernel // 2).abs()
    source = torch.where(source >= side, 2 * (side - 1) - source, source)
    return torch.nn.functional.one_hot(source, side).float()


def _luma(channels: int, like: Tensor) -> Float[Tensor, " {channels}"]:
    weights = LUMA if channels == 3 else (1 / channels,) * channels
    return constant(weights, like.device, like.dtype)


@lru_cache(maxsize=64)
def constant(
    values: tuple[float, ...], device: torch.device, dtype: torch.dtype
) -> Float[Tensor, " {len(values)}"]:
    """A few numbers on a device, sent there once: sending waits for the device. Do not write."""
    return torch.tensor(values, device=device, dtype=dtype)
