"""Vectors in text files: .csv with a row for each image, .jsonl with a list or an object a line."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from offdiag._checks import DataError
from offdiag.embeddings.stored import Stored, in_memory

NAMES = ("embedding", "vector", "features", "values")
"""Under which a line of JSON may hold its vector."""


def csv_file(path: Path) -> list[Stored]:
    """The numbers of a .csv file as one array, a first line of names left out. Held as a whole."""
    lines = [line for line in _text(path).splitlines() if line.strip()]
    if lines and not _numbers(lines[0].split(",")):
        lines = lines[1:]
    rows = []
    for number, line in enumerate(lines):
        row = _numbers(line.split(","))
        if row is None:
            raise DataError(
                f"{path} must have numbers alone, separated by commas; row {number:,} is "
                f"{line[:40]!r}: drop the columns that hold anything else."
            )
        rows.append(row)
    return [_stored(path, rows)]


def jsonl_file(path: Path) -> list[Stored]:
    """The vectors of a .jsonl file as one array. Held as a whole."""
    rows = []
    for number, line in enumerate(line for line in _text(path).splitlines() if line.strip()):
        try:
            held = json.loads(line)
        except ValueError as error:
            raise DataError(
                f"{path} must hold JSON on each line; row {number:,} does not ({error})."
            ) from None
        rows.append(_vector(held, path, number))
    return [_stored(path, rows)]


def _vector(held: Any, path: Path, number: int) -> list[float]:
    if isinstance(held, dict):
        held = next((held[name] for name in NAMES if name in held), held)
    if not isinstance(held, list) or not all(isinstance(x, int | float) for x in held):
        raise DataError(
            f"{path} must hold a list of numbers on each line, or an object with one under "
            f"{', '.join(NAMES)}; row {number:,} does not."
        )
    return [float(x) for x in held]


def _stored(path: Path, rows: Sequence[Sequence[float]]) -> Stored:
    widths = {len(row) for row in rows}
    if len(widths) > 1:
        odd = next(i for i, row in enumerate(rows) if len(row) != len(rows[0]))
        raise DataError(
            f"{path} must have rows of one length; row {odd:,} has {len(rows[odd]):,} numbers, "
            f"row 0 has {len(rows[0]):,}: make them equal."
        )
    array = np.array(rows, dtype=np.float64).reshape(len(rows), widths.pop() if widths else 0)
    return in_memory(torch.from_numpy(array), path.stem)


def _numbers(cells: Sequence[str]) -> list[float] | None:
    try:
        return [float(cell) for cell in cells]
    except ValueError:
        return None


def _text(path: Path) -> str:
    try:
        return path.read_text()
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is not text ({error.reason}): write it in UTF-8.") from None
