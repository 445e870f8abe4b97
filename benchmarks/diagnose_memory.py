"""How much memory does `offdiag diagnose` take for embeddings larger than that?

    python benchmarks/diagnose_memory.py FOLDER [--rows 1000000] [--dim 2048] [--kind npy]

Writes embeddings of low rank plus noise into FOLDER, piece by piece (8 GB at the defaults), and
the first 4,096 rows of them into a second file; diagnoses both, each in a process of its own,
and prints the peak of resident memory (ru_maxrss) and seconds. Read the difference of the two
peaks: that is what rows cost. Files are removed at the end unless --keep is given.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np

RANK, NOISE = 200, 0.05
PIECE_ROWS = 8_192
FEW_ROWS = 4_096


def pieces(rows: int, dim: int) -> Iterator[np.ndarray]:
    """Rows of rank 200, with variances that fall as 1/j, plus noise in every direction."""
    draw = np.random.default_rng(0)
    rank = min(RANK, dim)
    basis = draw.normal(size=(rank, dim)) / np.sqrt(np.arange(1, rank + 1))[:, None]
    basis = basis.astype(np.float32)
    for first in range(0, rows, PIECE_ROWS):
        size = min(PIECE_ROWS, rows - first)
        z = draw.standard_normal((size, rank), dtype=np.float32) @ basis
        z += NOISE * draw.standard_normal((size, dim), dtype=np.float32)
        yield z


def write_npy(path: Path, rows: int, dim: int) -> None:
    with path.open("wb") as file:
        header = {"descr": "<f4", "fortran_order": False, "shape": (rows, dim)}
        np.lib.format.write_array_header_1_0(file, header)
        for piece in pieces(rows, dim):
            file.write(piece.tobytes())


def write_npz(path: Path, rows: int, dim: int) -> None:
    from zipfile import ZIP_DEFLATED, ZipFile

    plain = path.with_suffix(".npy")
    write_npy(plain, rows, dim)
    with ZipFile(path, "w", ZIP_DEFLATED, compresslevel=1) as archive:
        archive.write(plain, "z.npy")
    plain.unlink()


def write_pt(path: Path, rows: int, dim: int) -> None:
    import torch

    plain = path.with_suffix(".npy")
    write_npy(plain, rows, dim)
    torch.save(torch.from_numpy(np.load(plain, mmap_mode="r+")), path)
    plain.unlink()


def write_safetensors(path: Path, rows: int, dim: int) -> None:
    end = 4 * rows * dim
    about = {"z": {"dtype": "F32", "shape": [rows, dim], "data_offsets": [0, end]}}
    header = json.dumps(about).encode()
    with path.open("wb") as file:
        file.write(len(header).to_bytes(8, "little") + header)
        for piece in pieces(rows, dim):
            file.write(piece.tobytes())


def write_parquet(path: Path, rows: int, dim: int) -> None:
    import pyarrow as pa
    from pyarrow.parquet import ParquetWriter

    schema = pa.schema({"z": pa.list_(pa.float32(), dim)})
    with ParquetWriter(path, schema, compression="none", use_dictionary=False) as writer:
        for piece in pieces(rows, dim):
            column = pa.FixedSizeListArray.from_arrays(pa.array(piece.ravel()), dim)
            writer.write_table(pa.table({"z": column}, schema=schema), row_group_size=len(piece))


KINDS = {
    "npy": write_npy,
    "npz": write_npz,
    "pt": write_pt,
    "safetensors": write_safetensors,
    "parquet": write_parquet,
}


def measured(path: Path) -> tuple[float, float, dict]:
    """Peak resident MiB and seconds of one diagnosis, and what it printed."""
    began = time.perf_counter()
    words = [sys.executable, "-m", "offdiag", "diagnose", str(path), "--json"]
    with subprocess.Popen(words, stdout=subprocess.PIPE) as process:
        printed = process.stdout.read()
        _, ending, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(ending)
    seconds = time.perf_counter() - began
    if process.returncode not in (0, 3, 4):
        sys.exit(f"offdiag diagnose ended with {process.returncode}")
    return usage.ru_maxrss / 1024, seconds, json.loads(printed)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--dim", type=int, default=2_048)
    parser.add_argument("--kind", choices=KINDS, default="npy")
    parser.add_argument("--keep", action="store_true")
    given = parser.parse_args()
    given.folder.mkdir(parents=True, exist_ok=True)
    peaks = {}
    for rows in (min(FEW_ROWS, given.rows), given.rows):
        path = given.folder / f"embeddings-{rows}-{given.dim}.{given.kind}"
        began = time.perf_counter()
        KINDS[given.kind](path, rows, given.dim)
        wrote = time.perf_counter() - began
        size = path.stat().st_size / 2**20
        peaks[rows], seconds, found = measured(path)
        readings = found["readings"]["embeddings"]
        print(
            f"{rows:,} x {given.dim:,} {given.kind}, {size:,.0f} MiB (written in {wrote:.0f} s): "
            f"peak {peaks[rows]:,.0f} MiB, {seconds:.0f} s; {found['verdict']['kind']}, "
            f"effective rank {readings['effective_rank']:.1f}",
            flush=True,
        )
        if not given.keep:
            path.unlink()
    few, many = peaks.values() if len(peaks) == 2 else (peaks[given.rows],) * 2
    print(f"the rows beyond {FEW_ROWS:,} cost {many - few:,.0f} MiB; {os.cpu_count()} cores")


if __name__ == "__main__":
    main()
