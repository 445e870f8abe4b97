"""An array in a file, before anything is known of it but its shape and type."""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from offdiag._checks import DataError

FLOATS = ("float16", "bfloat16", "float32", "float64")
"""The types that embeddings may have."""


@dataclass(frozen=True, kw_only=True)
class Stored:
    """An array by its name in the file; `dtype` is numpy's or torch's word for its type.

    `pieces(rows)` reads it from the first row to the last, at most `rows` at a time; each
    piece is a copy of its own, so that nothing of what was read before stays in memory.
    """

    name: str
    shape: tuple[int, ...]
    dtype: str
    pieces: Callable[[int], Iterator[Tensor]]

    @property
    def told(self) -> str:
        """Name, shape and type in a few words."""
        return f"{self.name} {told_shape(self.shape)} {self.dtype}"

    def whole(self) -> Tensor:
        """All of it at once, for what is small."""
        return torch.cat(list(self.pieces(max(self.shape[0], 1))))


def told_shape(shape: Sequence[int]) -> str:
    """(1,000 x 64), as a sentence would have it."""
    return f"({' x '.join(f'{size:,}' for size in shape)})"


def in_memory(array: Tensor | np.ndarray, name: str) -> Stored:
    """An array that is in memory already; its pieces share its memory."""
    if isinstance(array, Tensor):
        tensor = array.detach()
        if tensor.layout != torch.strided or tensor.is_quantized:
            raise DataError(
                f"{name} must be an ordinary dense tensor; got {tensor.dtype} as {tensor.layout}: "
                "call .to_dense() or .dequantize() first."
            )
        return Stored(
            name=name,
            shape=tuple(tensor.shape),
            dtype=str(tensor.dtype).removeprefix("torch."),
            pieces=lambda rows: (
                tensor[first : first + rows].cpu() for first in range(0, len(tensor), rows)
            ),
        )
    refuse_objects(array.dtype, name)
    return Stored(
        name=name,
        shape=array.shape,
        dtype=array.dtype.name,
        pieces=lambda rows: (
            as_tensor(array[first : first + rows]) for first in range(0, len(array), rows)
        ),
    )


def as_tensor(array: np.ndarray) -> Tensor:
    """A tensor of the same numbers, in this machine's order of bytes, writable."""
    native = array.dtype.newbyteorder("=")
    return torch.from_numpy(np.array(array, dtype=native, order="C"))


def refuse_objects(dtype: np.dtype, where: str) -> None:
    """DataError for arrays of Python objects and of records."""
    if dtype.hasobject:
        raise DataError(
            f"{where} holds pickled Python objects, and reading those would run code that the file "
            "brings along: save a plain array of float32 instead, one row for each image."
        )
    if dtype.names is not None or dtype.kind == "V":
        raise DataError(
            f"{where} must be an array of plain numbers; it holds records or raw bytes of type "
            f"{dtype}: save it as float32."
        )


def bytes_of(shape: Sequence[int], dtype: np.dtype) -> int:
    """How many bytes an array takes."""
    return math.prod(shape) * dtype.itemsize


def cut_short(path: Path | str, promised: int, found: int) -> DataError:
    """The sentence for a file that ends before its array does."""
    return DataError(
        f"{path} is cut short: its array takes {promised:,} bytes, and {found:,} are there. "
        "Write or copy the file again."
    )


def unreadable(path: Path | str, kind: str, error: Exception) -> DataError:
    """The sentence for a file that is damaged, or not of the kind that its name says."""
    why = " ".join(str(error).split()) or type(error).__name__
    if len(why) > 160:
        why = why[:157] + "..."
    return DataError(
        f"{path} cannot be read as {kind} ({why.rstrip('.')}): it is cut short, damaged, or of "
        "another kind. Write or copy the file again."
    )
