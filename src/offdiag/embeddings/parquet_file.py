"""Columns of .parquet files: lists of numbers, or one number to a column."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from offdiag._checks import DataError
from offdiag.embeddings.stored import FLOATS, Stored, as_tensor, unreadable

KIND = "a .parquet file"
COLUMNS = "columns"
"""The name of the array that the floating-point columns make together."""
BUFFER_BYTES = 2**20


def parquet_file(path: Path) -> list[Stored]:
    """Each column of lists as an array, each other column as a row of numbers.

    If there are no lists of numbers, the floating-point columns, in the order of the
    file, make one array named "columns". Read in batches, whatever the row groups.
    """
    import pyarrow as pa

    try:
        with _opened(path) as file:
            schema, rows = file.schema_arrow, file.metadata.num_rows
            lists = [field.name for field in schema if _is_list(field.type)]
            widths = {name: _width(file, schema, name, path) for name in lists}
    except (pa.ArrowException, OSError) as error:
        raise unreadable(path, KIND, error) from None
    arrays = [
        _of_lists(path, name, (rows, widths[name]), str(_numpy_type(schema.field(name).type)))
        for name in lists
    ]
    single = [field for field in schema if _numpy_type(field.type) and not _is_list(field.type)]
    floats = [field.name for field in single if str(_numpy_type(field.type)) in FLOATS]
    if not any(array.dtype in FLOATS for array in arrays) and len(floats) > 1:
        types = {np.dtype(str(_numpy_type(schema.field(name).type))) for name in floats}
        arrays.append(_of_columns(path, floats, rows, str(np.result_type(*types))))
    arrays += [_of_column(path, f.name, rows, str(_numpy_type(f.type))) for f in single]
    if not arrays:
        raise DataError(
            f"{path} has no column of numbers (its columns: {', '.join(schema.names) or 'none'}): "
            "write the embeddings as one column of lists of float32."
        )
    return arrays


def _of_lists(path: Path, name: str, shape: tuple[int, int], dtype: str) -> Stored:
    def pieces(rows: int) -> Iterator[Tensor]:
        first = 0
        for batch in _batches(path, [name], rows):
            column = batch.column(0)
            values = _values(column, shape[1], first, f"{path}, column {name!r}")
            yield as_tensor(values.reshape(len(column), shape[1]))
            first += len(column)

    return Stored(name=name, shape=shape, dtype=dtype, pieces=pieces)


def _of_columns(path: Path, names: list[str], rows: int, dtype: str) -> Stored:
    def pieces(rows: int) -> Iterator[Tensor]:
        for batch in _batches(path, names, rows):
            columns = [_plain(batch.column(name), f"{path}, column {name!r}") for name in names]
            yield as_tensor(np.stack(columns, axis=1).astype(dtype, copy=False))

    return Stored(name=COLUMNS, shape=(rows, len(names)), dtype=dtype, pieces=pieces)


def _of_column(path: Path, name: str, rows: int, dtype: str) -> Stored:
    def pieces(rows: int) -> Iterator[Tensor]:
        for batch in _batches(path, [name], rows):
            yield as_tensor(_plain(batch.column(0), f"{path}, column {name!r}"))

    return Stored(name=name, shape=(rows,), dtype=dtype, pieces=pieces)


def _opened(path: Path) -> Any:
    from pyarrow.parquet import ParquetFile

    # A buffered stream and no prefetching: otherwise a row group is read as a whole.
    return ParquetFile(path, memory_map=False, buffer_size=BUFFER_BYTES, pre_buffer=False)


def _batches(path: Path, columns: list[str], rows: int) -> Iterator[Any]:
    import pyarrow as pa

    try:
        with _opened(path) as file:
            for batch in file.iter_batches(batch_size=rows, columns=columns, use_threads=False):
                if batch.num_rows:
                    yield batch
    except (pa.ArrowException, OSError) as error:
        raise unreadable(path, KIND, error) from None


def _is_list(kind: Any) -> bool:
    import pyarrow.types as types

    listed = types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind)
    return bool(listed) and _numpy_type(kind) is not None


def _numpy_type(kind: Any) -> np.dtype | None:
    """numpy's type for the numbers of a column or of its lists; None for anything else."""
    import pyarrow.types as types

    if types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind):
        kind = kind.value_type
    if not (types.is_floating(kind) or types.is_integer(kind)):
        return None
    return np.dtype(kind.to_pandas_dtype())


def _width(file: Any, schema: Any, name: str, path: Path) -> int:
    kind = schema.field(name).type
    if hasattr(kind, "list_size"):
        return int(kind.list_size)
    for batch in file.iter_batches(batch_size=1, columns=[name], use_threads=False):
        first = batch.column(0)[0]
        if not first.is_valid:
            raise DataError(
                f"{path}, column {name!r} has no list in row 0: drop or fill such rows."
            )
        return len(first)
    return 0


def _values(column: Any, width: int, first: int, where: str) -> np.ndarray:
    import pyarrow as pa
    import pyarrow.compute as compute

    if column.null_count:
        raise DataError(
            f"{where} has {column.null_count:,} rows without a list among rows {first:,} to "
            f"{first + len(column) - 1:,}: drop or fill them."
        )
    if not pa.types.is_fixed_size_list(column.type):
        lengths = compute.list_value_length(column).to_numpy(zero_copy_only=False)
        wrong = np.flatnonzero(lengths != width)
        if len(wrong):
            raise DataError(
                f"{where} must have lists of one length; row {first + wrong[0]:,} has "
                f"{lengths[wrong[0]]:,} numbers, row 0 has {width:,}: make them equal."
            )
    return _plain(column.flatten(), where)


def _plain(column: Any, where: str) -> np.ndarray:
    if column.null_count:
        raise DataError(f"{where} has {column.null_count:,} empty values: drop or fill those rows.")
    numbers: np.ndarray = column.to_numpy(zero_copy_only=False)
    return numbers
