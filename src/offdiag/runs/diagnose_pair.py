"""Compare two runs, checkpoints or files of embeddings of the same images."""

import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch

from offdiag._checks import ConfigError, DataError
from offdiag._types import Embeddings
from offdiag.diagnostics.diagnosis import Diagnosis
from offdiag.diagnostics.pair import Pair
from offdiag.diagnostics.sample import RowSample
from offdiag.diagnostics.similarity import similarity
from offdiag.embeddings.reader import EmbeddingArray, open_embeddings, rows_for
from offdiag.results.history import CONFIG_FILE
from offdiag.runs.diagnose import Source, diagnose, is_record
from offdiag.runs.frozen import FrozenRun
from offdiag.training.checkpoint import CHECKPOINT_FILE

COMPARED_ROWS = 2_048
"""Images that are compared: neighbours take the square of them."""
PARTS = {"features": "encoder", "projection": "projector"}


def diagnose_pair(
    first: Source,
    second: Source,
    *,
    labels: Source | None = None,
    key: str | None = None,
    tokens: str | None = None,
) -> Pair:
    """Both diagnosed, and compared part by part on up to 2,048 of the images that both embed.

    Two files or arrays must have the same images in the same order. Two runs of `offdiag train`,
    or their checkpoints, embed the images of the first run. A monitor's file has readings and no
    weights: then only the readings are set side by side.
    """
    runs = [_run_directory(one) for one in (first, second)]
    if all(run is not None for run in runs):
        return _two_runs([run for run in runs if run is not None])
    sources = (first, second)
    if any(_is_record(one) for one in sources):
        found = [diagnose(one) for one in sources]
        return Pair(
            first=found[0],
            second=found[1],
            notes=(
                "Readings only: a monitor's file holds no weights, so the same images cannot be "
                "embedded by both. Give two files of embeddings to compare directions.",
            ),
        )
    found = [diagnose(one, labels=labels, key=key, tokens=tokens) for one in sources]
    opened = [open_embeddings(one, key=key, tokens=tokens) for one in sources]
    return _compared(_named_apart(found, sources), opened)


def _run_directory(source: Source) -> Path | None:
    """The directory of a run of ours that a path names, by itself or by its checkpoint."""
    if not isinstance(source, str | Path):
        return None
    path = Path(source)
    if path.name == CHECKPOINT_FILE:
        path = path.parent
    return path if (path / CONFIG_FILE).exists() and (path / CHECKPOINT_FILE).exists() else None


def _is_record(source: Source) -> bool:
    return isinstance(source, str | Path) and is_record(Path(source))


def _two_runs(directories: Sequence[Path]) -> Pair:
    networks = [FrozenRun(directory) for directory in directories]
    found = [diagnose(directory) for directory in directories]
    with tempfile.TemporaryDirectory() as folder:
        files = [Path(folder) / f"{number}.npz" for number in range(2)]
        for network, file in zip(networks, files, strict=True):
            network.embed(networks[0].config, file)
        pair = _compared(_named_apart(found, directories), [open_embeddings(f) for f in files])
    return replace(
        pair,
        similarity={PARTS.get(part, part): one for part, one in pair.similarity.items()},
        notes=(*pair.notes, f"Both embed the images of {directories[0]}."),
    )


def _named_apart(found: Sequence[Diagnosis], sources: Sequence[Source]) -> list[Diagnosis]:
    """Under names that differ: the whole path where the last part of it is the same."""
    if found[0].name != found[1].name:
        return list(found)
    names = [
        str(one) if isinstance(one, str | Path) else f"{found[0].name} {number}"
        for number, one in enumerate(sources, 1)
    ]
    if names[0] == names[1]:
        raise ConfigError(f"both are {names[0]}: give two runs or files that differ.")
    return [replace(one, name=name) for one, name in zip(found, names, strict=True)]


def _compared(found: Sequence[Diagnosis], arrays: Sequence[Sequence[EmbeddingArray]]) -> Pair:
    if len(arrays[0]) == len(arrays[1]) == 1:
        matched = {"embeddings": (arrays[0][0], arrays[1][0])}
    else:
        theirs = {array.name: array for array in arrays[1]}
        matched = {
            array.name: (array, theirs[array.name]) for array in arrays[0] if array.name in theirs
        }
    if not matched:
        names = [", ".join(array.name for array in some) for some in arrays]
        raise DataError(
            f"nothing to compare: the first has {names[0]}, the second {names[1]}. Choose one "
            "array with --key."
        )
    return Pair(
        first=found[0],
        second=found[1],
        similarity={
            part: similarity(*_same_rows(first, second))
            for part, (first, second) in matched.items()
        },
    )


def _same_rows(first: EmbeddingArray, second: EmbeddingArray) -> tuple[Embeddings, Embeddings]:
    """Up to 2,048 images, drawn with a fixed seed, as both embed them."""
    if first.rows != second.rows:
        raise DataError(
            "two embeddings are compared row by row, so they need the same images in the same "
            f"order; {first.where} has {first.rows:,} rows, {second.where} has {second.rows:,}."
        )
    sample = RowSample(COMPARED_ROWS)
    rows = rows_for(max(first.dim, second.dim))
    for piece_a, piece_b in zip(first.chunks(rows), second.chunks(rows), strict=True):
        sample.update(piece_a, piece_b)
    a, b = sample.rows
    return a.to(torch.float64), b.to(torch.float64)
