"""Tables on disk."""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from offdiag._files import write_whole


def write_table(table: pa.Table, path: Path) -> None:
    """Write `table` to `path` as Parquet, whole or not at all."""
    content = pa.BufferOutputStream()
    pq.write_table(table, content)
    write_whole(path, content.getvalue().to_pybytes())
