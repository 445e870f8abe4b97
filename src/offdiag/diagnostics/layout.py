"""Which axis of an output counts the images and which holds the width.

Packages differ: (batch, tokens, dim), sequence-first (tokens, batch, dim) of nn.Transformer and
nn.GRU, (batch, channels, height, width), Swin's (batch, height, width, channels), and
(batch, channels, length) of 1-D convolutions.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

RECURRENT = (nn.RNNBase, nn.TransformerEncoder, nn.TransformerEncoderLayer, nn.MultiheadAttention)
WIDTHS = ("out_features", "out_channels", "num_features", "hidden_size", "embed_dim", "d_model")


@dataclass(frozen=True, kw_only=True)
class Layout:
    """The axis of the images and the axis of the width."""

    batch: int
    channel: int

    def arranged(self, output: Tensor) -> Tensor:
        """(batch, tokens, dim) of three axes, (batch, channels, ...) of more, as pooling reads."""
        if output.ndim < 3:
            return output
        rest = [axis for axis in range(output.ndim) if axis not in (self.batch, self.channel)]
        if output.ndim == 3:
            return output.permute(self.batch, *rest, self.channel)
        return output.permute(self.batch, self.channel, *rest)


USUAL = {3: Layout(batch=0, channel=2)}


def usual(ndim: int) -> Layout:
    """Tokens before width in three axes, channels before places in more."""
    return USUAL.get(ndim, Layout(batch=0, channel=1))


def find_layout(
    shape: torch.Size | tuple[int, ...],
    module: nn.Module,
    *,
    rows: int | None = None,
    width: int | None = None,
    batch: int | None = None,
) -> Layout:
    """The layout of an output of this shape.

    `rows` and `width` are those of what comes next (the projector's input, where it is a
    matrix): an axis that has that size is the one. `batch` is the number of images that went in,
    where the input's first axis counts them. Where neither decides, the module's own last width
    does, and `batch_first` of a recurrent or transformer layer; otherwise the usual layout.
    """
    ndim = len(shape)
    layout = usual(ndim)
    if ndim < 3:
        return layout
    if width is None or width not in shape:
        width = _last_width(module, shape)
    first = _sequence_first(module)
    axes = list(range(ndim))
    batches = [axis for axis in (0, 1) if rows is not None and shape[axis] == rows]
    if rows is None or not batches:
        batches = [1] if first and ndim == 3 else [0]
    batch_axis = (1 if first and ndim == 3 else 0) if len(batches) > 1 else batches[0]
    if width is None:
        channel = layout.channel if layout.channel != batch_axis else ndim - 1
        return Layout(batch=batch_axis, channel=channel)
    order = [layout.channel, ndim - 1, 1, *axes]
    fitting = [axis for axis in order if axis != batch_axis and shape[axis] == width]
    return Layout(batch=batch_axis, channel=fitting[0] if fitting else layout.channel)


def _sequence_first(module: nn.Module) -> bool:
    layers = [layer for layer in module.modules() if isinstance(layer, RECURRENT)]
    return bool(layers) and all(not _batch_first(layer) for layer in layers)


def _batch_first(layer: nn.Module) -> bool:
    if isinstance(layer, nn.TransformerEncoder):
        return _batch_first(layer.layers[0])
    if isinstance(layer, nn.TransformerEncoderLayer):
        return _batch_first(layer.self_attn)
    return bool(getattr(layer, "batch_first", False))


def _last_width(module: nn.Module, shape: torch.Size | tuple[int, ...]) -> int | None:
    """The width of the last layer that has one, if the output has an axis of that size."""
    for layer in reversed(list(module.modules())):
        for name in WIDTHS:
            width = getattr(layer, name, None)
            if isinstance(width, int) and not next(layer.children(), None):
                return width if width in shape[1:] else None
        shaped = getattr(layer, "normalized_shape", None)
        if isinstance(shaped, tuple) and len(shaped) == 1:
            return int(shaped[0]) if shaped[0] in shape[1:] else None
    return None
