"""Batches of any form: a tensor, or tuples, lists and dicts of tensors, nested as you like.

The first axis of every tensor counts the samples. An object of another kind takes part if it
says how: `to(device)` moves it, `part(rows)` gives the rows of a slice.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from offdiag._checks import DataError


def is_named_tuple(value: Any) -> bool:
    """Whether `value` is one thing with named fields and not a tuple of several things."""
    return isinstance(value, tuple) and hasattr(value, "_fields")


def mapped(change: Callable[[Any], Any], nest: Any) -> Any:
    """The same nest with every leaf changed; a leaf is what is no tuple, list or dict."""
    if isinstance(nest, Mapping):
        return {name: mapped(change, value) for name, value in nest.items()}
    if is_named_tuple(nest):
        return type(nest)(*(mapped(change, value) for value in nest))
    if isinstance(nest, tuple | list):
        return type(nest)(mapped(change, value) for value in nest)
    return change(nest)


def leaves(nest: Any) -> Iterator[Any]:
    """Every leaf, in the order of the nest."""
    if isinstance(nest, Mapping):
        nest = tuple(nest.values())
    if isinstance(nest, tuple | list):
        for value in nest:
            yield from leaves(value)
    else:
        yield nest


def moved(nest: Any, device: torch.device | str) -> Any:
    """The same on `device`; what has no `to` stays as it is."""
    return mapped(lambda leaf: leaf.to(device) if hasattr(leaf, "to") else leaf, nest)


def part_of(nest: Any, rows: slice) -> Any:
    """The samples of a slice; an object that has `part` is asked for them."""
    if hasattr(nest, "part"):
        return nest.part(rows)
    if isinstance(nest, tuple | list | Mapping):
        pieces = {key: part_of(value, rows) for key, value in _items(nest)}
        return _rebuilt(nest, pieces)
    return nest[rows]


def joined(pieces: Sequence[Any]) -> Any:
    """Nests of one form as one nest: the samples of the first, then those of the second, ..."""
    first = pieces[0]
    if isinstance(first, tuple | list | Mapping):
        keys = [key for key, _ in _items(first)]
        return _rebuilt(first, {key: joined([piece[key] for piece in pieces]) for key in keys})
    return torch.cat(list(pieces))


def tensors(nest: Any) -> Any:
    """The same with every array of NumPy as a tensor; DataError for a leaf that is neither."""

    def tensor(leaf: Any) -> Tensor:
        if isinstance(leaf, np.ndarray):
            return torch.from_numpy(leaf)
        if not isinstance(leaf, Tensor):
            raise DataError(
                f"samples must be tensors, or tuples and dicts of them; got {type(leaf).__name__}."
            )
        return leaf

    return mapped(tensor, nest)


def count(nest: Any) -> int:
    """The number of samples; DataError if the tensors do not agree on it."""
    counts = {len(leaf) if leaf.ndim else 0 for leaf in leaves(nest)}
    if len(counts) != 1:
        raise DataError(
            "every tensor of the samples must have as many rows as the others; got "
            f"{', '.join(map(str, sorted(counts))) or 'no tensor'}."
        )
    return counts.pop()


def shapes(nest: Any) -> Any:
    """The shape of one sample: a tuple for a tensor, the same nest of tuples otherwise."""
    return mapped(lambda leaf: tuple(leaf.shape[1:]), nest)


def _items(nest: Any) -> list[tuple[Any, Any]]:
    return list(nest.items()) if isinstance(nest, Mapping) else list(enumerate(nest))


def _rebuilt(nest: Any, pieces: Mapping[Any, Any]) -> Any:
    if isinstance(nest, Mapping):
        return dict(pieces)
    return type(nest)(*pieces.values()) if is_named_tuple(nest) else type(nest)(pieces.values())
