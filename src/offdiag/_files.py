"""Files that appear whole, or not at all."""

import json
import math
import os
import tempfile
from pathlib import Path
from typing import Any

from offdiag._checks import RunError


def write_whole(path: Path, content: bytes | str) -> None:
    """Write `path` so that a reader, or a kill at any moment, sees the old file or the new one.

    The content goes to a hidden neighbour, to the disk, and then takes the name.
    RunError says what the system refused: no space, no permission, no folder.
    """
    data = content.encode() if isinstance(content, str) else content
    try:
        handle, neighbour = tempfile.mkstemp(
            dir=path.parent, prefix=f".{path.name}.", suffix=".part"
        )
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            os.chmod(neighbour, 0o666 & ~_umask())
            os.replace(neighbour, path)
        except BaseException:
            os.unlink(neighbour)
            raise
    except OSError as error:
        raise RunError(
            f"cannot write {path}: {error.strerror or error}. Free space or choose another place."
        ) from error


def write_json(path: Path, content: Any) -> None:
    """Write plain values as JSON, whole; nan and inf, which JSON lacks, become null."""
    write_whole(path, json.dumps(finite(content), indent=1, allow_nan=False) + "\n")


def finite(value: Any) -> Any:
    """The same plain values with None for every number that is not finite, tuples as lists."""
    if isinstance(value, dict):
        return {key: finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def append_line(path: Path, line: str) -> None:
    """Add one line to a file and bring it to the disk; RunError if the system refuses."""
    try:
        with path.open("a") as file:
            file.write(line + "\n")
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        raise RunError(
            f"cannot write {path}: {error.strerror or error}. Free space, then go on."
        ) from error


def make_folder(folder: Path) -> None:
    """Make `folder` and those above it; RunError if something else has the name, or on refusal."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RunError(
            f"cannot make the folder {folder}: {error.strerror or error}. Choose another place."
        ) from error


def remove_parts(directory: Path) -> None:
    """Remove what a killed `write_whole` left in `directory`."""
    for part in directory.glob(".*.part"):
        part.unlink(missing_ok=True)


def _umask() -> int:
    current = os.umask(0)
    os.umask(current)
    return current
