"""A grid of runs in one directory: many processes, resumable, and one table of how all ended."""

import json
import os
import traceback
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import BrokenExecutor
from contextlib import closing, contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import joblib
import pyarrow as pa
import torch

from offdiag import _grid_directory
from offdiag._checks import ConfigError, OffdiagError, RunError, at_least
from offdiag._files import write_json
from offdiag._grid_directory import FAILURES_FILE, as_they_end, read_failures
from offdiag._tables import write_table
from offdiag.data.from_file import data_of_file
from offdiag.results.comparison import READINGS, Cell, Combination, Comparison, Ending, Status
from offdiag.results.history import CONFIG_FILE, RunRecord, read_config
from offdiag.runs.build import pick_device
from offdiag.runs.config import AUTO, METHOD_PARTS, RunConfig, is_own_file
from offdiag.runs.device import resolved
from offdiag.runs.grid import SEED, CellSpec, Grid, applied
from offdiag.runs.train import Watcher, resume, train
from offdiag.training.checkpoint import load_checkpoint
from offdiag.training.heap import keep_freed_memory

TABLE_FILE = "table.parquet"
GRID_FILE = "grid.json"
CELLS = "cells"

__all__ = ["Grid", "claimed", "compare", "is_finished", "read_comparison"]

INDIFFERENT = ("download", "workers", "checkpoint_seconds")
"""Settings that change no number of a run, so that they may differ when a grid goes on."""

Ended = tuple[str, dict[str, str] | None]
"""The name of a cell, and the sentence (and traceback) of its failure if it failed."""


def compare(
    grid: Grid,
    out: Path,
    *,
    jobs: int | None = None,
    threads: int = 1,
    on_cell: Callable[[Cell], None] = lambda cell: None,
) -> Comparison:
    """Run every cell of `grid` that `out` does not hold finished, and write the table.

    Each cell is an ordinary run in `out`/cells. One that was cut short goes on from its
    checkpoint; one that failed is tried again; the others are left alone. A directory that
    began with other settings is refused, but a grid may grow: what comes back is all that
    `out` holds. A cell that fails does not stop the others: it comes back as such, with its
    sentence. `on_cell` hears of each cell as it ends.

    `jobs` processes run at a time (-1: as many as there are cores; None: the same, but one on
    an accelerator), each with `threads` threads: numbers depend on the threads in their last
    digits, not on `jobs`. They are joblib's: inside
    `joblib.parallel_config(backend="dask")` they run on that cluster, which needs to see `out`
    under the same path. RunError if the workers themselves are lost.
    """
    at_least("threads", threads, 1)
    if jobs is not None and (jobs == 0 or jobs < -1):
        raise ConfigError(f"jobs must be -1, for all cores, or at least 1; got {jobs}.")
    # As the grid's file names it, and as it did before precision could be auto.
    grid = replace(grid, base=resolved(grid.base, pick_device(grid.base.device)))
    specs = grid.cells()
    configs = {name: spec.config for name, spec in specs.items()}
    with claimed(grid, out):
        todo = {name: c for name, c in configs.items() if not is_finished(out / CELLS / name)}
        failures = read_failures(out)
        with closing(_lived_through(_work(todo, out, jobs, threads), out, set(configs))) as ended:
            for name, failure in ended:
                failures.pop(name, None)
                if failure is not None:
                    failures[name] = failure
                write_json(out / FAILURES_FILE, failures)
                on_cell(_read_cell(out, name, specs[name], failures))
        comparison = read_comparison(out)
        _write_table(comparison, out / TABLE_FILE)
    return comparison


def read_comparison(out: Path) -> Comparison:
    """All that a grid directory holds, finished or not; RunError if it is none."""
    spec, failures = _read_spec(out), read_failures(out)
    cells = tuple(
        _read_cell(out, cell["name"], _cell_spec(spec["base"], cell), failures)
        for cell in spec["cells"]
    )
    return Comparison(name=out.name, cells=cells)


def is_finished(directory: Path) -> bool:
    """Whether a run has been trained to its end and, if there are labels, evaluated."""
    try:
        record = RunRecord.load(directory)
        about = record.circumstances
        if about["data"]["test_images"]:
            return record.evaluation is not None
        # The last row is written before the last checkpoint, and a kill may come in between.
        return bool(load_checkpoint(directory)["progress"]["step"] >= about["steps"])
    except RunError:
        return False


