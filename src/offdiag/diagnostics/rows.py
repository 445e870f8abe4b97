"""From what a part puts out to rows: one an image, whatever the axes, without padding."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from offdiag._checks import ConfigError
from offdiag._types import Embeddings
from offdiag.diagnostics.layout import Layout, find_layout
from offdiag.diagnostics.marks.inputs import partners
from offdiag.diagnostics.pooling import Pooling, all_tokens, mean_of_tokens
from offdiag.results.observation import PARTS

KEPT_MASKS = ("attention_mask",)
PADDING_MASKS = ("padding_mask", "src_key_padding_mask", "key_padding_mask")
SIDE_BY_SIDE = 0.1
"""The margin of the share of rows that find their partner next to them over the other half."""


class Rows:
    """Pools the outputs of each part, finds their axes once, and splits the views of one call."""

    def __init__(
        self, pooling: Pooling | Mapping[str, Pooling], views_concatenated: int | Mapping[str, int]
    ) -> None:
        self._pooling = {
            part: pooling.get(part, mean_of_tokens) if isinstance(pooling, Mapping) else pooling
            for part in PARTS
        }
        self.pieces = {
            part: views_concatenated.get(part, 1)
            if isinstance(views_concatenated, Mapping)
            else views_concatenated
            for part in PARTS
        }
        self.layouts: dict[tuple[str, int], Layout] = {}
        self.side_by_side: bool | None = None

    def knows(self, part: str, ndim: int) -> bool:
        """Are the axes of this part's outputs known, or is there nothing to find?"""
        return ndim < 3 or (part, ndim) in self.layouts

    def learn(
        self, part: str, output: Tensor, module: nn.Module, *, next_input: Tensor | None = None
    ) -> None:
        """Find the axes from the output, its module, and the matrix that goes into what follows."""
        if self.knows(part, output.ndim):
            return
        other = self.layouts.get(("encoder", output.ndim))
        if part != "encoder" and other is not None:
            self.layouts[part, output.ndim] = other
            return
        matrix = next_input is not None and next_input.ndim == 2
        self.layouts[part, output.ndim] = find_layout(
            output.shape,
            module,
            rows=next_input.shape[0] if matrix and next_input is not None else None,
            width=next_input.shape[1] if matrix and next_input is not None else None,
        )

    def of(self, part: str, output: Tensor, named: Mapping[str, Any]) -> Embeddings:
        """The rows of one call, float32 copies; ConfigError if the pooling gives none."""
        output = output.to(torch.float32, copy=True)
        if output.ndim >= 3:
            output = self.layouts[part, output.ndim].arranged(output)
        rows = _without_padding(output, _mask(named), self._pooling[part])
        if rows is None:
            rows = self._pooling[part](output)
        if rows.ndim != 2:
            raise ConfigError(
                f"pooling must give rows, shape (rows, dim); it gave {tuple(rows.shape)} "
                f"for the {part}."
            )
        return rows

    def views(self, part: str, rows: Embeddings) -> tuple[Tensor, ...]:
        """The views of one call: halves, or side by side if the first reading shows that.

        ConfigError if the rows do not split; then they are one view.
        """
        pieces = self.pieces[part]
        if pieces == 1:
            return (rows,)
        if len(rows) % pieces:
            raise ConfigError(
                f"the {part} gave {len(rows)} rows, which do not split into "
                f"{pieces} views: correct views_concatenated."
            )
        if self.side_by_side is None:
            apart = partners(*rows.chunk(pieces)[:2])
            adjacent = partners(rows[0::pieces], rows[1::pieces])
            self.side_by_side = adjacent > apart + SIDE_BY_SIDE
        if self.side_by_side:
            return tuple(rows[i::pieces] for i in range(pieces))
        return rows.chunk(pieces)


def _mask(named: Mapping[str, Any]) -> Tensor | None:
    """True where a token counts."""
    for name in (*KEPT_MASKS, *PADDING_MASKS):
        mask = named.get(name)
        if isinstance(mask, Tensor) and mask.ndim == 2:
            return mask.bool() if name in KEPT_MASKS else ~mask.bool()
    return None


def _without_padding(output: Tensor, mask: Tensor | None, pooling: Pooling) -> Embeddings | None:
    """Rows of the tokens that count; None where no mask fits or the pooling is another."""
    if mask is None or output.ndim != 3 or mask.shape != output.shape[:2] or mask.all():
        return None
    mask = mask.to(output.device)
    if pooling is mean_of_tokens:
        weight = mask.to(output)[..., None]
        return (output * weight).sum(1) / weight.sum(1).clamp_min(1)
    return output[mask] if pooling is all_tokens else None
