"""Tensors in files of torch.save, opened without running any code that they hold."""

import pickle
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from offdiag._checks import DataError
from offdiag.embeddings.stored import Stored, in_memory, unreadable

ZIP = b"PK"
"""How a file of the present format begins; older ones cannot be mapped."""


def torch_file(path: Path) -> list[Stored]:
    """The tensor of a file, or the tensors of a dict, by its keys.

    A file of the present format is mapped anew for each piece, so that what was read
    before counts no longer; one of the old format is loaded as a whole.
    """
    held, mapped = _load(path)
    if isinstance(held, Tensor):
        return [_stored(path, None, path.stem, held, mapped=mapped)]
    if isinstance(held, dict):
        tensors = {str(k): (k, v) for k, v in held.items() if isinstance(v, Tensor)}
        if _is_checkpoint(held):
            raise DataError(
                f"{path} holds the weights of a network and no embeddings: run the network over "
                "images and save what it gives, or use `offdiag embed` on a run of ours."
            )
        if len(tensors) > 1 and _are_vectors([v for _, v in tensors.values()]):
            return [in_memory(torch.stack([v for _, v in tensors.values()]), "vectors")]
        if tensors:
            return [
                _stored(path, key, name, tensor, mapped=mapped)
                for name, (key, tensor) in tensors.items()
            ]
    raise DataError(
        f"{path} must hold a tensor or a dict of tensors; it holds a {type(held).__name__}: "
        "torch.save the embeddings as one tensor (torch.cat joins batches)."
    )


def _is_checkpoint(held: dict[Any, Any]) -> bool:
    """A state dict, or a dict that holds one."""
    names = [str(name) for name in held]
    return any(name.endswith((".weight", ".bias", ".running_mean")) for name in names) or any(
        isinstance(inner, dict) and any(str(name).endswith(".weight") for name in inner)
        for inner in held.values()
    )


def _are_vectors(tensors: Sequence[Tensor]) -> bool:
    """A vector for each name, all of one length."""
    return all(t.ndim == 1 and t.is_floating_point() for t in tensors) and (
        len({len(t) for t in tensors}) == 1
    )


def _stored(path: Path, key: Any, name: str, tensor: Tensor, *, mapped: bool) -> Stored:
    stored = in_memory(tensor, name)
    if not mapped:
        return stored

    def pieces(rows: int) -> Iterator[Tensor]:
        for first in range(0, stored.shape[0], rows):
            held, _ = _load(path)
            whole = held if key is None else held[key]
            yield whole.detach()[first : first + rows].clone()

    return Stored(name=name, shape=stored.shape, dtype=stored.dtype, pieces=pieces)


def _load(path: Path) -> tuple[Any, bool]:
    """What the file holds, and whether it is mapped."""
    with path.open("rb") as file:
        mapped = file.read(len(ZIP)) == ZIP
    try:
        held = torch.load(path, map_location="cpu", weights_only=True, mmap=mapped)
    except pickle.UnpicklingError as error:
        if "weights_only" not in str(error) and "Unsupported" not in str(error):
            raise unreadable(path, "a file of torch.save", error) from None
        raise DataError(
            f"{path} holds more than tensors, and reading it would run code that it brings along: "
            "torch.save the embeddings alone, as a tensor or a dict of tensors."
        ) from None
    except (
        RuntimeError,
        OSError,
        EOFError,
        ValueError,
        KeyError,
        IndexError,
        AttributeError,
    ) as error:
        raise unreadable(path, "a file of torch.save", error) from None
    return held, mapped