@contextmanager
def claimed(grid: Grid, out: Path) -> Iterator[None]:
    """Make `out` this grid's, for one process at a time; RunError if it is another grid's."""

    def grown() -> dict[str, Any]:
        specs = grid.cells()
        cells = [{"name": name, "values": dict(spec.values)} for name, spec in specs.items()]
        axes = list(dict.fromkeys((*(axis for row in grid.rows for axis in row), *grid.varied)))
        if (out / GRID_FILE).exists():
            spec = _read_spec(out)
            axes = list(dict.fromkeys((*_axes_of(spec), *axes)))
            _refuse_other_base(spec["base"], grid.base, axes, out)
            known = [cell["name"] for cell in spec["cells"]]
            cells = [*spec["cells"], *(cell for cell in cells if cell["name"] not in known)]
        return {"base": _base(grid.base, axes), "axes": axes, "cells": cells}

    with _grid_directory.claimed(out, GRID_FILE, grown):
        yield


def _work(
    todo: Mapping[str, RunConfig], out: Path, jobs: int | None, threads: int
) -> Iterator[Ended]:
    if not todo:
        return
    if jobs is None:
        devices = {pick_device(config.device).type for config in todo.values()}
        jobs = -1 if devices == {"cpu"} else 1
    yield from as_they_end(
        (
            joblib.delayed(_run_cell)(name, config, out / CELLS / name, threads, os.getpid())
            for name, config in todo.items()
        ),
        jobs=min(joblib.effective_n_jobs(jobs), len(todo)),
    )


def _lived_through(
    work: Iterable[Ended], out: Path, names: set[str]
) -> Generator[Ended, None, None]:
    """What the workers return. A cell never raises, so what comes out of them is their own end."""
    try:
        yield from work
    except Exception as error:
        finished = sum(is_finished(out / CELLS / name) for name in names)
        why = "by a kill or for want of memory"
        if not isinstance(error, BrokenExecutor):  # a cluster's own reason
            why = f"{type(error).__name__}: {error}".splitlines()[0]
        raise RunError(
            f"a worker process was lost ({why}); {finished} of {len(names)} runs in {out} are "
            "finished and the others keep their last checkpoint: give the same command again to "
            "go on, with fewer jobs if memory was short."
        ) from error


def _run_cell(name: str, config: RunConfig, directory: Path, threads: int, owner: int) -> Ended:
    """Train one cell or go on with it; its name, and why it failed if it did."""
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    keep_freed_memory()
    try:
        watcher = Watcher(stepped=_end_with(owner))
        if (directory / CONFIG_FILE).exists():
            own = data_of_file(config.data) if is_own_file(config.data) else None
            resume(directory, data=own, watcher=watcher)
        else:
            train(config, directory, watcher=watcher)
    except OffdiagError as error:
        return name, {"error": str(error)}
    except Exception as error:
        # One cell ends no grid, whatever happens in it; the traceback is kept for whoever mends it.
        said = f"{type(error).__name__}: {error}"
        return name, {"error": said, "traceback": traceback.format_exc()}
    finally:
        torch.set_num_threads(before)
    return name, None


def _end_with(owner: int) -> Callable[[int], None]:
    """A watch that ends a worker whose parent has been killed.

    Such a worker would train on, beside the one that the next command starts in its place.
    """
    if os.getppid() != owner:  # this process itself, or a cluster's: no child of the owner
        return lambda step: None

    def stepped(step: int) -> None:
        if os.getppid() != owner:
            os._exit(1)

    return stepped


def _read_cell(out: Path, name: str, spec: CellSpec, failures: Mapping[str, Any]) -> Cell:
    config = spec.config
    directory = out / CELLS / name
    described: dict[str, Any] = {"config": config.to_dict(), "circumstances": {}}
    record = None
    if (directory / CONFIG_FILE).exists():
        described = read_config(directory)
        try:
            record = RunRecord.load(directory)
        except RunError:  # no reading yet, or files that cannot be read: the cell says so when run
            record = None
    status = Status.UNFINISHED
    if is_finished(directory):
        status = Status.FINISHED
    elif name in failures:
        status = Status.FAILED
    return Cell(
        name=name,
        combination=_combination(spec),
        seed=config.seed,
        status=status,
        error=failures[name]["error"] if status is Status.FAILED else None,
        ending=None if record is None else Ending.of(record),
        history=() if record is None else tuple(_without_spectra(record)),
        settings=described["config"],
        circumstances=described["circumstances"],
    )


