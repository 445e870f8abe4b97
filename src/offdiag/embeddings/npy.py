"""Arrays in .npy and .npz files, read piece by piece without loading the file.

By plain reads, not by a memory map: mapped pages count as the process's memory until the
system takes them back, and a file that shrinks under a map ends the process.
"""

import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, runtime_checkable
from zipfile import BadZipFile, ZipFile

import numpy as np
from numpy.lib import format as npy_format
from torch import Tensor

from offdiag._checks import DataError
from offdiag.embeddings.stored import (
    Stored,
    as_tensor,
    bytes_of,
    cut_short,
    refuse_objects,
    told_shape,
    unreadable,
)

WHOLE_BYTES = 2**30
"""Largest array that is unpacked as a whole where it cannot be read row by row."""
SUFFIX = ".npy"


@runtime_checkable
class _Bytes(Protocol):
    """A file, or a member of an archive."""

    def read(self, size: int = -1, /) -> bytes: ...
    def seek(self, offset: int, whence: int = 0, /) -> int: ...
    def tell(self) -> int: ...


@dataclass(frozen=True, kw_only=True)
class _Header:
    shape: tuple[int, ...]
    fortran: bool
    dtype: np.dtype
    start: int
    """Where the numbers begin."""


def npy_file(path: Path) -> list[Stored]:
    """The array of an .npy file."""
    with path.open("rb") as file:
        header = _header(file, str(path))
    found = path.stat().st_size - header.start
    promised = bytes_of(header.shape, header.dtype)
    if found < promised:
        raise cut_short(path, promised, found)

    def pieces(rows: int) -> Iterator[Tensor]:
        with path.open("rb") as file:
            if header.fortran and len(header.shape) > 1:
                yield from _by_columns(file, header, rows, path)
            else:
                file.seek(header.start)
                yield from _by_rows(file, header, rows, path)

    return [_stored(path.stem, header, pieces)]


def npz_file(path: Path) -> list[Stored]:
    """The arrays of an .npz file, packed or not."""
    try:
        with ZipFile(path) as archive:
            members = [info for info in archive.infolist() if info.filename.endswith(SUFFIX)]
            arrays = []
            for info in members:
                where = f"{path}, array {info.filename.removesuffix(SUFFIX)!r}"
                with archive.open(info) as file:
                    if _holds_objects(file, where):
                        continue
                with archive.open(info) as file:
                    header = _header(file, where)
                promised = bytes_of(header.shape, header.dtype)
                if info.file_size - header.start < promised:
                    raise cut_short(where, promised, info.file_size - header.start)
                arrays.append(_member(path, info.filename, header))
    except (BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError) as error:
        raise unreadable(path, "an .npz archive", error) from None
    if not members:
        raise DataError(f"{path} is an archive without arrays: np.savez writes those.")
    if not arrays:
        refuse_objects(np.dtype(object), str(path))
    return arrays


def _member(path: Path, filename: str, header: _Header) -> Stored:
    where = f"{path}, array {filename.removesuffix(SUFFIX)!r}"

    def pieces(rows: int) -> Iterator[Tensor]:
        try:
            with ZipFile(path) as archive, archive.open(filename) as file:
                file.read(header.start)
                if header.fortran and len(header.shape) > 1:
                    yield from _unpacked(file, header, rows, where)
                else:
                    yield from _by_rows(file, header, rows, where)
        except (BadZipFile, zlib.error, EOFError, OSError) as error:
            raise unreadable(where, "an .npz archive", error) from None

    return _stored(filename.removesuffix(SUFFIX), header, pieces)


def _stored(name: str, header: _Header, pieces: object) -> Stored:
    return Stored(
        name=name,
        shape=header.shape,
        dtype=header.dtype.name,
        pieces=pieces,  # type: ignore[arg-type]
    )


def _header(file: _Bytes, where: str) -> _Header:
    try:
        version = npy_format.read_magic(file)
        read = {
            (1, 0): npy_format.read_array_header_1_0,
            (2, 0): npy_format.read_array_header_2_0,
        }.get(version)
        if read is None:
            raise ValueError(f"version {version[0]}.{version[1]} of the format")
        shape, fortran, dtype = read(file)
    except (ValueError, EOFError, SyntaxError) as error:
        raise unreadable(where, "an .npy array", error) from None
    refuse_objects(dtype, where)
    if any(size < 0 for size in shape):
        raise unreadable(where, "an .npy array", ValueError(f"shape {shape}"))
    return _Header(shape=shape, fortran=fortran, dtype=dtype, start=file.tell())


def _holds_objects(file: _Bytes, where: str) -> bool:
    """Whether a member is pickled: it is left alone, and the arrays beside it can be used."""
    try:
        _header(file, where)
    except DataError as refusal:
        if "pickled" in str(refusal):
            return True
        raise
    return False


def _by_rows(file: _Bytes, header: _Header, rows: int, where: Path | str) -> Iterator[Tensor]:
    """Rows that lie one after the other."""
    count, inner = header.shape[0], header.shape[1:]
    row_bytes = bytes_of(inner, header.dtype)
    for first in range(0, count, rows):
        size = min(rows, count - first)
        data = _exactly(file, size * row_bytes, where)
        yield as_tensor(np.frombuffer(data, dtype=header.dtype).reshape(size, *inner))


def _by_columns(file: _Bytes, header: _Header, rows: int, where: Path | str) -> Iterator[Tensor]:
    """Rows of an array that lies column after column: a seek for each column of each piece."""
    count, inner = header.shape[0], header.shape[1:]
    width = int(np.prod(inner))
    item = header.dtype.itemsize
    for first in range(0, count, rows):
        size = min(rows, count - first)
        columns = np.empty((width, size), dtype=header.dtype)
        for column in range(width):
            file.seek(header.start + (column * count + first) * item)
            columns[column] = np.frombuffer(_exactly(file, size * item, where), header.dtype)
        yield as_tensor(columns.T.reshape((size, *inner), order="F"))


def _unpacked(file: _Bytes, header: _Header, rows: int, where: Path | str) -> Iterator[Tensor]:
    size = bytes_of(header.shape, header.dtype)
    if size > WHOLE_BYTES:
        raise DataError(
            f"{where} has {told_shape(header.shape)} numbers column by column (Fortran order), "
            "which cannot be unpacked row by row: save np.ascontiguousarray of it, or an .npy file."
        )
    flat = np.frombuffer(_exactly(file, size, where), dtype=header.dtype)
    array = flat.reshape(header.shape, order="F")
    for first in range(0, len(array), rows):
        yield as_tensor(array[first : first + rows])


def _exactly(file: _Bytes, size: int, where: Path | str) -> bytes:
    data = file.read(size)
    if len(data) < size:
        raise cut_short(where, size, len(data))
    return data
