"""Files that appear whole, or not at all."""

import os
import tempfile
from pathlib import Path

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


def remove_parts(directory: Path) -> None:
    """Remove what a killed `write_whole` left in `directory`."""
    for part in directory.glob(".*.part"):
        part.unlink(missing_ok=True)


def _umask() -> int:
    current = os.umask(0)
    os.umask(current)
    return current
