"""Labels that belong to rows of embeddings: shown beside a diagnosis, never part of it."""

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from offdiag._checks import DataError
from offdiag._types import Labels
from offdiag.embeddings.reader import READERS, arrays_of
from offdiag.embeddings.stored import Stored, in_memory, told_shape

NAMES = ("labels", "label", "targets", "target", "y")
LINES = (".txt", ".csv")


def open_labels(source: Path | str | Tensor | np.ndarray, *, rows: int) -> Labels:
    """One class for each of `rows` embeddings, numbered from 0 in the order of their names.

    From an array in memory, a file of any kind that embeddings may have (its array of
    one axis, or the one called "labels"), or a text file with one class a line.
    """
    if isinstance(source, Tensor | np.ndarray):
        return _numbered(in_memory(source, "labels"), "the labels", rows)
    path = Path(source)
    if path.suffix.lower() in LINES:
        return _lines(path, rows)
    if path.suffix.lower() not in READERS:
        raise DataError(
            f"cannot tell what {path} is: labels end in {', '.join([*READERS, *LINES])}. Rename "
            "or convert it."
        )
    arrays = arrays_of(path)
    flat = [array for array in arrays if len(array.shape) == 1]
    named = [array for name in NAMES for array in flat if array.name == name]
    if not named and len(flat) != 1 and len(arrays) > 1:
        raise DataError(
            f"{path} has {len(flat)} arrays of one axis and none is called labels: give a file "
            "with the labels alone."
        )
    chosen = (named or flat or arrays)[0]
    return _numbered(chosen, f"{path}", rows)


def _numbered(array: Stored, where: str, rows: int) -> Labels:
    if len(array.shape) != 1:
        raise DataError(
            f"{where} must have one axis, a class for each row; got {told_shape(array.shape)}."
        )
    _count(array.shape[0], where, rows)
    if array.dtype.startswith(("float", "bfloat", "complex")):
        raise DataError(
            f"{where} must have whole numbers, a class for each row; got {array.dtype}: convert "
            "them to int64."
        )
    return torch.unique(array.whole(), return_inverse=True)[1]


def _lines(path: Path, rows: int) -> Labels:
    try:
        lines = path.read_text().splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"cannot read {path}: {error}.") from None
    names = [line.strip() for line in lines if line.strip()]
    _count(len(names), str(path), rows)
    return torch.from_numpy(np.unique(np.array(names), return_inverse=True)[1])


def _count(found: int, where: str, rows: int) -> None:
    if found != rows:
        raise DataError(
            f"{where} must have a label for each of the {rows:,} embeddings; got {found:,}."
        )
