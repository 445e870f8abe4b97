"""Open embeddings: find the array, refuse what cannot be used, and read it in pieces.

Memory is bounded by a few pieces, whatever the size of the file (`docs` name the one
exception: packed arrays in Fortran order, at most 1 GiB).
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from offdiag._checks import ConfigError, DataError
from offdiag.embeddings.npy import npy_file, npz_file
from offdiag.embeddings.parquet_file import parquet_file
from offdiag.embeddings.safetensors_file import safetensors_file
from offdiag.embeddings.stored import FLOATS, Stored, in_memory, told_shape
from offdiag.embeddings.text_file import csv_file, jsonl_file
from offdiag.embeddings.torch_file import torch_file

READERS: Mapping[str, Callable[[Path], list[Stored]]] = MappingProxyType(
    {
        ".npy": npy_file,
        ".npz": npz_file,
        ".pt": torch_file,
        ".pth": torch_file,
        ".safetensors": safetensors_file,
        ".parquet": parquet_file,
        ".csv": csv_file,
        ".jsonl": jsonl_file,
    }
)
OURS = ("features", "projection")
"""The arrays that `offdiag embed` writes: without a key, both are read."""
TOKENS = ("mean", "flatten")
LISTED = 8
FIRST_BAD = 5


@dataclass(frozen=True, kw_only=True)
class EmbeddingArray:
    """Rows of embeddings that are read in pieces, from a file or from memory.

    `name` is the array's name in its file, `where` says where it is, in words; `dtype` is
    the type it is stored in. `tokens` is how many rows in a row are tokens of one image; 1
    where a row is an image.
    """

    name: str
    where: str
    rows: int
    dim: int
    dtype: str
    pieces: Callable[[int], Iterator[Tensor]]
    tokens: int = 1

    def chunks(self, rows: int) -> Iterator[Float[Tensor, "rows dim"]]:
        """From the first row to the last, `rows` at a time; float64 stays, all else is float32.

        A number that is not finite ends the stream: what follows is only counted, and a
        DataError says how many there are and in which rows.
        """
        bad_values, infinite, bad_rows, first = 0, 0, 0, 0
        first_bad: list[int] = []
        for piece in _sized(self.pieces(rows), rows):
            finite = piece.isfinite()
            if not finite.all():
                wrong = (~finite).any(1).nonzero()[:, 0]
                bad_values += int((~finite).sum())
                infinite += int(piece.isinf().sum())
                bad_rows += len(wrong)
                first_bad += [first + row for row in wrong[: FIRST_BAD - len(first_bad)].tolist()]
            elif not bad_values:
                yield piece if piece.dtype == torch.float64 else piece.float()
            first += len(piece)
        if bad_values:
            raise DataError(self._not_finite(bad_values, infinite, bad_rows, first_bad))
        if first != self.rows:
            raise DataError(
                f"{self.where} promises {self.rows:,} rows and has {first:,}: write it again."
            )

    def _not_finite(self, values: int, infinite: int, rows: int, first: list[int]) -> str:
        named = ", ".join(f"{row:,}" for row in first) + (", ..." if rows > len(first) else "")
        kinds = " and ".join(
            f"{count:,} {word}"
            for count, word in ((values - infinite, "nan"), (infinite, "inf"))
            if count
        )
        advice = "embed those images again, or drop the rows"
        if infinite and self.dtype == "float16":
            advice = "float16 ends at 65,504, so save them as float32, or drop the rows"
        return (
            f"{self.where} must have finite numbers; it has {kinds} in {rows:,} of {self.rows:,} "
            f"rows (row{'s' if rows > 1 else ''} {named}, counted from 0): {advice}."
        )


def open_embeddings(
    source: Path | str | Tensor | np.ndarray,
    *,
    key: str | None = None,
    tokens: str | None = None,
    name: str = "embeddings",
) -> list[EmbeddingArray]:
    """The arrays of embeddings in a file, or an array in memory, checked for shape and type.

    One array, or the two that `offdiag embed` writes (features and projection); `key`
    chooses among several. `tokens` says what becomes of (images, tokens, width): the mean
    over the tokens of each image, or every token as a row of its own.
    """
    if tokens is not None and tokens not in TOKENS:
        raise ConfigError(f"unknown tokens {tokens!r}: choose one of {', '.join(TOKENS)}.")
    if isinstance(source, Tensor | np.ndarray):
        if key is not None:
            raise ConfigError(
                f"a key chooses among the arrays of a file; got {key!r} and an array."
            )
        return [_checked(in_memory(source, name), name, tokens)]
    path = Path(source)
    chosen = _chosen(arrays_of(path), key, path)
    many = len(chosen) > 1 or key is not None or path.suffix.lower() not in (".npy", ".pt", ".pth")
    return [
        _checked(array, f"{path}, array {array.name!r}" if many else str(path), tokens)
        for array in chosen
    ]


def arrays_of(path: Path) -> list[Stored]:
    """Every array of a file, by the suffix of its name; DataError says what cannot be read."""
    read = READERS.get(path.suffix.lower())
    if read is None:
        raise DataError(
            f"cannot tell what {path} is: embeddings end in {', '.join(READERS)}. Rename or "
            "convert it."
        )
    try:
        if path.is_dir():
            raise DataError(f"{path} is a folder: give the file of embeddings in it.")
        if path.stat().st_size == 0:
            raise DataError(f"{path} is empty: write or copy the file again.")
        return read(path)
    except FileNotFoundError:
        raise DataError(f"{path} does not exist: check the name.") from None
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror or error}.") from None


def _chosen(arrays: Sequence[Stored], key: str | None, path: Path) -> list[Stored]:
    by_name = {array.name: array for array in arrays}
    if key is not None:
        if key not in by_name:
            raise ConfigError(f"{path} has no array {key!r}: it has {_listed(arrays)}.")
        return [by_name[key]]
    if all(name in by_name for name in OURS):
        return [by_name[name] for name in OURS]
    candidates = [a for a in arrays if len(a.shape) >= 2 and a.dtype in FLOATS]
    if len(candidates) == 1:
        return candidates
    if len(arrays) == 1:
        return list(arrays)  # to be refused for what is wrong with it
    if not candidates:
        raise DataError(
            f"{path} has no array of embeddings, (images x width) of floating-point numbers: it "
            f"has {_listed(arrays)}."
        )
    raise ConfigError(
        f"{path} has several arrays that may be embeddings: choose one with --key (key=...) of "
        f"{_listed(candidates)}."
    )


def _listed(arrays: Sequence[Stored]) -> str:
    told = [array.told for array in arrays[:LISTED]]
    more = len(arrays) - LISTED
    return "; ".join(told) + (f"; and {more:,} more" if more > 0 else "") or "no array"


def _checked(array: Stored, where: str, tokens: str | None) -> EmbeddingArray:
    if array.dtype not in FLOATS:
        raise DataError(_wrong_type(array, where))
    flattened = 1
    if len(array.shape) == 3 and tokens is not None and 0 not in array.shape:
        flattened = array.shape[1] if tokens == "flatten" else 1
        array = _tokens(array, tokens)
    elif len(array.shape) != 2:
        raise DataError(_wrong_shape(array, where))
    rows, dim = array.shape
    if not rows or not dim:
        raise DataError(f"{where} is empty, {told_shape(array.shape)}: give at least two rows.")
    if rows == 1:
        raise DataError(
            f"{where} has one row, and one embedding has no spread: give at least two, better "
            "some thousands."
        )
    return EmbeddingArray(
        name=array.name,
        where=where,
        rows=rows,
        dim=dim,
        dtype=array.dtype,
        pieces=array.pieces,
        tokens=flattened,
    )


def _wrong_type(array: Stored, where: str) -> str:
    integer = array.dtype.lower().lstrip("u").startswith(("int", "i8", "i16", "i32", "i64", "8"))
    advice = "save them as float32"
    if integer or array.dtype.lower() in ("u8", "u16", "u32", "u64"):
        advice = (
            "if they are quantised, multiply by the scale (and subtract the zero point) and save "
            "them as float32; if these are labels, give them with --labels"
        )
    elif array.dtype.startswith(("complex", "C")):
        advice = "save real and imaginary parts side by side as float32"
    return f"{where} must have floating-point numbers; got {array.dtype}: {advice}."


def _wrong_shape(array: Stored, where: str) -> str:
    got = told_shape(array.shape)
    asked = f"{where} must be (images x width); got {got}"
    if len(array.shape) == 3:
        return (
            f"{asked}: for tokens (images x tokens x width) say --tokens mean, one row for each "
            "image, or --tokens flatten, one for each token."
        )
    if len(array.shape) == 4:
        return f"{asked}: average over the two axes of the picture first, as in z.mean((2, 3))."
    if len(array.shape) < 2:
        return f"{asked}: give one row for each image, as in z.reshape(images, width)."
    return f"{asked}: reshape it to one row for each image."


def _tokens(array: Stored, how: str) -> Stored:
    images, tokens, width = array.shape

    def pieces(rows: int) -> Iterator[Tensor]:
        for piece in array.pieces(max(rows // tokens, 1)):
            if how == "flatten":
                yield from piece.reshape(-1, width).tensor_split(
                    tuple(range(rows, len(piece) * tokens, rows))
                )
            else:
                # Half precision would round the mean; its sum may even overflow.
                yield piece.mean(1, dtype=torch.promote_types(piece.dtype, torch.float32))

    rows = images if how == "mean" else images * tokens
    return Stored(name=array.name, shape=(rows, width), dtype=array.dtype, pieces=pieces)


def _sized(pieces: Iterator[Tensor], rows: int) -> Iterator[Tensor]:
    """The same rows in pieces of exactly `rows`, but for the last: two views must keep step."""
    held: list[Tensor] = []
    count = 0
    for piece in pieces:
        held.append(piece)
        count += len(piece)
        while count >= rows:
            joined = held[0] if len(held) == 1 else torch.cat(held)
            yield joined[:rows]
            held = [joined[rows:]] if count > rows else []
            count -= rows
    if count:
        yield torch.cat(held)


def rows_for(dim: int, *, bytes_at_once: int = 32 * 2**20) -> int:
    """How many rows of float32 fill `bytes_at_once`, at least 1."""
    return max(bytes_at_once // (4 * dim), 1)
