"""A directory that holds many cells of one grid: claimed by one process, resumed, never mixed up.

The directory says in a file of its own which grid it holds. What the file means, and how it may
grow, belongs to whoever owns the grid.
"""

import json
import os
import socket
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TextIO

import joblib

from offdiag._checks import RunError
from offdiag._files import make_folder, write_json

LOCK_FILE = ".lock"
FAILURES_FILE = "failures.json"


@contextmanager
def claimed(directory: Path, spec_file: str, grown: Callable[[], dict[str, Any]]) -> Iterator[None]:
    """Hold `directory` for one process, its spec written.

    `grown` gives the spec to write, from what the directory has (or refuses it with RunError).
    RunError if another process holds the directory, or if there are files but no spec.
    """
    make_folder(directory)
    with held(directory):
        others = sorted(path.name for path in directory.iterdir() if path.name != LOCK_FILE)
        if others and spec_file not in others:
            (directory / LOCK_FILE).unlink(missing_ok=True)
            raise RunError(
                f"{directory} holds something other than a grid ({others[0]}): "
                "choose another --out."
            )
        write_json(directory / spec_file, grown())
        yield


@contextmanager
def held(directory: Path) -> Iterator[None]:
    """Hold the directory's lock, which the system releases however this process ends.

    The lock file names the process and the host that hold it. Without `fcntl` (Windows) two
    processes at once are not noticed.
    """
    try:
        import fcntl
    except ImportError:
        yield
        return
    try:
        file = (directory / LOCK_FILE).open("a+")  # "w" would erase the name of the holder
    except OSError as error:
        raise RunError(
            f"cannot write into {directory}: {error.strerror or error}. Choose another --out."
        ) from None
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise RunError(
                f"another process{_holder(file)} is at work on {directory}: wait for it, or "
                "choose another --out."
            ) from None
        file.truncate(0)
        json.dump({"pid": os.getpid(), "host": socket.gethostname()}, file)
        file.flush()
        yield


def _holder(file: TextIO) -> str:
    """The process that a lock file names, in brackets; empty where it names none."""
    try:
        file.seek(0)
        holder = json.load(file)
        return f" ({int(holder['pid'])} on {holder['host']})"
    except (OSError, ValueError, KeyError, TypeError):  # an older version's, or being written
        return ""


def read_failures(directory: Path) -> dict[str, Any]:
    """The failed cells by name, each with its "error"; empty where none can be read.

    They are only reported: a failed cell is tried again anyway.
    """
    try:
        failures: dict[str, Any] = json.loads((directory / FAILURES_FILE).read_text())
        return {name: failure for name, failure in failures.items() if "error" in failure}
    except (OSError, ValueError, AttributeError, TypeError):
        return {}


def as_they_end(calls: Iterable[Any], *, jobs: int, **how: Any) -> Iterator[Any]:
    """What joblib's delayed `calls` return, each as it ends, `jobs` at a time.

    A backend without generators (Ray's) gives them when all are done. `how` goes to joblib.
    """
    backend, _ = joblib.parallel.get_active_backend()
    streams = getattr(backend, "supports_return_generator", False)
    return_as = "generator_unordered" if streams else "list"
    yield from joblib.Parallel(n_jobs=jobs, return_as=return_as, **how)(calls)