def _cell_spec(base: Mapping[str, Any], cell: Mapping[str, Any]) -> CellSpec:
    """A cell of a grid file of any version: the first had its values beside its name."""
    if "values" not in cell:
        values = {key: value for key, value in cell.items() if key != "name"}
        return CellSpec(config=RunConfig.from_dict({**base, **values}), values=values)
    values = {a: tuple(v) if isinstance(v, list) else v for a, v in cell["values"].items()}
    present = {axis: value for axis, value in values.items() if value is not None}
    config, _ = applied(RunConfig.from_dict(base), present, varied=values)
    return CellSpec(config=config, values=values)


def _combination(spec: CellSpec) -> Combination:
    """The values of the axes, and the parts of the method, which every grid names."""
    parts = {kind: spec.config.parts.get(kind) for kind in ("method", "normaliser", "head")}
    varied = {axis: value for axis, value in spec.values.items() if axis != SEED}
    return Combination(**{**parts, **varied})


def _axes_of(spec: Mapping[str, Any]) -> list[str]:
    return list(spec.get("axes", ("method", "normaliser", "head", SEED)))


def _without_spectra(record: RunRecord) -> Iterator[Any]:
    for row in record.history:
        bare = {
            part: replace(readings, spectrum=())
            for part in ("features", "projection", "prediction")
            if (readings := getattr(row, part)) is not None
        }
        yield replace(row, **bare)


def _write_table(comparison: Comparison, path: Path) -> None:
    """One row a cell: names, status, readings at the end, then every setting."""
    rows = []
    for cell in comparison.cells:
        values = {axis: _plain(value) for axis, value in cell.combination.items()}
        named = {"name": cell.name, **values, SEED: cell.seed}
        ending = dict.fromkeys(READINGS) if cell.ending is None else asdict(cell.ending)
        rows.append(
            named
            | {"status": str(cell.status), "error": cell.error}
            | ending
            | {key: _plain(v) for key, v in cell.settings.items() if key not in named}
        )
    numbers = [(name, pa.float64()) for name in READINGS]
    table = pa.Table.from_pylist(rows)
    for name, kind in [("error", pa.string()), *numbers]:
        place = table.schema.get_field_index(name)
        table = table.set_column(place, name, table[name].cast(kind))
    write_table(table, path)


def _plain(value: Any) -> Any:
    """A value as a column has it: settings of parts, which differ from row to row, as JSON."""
    if isinstance(value, Mapping):
        return json.dumps(value, sort_keys=True)
    return str(value) if isinstance(value, Path) else value


def _base(config: RunConfig, axes: Iterable[str]) -> dict[str, Any]:
    """The settings that no axis varies; of a method that varies nothing of the method is left."""
    left = set(axes)
    plain = {key: value for key, value in config.to_dict().items() if key not in left}
    if "method" in left:
        plain = {key: v for key, v in plain.items() if key not in (*METHOD_PARTS, "settings")}
        given = {kind: getattr(config, kind) for kind in METHOD_PARTS if kind not in left}
        plain |= {kind: name for kind, name in given.items() if name != AUTO}
        plain["settings"] = {k: dict(own) for k, own in config.settings.items()}
    varied = {axis.partition(".")[::2] for axis in left if "." in axis}
    plain["settings"] = {
        kind: {name: v for name, v in own.items() if (kind, name) not in varied}
        for kind, own in plain.get("settings", {}).items()
        if kind not in left
    }
    return plain


def _refuse_other_base(
    saved: dict[str, Any], base: RunConfig, axes: Sequence[str], out: Path
) -> None:
    # Through a configuration: settings that a newer version has get their defaults.
    began, now = _base(RunConfig.from_dict(saved), axes), _base(base, axes)
    changed = [key for key in began if began[key] != now.get(key) and key not in INDIFFERENT]
    if changed:
        told = ", ".join(f"{key} {began[key]!r}, not {now.get(key)!r}" for key in changed)
        raise RunError(
            f"{out} holds a grid with other settings: it has {told}. "
            "Give those, or choose another --out."
        )


def _read_spec(out: Path) -> dict[str, Any]:
    path = out / GRID_FILE
    try:
        spec: dict[str, Any] = json.loads(path.read_text())
        names = [cell["name"] for cell in spec["cells"]]
        if all(Path(name).name == name for name in names) and set(spec["base"]):
            return spec
        raise ValueError("a name is a path")
    except OSError:
        raise RunError(
            f"{out} is no grid: it has no {GRID_FILE} to read. "
            "Give a directory written by `offdiag compare`."
        ) from None
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise RunError(
            f"{path} was not written by offdiag ({error}): restore it, or choose another --out."
        ) from None
