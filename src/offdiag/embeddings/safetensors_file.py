"""Tensors in .safetensors files, sliced without loading the file."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from offdiag._checks import ConfigError
from offdiag.embeddings.stored import Stored, unreadable

TYPES = {"F16": "float16", "BF16": "bfloat16", "F32": "float32", "F64": "float64"}
KIND = "a .safetensors file"


def safetensors_file(path: Path) -> list[Stored]:
    """The tensors of a file, by name. The file is opened anew for each piece.

    What was read before then counts no longer as memory of this process.
    """
    try:
        from safetensors import SafetensorError, safe_open
    except ImportError:
        raise ConfigError(
            f"reading {path} needs the package safetensors: pip install safetensors."
        ) from None

    def opened() -> Any:
        return safe_open(str(path), framework="pt", device="cpu")

    def stored(name: str, shape: tuple[int, ...], dtype: str) -> Stored:
        def pieces(rows: int) -> Iterator[Tensor]:
            for first in range(0, shape[0], rows):
                with opened() as file:
                    piece = file.get_slice(name)[first : first + rows]
                    yield torch.clone(piece)

        return Stored(name=name, shape=shape, dtype=TYPES.get(dtype, dtype), pieces=pieces)

    try:
        with opened() as file:
            slices = {name: file.get_slice(name) for name in file.keys()}  # noqa: SIM118
            return [
                stored(name, tuple(found.get_shape()), found.get_dtype())
                for name, found in slices.items()
            ]
    except (SafetensorError, ValueError, RuntimeError) as error:
        raise unreadable(path, KIND, error) from None
