"""A monitor's file while a run goes on: one writer, nothing erased, and a disk that may fill."""

import warnings
import weakref
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from offdiag._checks import RunError
from offdiag.results.observation import (
    Check,
    MonitorRecord,
    Note,
    Observation,
    append_observation,
    start_file,
)
from offdiag.results.readings import Readings

_WRITERS: weakref.WeakValueDictionary[str, "RecordFile"] = weakref.WeakValueDictionary()
"""Who writes a file in this process: a re-run notebook cell builds a second monitor for it."""


class RecordFile:
    """Appends to `path` what a monitor sees; a disk that refuses ends the file, with a warning.

    A record that is there already is kept: of a resumed run it is continued up to `first_step`,
    any other moves to the first free name such as monitor-1.jsonl. Another writer of this process
    is closed by calling its `on_taken`.
    """

    def __init__(self, path: Path, *, first_step: int, on_taken: Callable[[], None]) -> None:
        self.path: Path | None = path
        self._first_step, self._on_taken = first_step, on_taken
        self._size: int | None = None
        self._waiting: list[Observation | Check | Note] = []
        key = str(path.resolve())
        if (other := _WRITERS.get(key)) is not None and other.path is not None:
            other.path = None
            other._on_taken()
            warnings.warn(
                f"another monitor of this process wrote {path}: it is removed, and this one goes "
                "on. Call remove() on a monitor before building the next.",
                stacklevel=3,
            )
        _WRITERS[key] = self

    @property
    def started(self) -> bool:
        return self._size is not None

    def before(self) -> MonitorRecord | None:
        """What the run that is resumed had written before `first_step`, if anything."""
        if self.path is None or not self._first_step or not self.path.exists():
            return None
        return MonitorRecord.load(self.path)

    def start(self, *, name: str, noise: Mapping[str, Readings], about: Mapping[str, Any]) -> None:
        """Write the header, with what came before `first_step`, and what waited for it."""
        if self.path is None:
            return
        try:
            earlier = self.before()
            if earlier is None and self.path.exists():
                kept = _free_name(self.path)
                self.path.rename(kept)
                warnings.warn(
                    f"{self.path} held another run's record: it is now {kept}.", stacklevel=4
                )
            start_file(self.path, name=name, noise=noise, about=about)
            rows: list[Observation | Check | Note] = []
            if earlier is not None:
                rows += [row for row in earlier.checks if row.step < self._first_step]
                rows += [row for row in earlier.notes if row.step < self._first_step]
                rows += [row for row in earlier.history if row.step < self._first_step]
            for row in (*rows, *self._waiting):
                append_observation(self.path, row)
            self._waiting = []
            self._size = self.path.stat().st_size
        except (RunError, OSError) as error:
            self._end(str(error))

    def append(self, row: Observation | Check | Note) -> None:
        """Add a line; before the header is written, keep it."""
        if self.path is None:
            return
        if not self.started:
            self._waiting.append(row)
            return
        try:
            if self.path.stat().st_size != self._size:
                raise RunError(
                    f"{self.path} was changed by another program: two runs need two files."
                )
            append_observation(self.path, row)
            self._size = self.path.stat().st_size
        except (RunError, OSError) as error:
            self._end(str(error))

    def close(self) -> None:
        """Let another monitor have the file."""
        self.path = None

    def _end(self, reason: str) -> None:
        self.path = None
        warnings.warn(f"the monitor stops writing: {reason}", stacklevel=5)


def _free_name(path: Path) -> Path:
    number = 1
    while (free := path.with_name(f"{path.stem}-{number}{path.suffix}")).exists():
        number += 1
    return free
