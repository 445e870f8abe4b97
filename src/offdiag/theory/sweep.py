"""A grid of problems, many starts in each cell, and one table of how they all ended."""

import json
import traceback
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from offdiag._checks import ConfigError, RunError, at_least, choice
from offdiag._files import append_line, make_folder, write_whole
from offdiag.theory.ensemble import ensemble
from offdiag.theory.flow import check, check_size, estimated_seconds, processors
from offdiag.theory.outcomes import Outcome
from offdiag.theory.phase_one import horizon
from offdiag.theory.problem import Problem

TABLE_FILE = "sweep.parquet"
CELLS_FILE = "cells.jsonl"  # finished cells while the sweep runs, one line each
SPEC_FILE = "sweep.json"

WHOLE = ("dim", "patches", "feature_patches", "neurons", "power", "seed")
REAL = ("noise", "head_lr_ratio", "time")
LISTS = ("strengths", "probabilities")

# Of each start; empty where it is infinite (a feature never learned) or failed to begin.
NUMBERS = (
    "max_off_diagonal",
    "final_off_diagonal",
    "time_strong_feature",
    "loss",
    "reached",
    "integrator_steps",
    "until",
)


@dataclass(frozen=True, kw_only=True)
class Axis:
    """One parameter of the grid: `steps` values from `low` to `high`, even or even in log.

    `name` is a number of the `Problem`, `time`, or one of its strengths or probabilities,
    counted from 1: `strengths.2` is the second feature's. Whole numbers are rounded, and
    a value that rounding repeats is taken once.
    """

    name: str
    low: float
    high: float
    steps: int
    log: bool = False

    def __post_init__(self) -> None:
        stem, dot, place = self.name.partition(".")
        choice("parameter to vary", stem, (*WHOLE, *REAL, *LISTS))
        if (stem in LISTS) != bool(dot) or (dot and not (place.isdigit() and int(place) > 0)):
            raise ConfigError(
                f"a parameter to vary is a number: give {LISTS[0]}.1 for the first strength, "
                f"and no dot after {', '.join((*WHOLE, *REAL))}; got {self.name!r}."
            )
        at_least(f"steps of {self.name}", float(self.steps), 1.0)
        if not (np.isfinite(self.low) and np.isfinite(self.high)):
            raise ConfigError(
                f"the range of {self.name} must be two finite numbers; "
                f"got {self.low} to {self.high}."
            )
        if self.log and not (self.low > 0 and self.high > 0):
            raise ConfigError(
                f"a log axis needs a positive range; got {self.name} from {self.low:g} to "
                f"{self.high:g}. Leave out log, or change the range."
            )

    @property
    def values(self) -> tuple[float, ...]:
        """The values along this axis, in order, each once."""
        spread = np.geomspace if self.log else np.linspace
        values = spread(self.low, self.high, self.steps)
        if self.name in WHOLE:
            values = values.round()
        return tuple(dict.fromkeys(float(value) for value in values))


@dataclass(frozen=True, kw_only=True)
class Sweep:
    """A grid around one problem: every combination of the axes, `starts` starts in each.

    `time` None runs each cell to its own horizon, `phase_one.horizon`: the first learning
    time grows as d^(q-1), so one time for all would end large d before they have learned.
    """

    problem: Problem
    axes: tuple[Axis, ...]
    starts: int
    time: float | None = None
    rtol: float = 1e-6

    def __post_init__(self) -> None:
        names = [axis.name for axis in self.axes]
        if not names or len(set(names)) < len(names):
            raise ConfigError(f"vary one or more different parameters; got {names}.")
        at_least("starts", float(self.starts), 1.0)
        for index in range(len(self)):
            problem, time = self.cell(index)
            check(time=time, rtol=self.rtol)
            check_size(problem)

    def __len__(self) -> int:
        return int(np.prod([len(axis.values) for axis in self.axes]))

    def settings(self, index: int) -> dict[str, float]:
        """What the cell varies; the last axis runs fastest."""
        shape = [len(axis.values) for axis in self.axes]
        places = np.unravel_index(index, shape)
        return {a.name: a.values[int(i)] for a, i in zip(self.axes, places, strict=True)}

    def cell(self, index: int) -> tuple[Problem, float]:
        """The problem of one cell, with a seed of its own, and the time to run it to."""
        changes: dict[str, Any] = {}
        given = self.time
        for name, value in self.settings(index).items():
            stem, dot, place = name.partition(".")
            if stem == "time":
                given = value
            elif dot:
                changes[stem] = _put(changes.get(stem, getattr(self.problem, stem)), name, value)
            else:
                changes[stem] = int(value) if stem in WHOLE else value
        if "seed" not in changes:
            sequence = np.random.SeedSequence((self.problem.seed, index))
            changes["seed"] = int(sequence.generate_state(1)[0])
        try:
            problem = replace(self.problem, **changes)
        except ConfigError as error:
            raise ConfigError(
                f"the cell {self.settings(index)} makes no problem: {error}"
            ) from None
        time = horizon(replace(problem, normaliser="bn")) if given is None else given
        return problem, time

    def times(self) -> tuple[float, float]:
        """The shortest and the longest time that a cell runs to."""
        times = [self.cell(index)[1] for index in range(len(self))]
        return min(times), max(times)

    def estimated_seconds(self, *, jobs: int = -1) -> float:
        """About how long the whole sweep takes, to a factor of three; compiling not counted."""
        threads = processors() if jobs < 0 else max(1, jobs)
        cells = (self.cell(index)[0] for index in range(len(self)))
        return sum(estimated_seconds(cell, starts=self.starts) for cell in cells) / threads

    def to_dict(self) -> dict[str, Any]:
        """The sweep as JSON can hold it."""
        fields: dict[str, Any] = json.loads(json.dumps(asdict(self)))
        return fields


def run_sweep(
    sweep: Sweep,
    directory: Path,
    *,
    jobs: int = -1,
    on_cell: Callable[[int, int], None] | None = None,
) -> pa.Table:
    """Run every cell that is not yet on disk, on all cores, and write the table.

    Finished cells are kept in `directory` as they come, so a sweep that was stopped goes on
    where it was; another sweep's directory is refused. `on_cell` hears how many cells are
    done, of how many. One row per start: the varied parameters, seed, outcome, and the
    columns of `run_cell`. A start that fails is a row with its reason.

    Runs through joblib: threads, since the integrator holds no lock; inside
    `joblib.parallel_config(backend="dask")` on that cluster.
    """
    make_folder(directory)
    table_path, cells_path = directory / TABLE_FILE, directory / CELLS_FILE
    claim(sweep, directory)
    if table_path.exists():
        if on_cell is not None:
            on_cell(len(sweep), len(sweep))
        return pq.read_table(table_path)
    rows = {cell["cell"]: cell for cell in finished_cells(cells_path)}
    todo = [index for index in range(len(sweep)) if index not in rows]
    if on_cell is not None:
        on_cell(len(rows), len(sweep))
    backend, _ = joblib.parallel.get_active_backend()
    # Ray's has no generators: there the cells are written when all are done.
    streams = getattr(backend, "supports_return_generator", False)
    return_as = "generator_unordered" if streams else "list"
    work = joblib.Parallel(n_jobs=jobs, prefer="threads", return_as=return_as)(
        joblib.delayed(run_cell)(sweep, index) for index in todo
    )
    for cell in work:
        append_line(cells_path, json.dumps(cell))
        rows[cell["cell"]] = cell
        if on_cell is not None:
            on_cell(len(rows), len(sweep))
    table = to_table(sweep, [rows[index] for index in range(len(sweep))])
    content = pa.BufferOutputStream()
    pq.write_table(table, content)
    write_whole(table_path, content.getvalue().to_pybytes())
    cells_path.unlink()
    return table


def run_cell(sweep: Sweep, index: int) -> dict[str, Any]:
    """One cell as columns of equal length; never raises, so that one cell ends no sweep."""
    problem, time = sweep.cell(index)
    columns: dict[str, Any]
    try:
        result = ensemble(problem, time=time, count=sweep.starts, rtol=sweep.rtol)
    except Exception:
        why = traceback.format_exc(limit=-1).strip().splitlines()[-1]
        empty = [None] * sweep.starts
        columns = {name: empty for name in NUMBERS}
        columns["outcome"] = [str(Outcome.FAILED)] * sweep.starts
        columns["failure"] = [f"stopped before it began: {why}"] * sweep.starts
    else:
        columns = {
            "outcome": [str(outcome) for outcome in result.outcomes],
            "failure": list(result.ends.failures),
            "max_off_diagonal": _listed(result.ends.peaks),
            "final_off_diagonal": _listed(result.final_off_diagonal),
            "time_strong_feature": _listed(result.strong_feature_times),
            "loss": _listed(result.ends.losses),
            "reached": _listed(result.ends.reached),
            "integrator_steps": _listed(result.ends.steps.astype(float)),
            "until": [time] * sweep.starts,
        }
    return {"cell": index, "seed": problem.seed, "columns": columns}


def to_table(sweep: Sweep, cells: list[dict[str, Any]]) -> pa.Table:
    """One row per start, all cells; the sweep itself in the metadata."""
    count = sweep.starts
    settings = [sweep.settings(cell["cell"]) for cell in cells]
    columns: dict[str, pa.Array] = {
        "cell": pa.array(np.repeat([cell["cell"] for cell in cells], count)),
        **{
            axis.name: pa.array(np.repeat([each[axis.name] for each in settings], count))
            for axis in sweep.axes
        },
        "seed": pa.array(np.repeat([cell["seed"] for cell in cells], count)),
        "start": pa.array(np.tile(np.arange(count), len(cells))),
    }
    for name, kind in (("outcome", pa.string()), ("failure", pa.string())):
        columns[name] = pa.array(_chained(cells, name), kind)
    for name in NUMBERS:
        columns[name] = pa.array(_chained(cells, name), pa.float64())
    return pa.table(columns, metadata={"offdiag.sweep": json.dumps(sweep.to_dict())})


def read_table(directory: Path) -> pa.Table:
    """The table of a finished sweep; RunError if there is none."""
    path = directory / TABLE_FILE
    if not path.exists():
        raise RunError(f"{directory} holds no finished sweep: run `offdiag theory sweep --out`.")
    return pq.read_table(path)


def cell_shares(table: pa.Table) -> list[dict[str, Any]]:
    """Per cell: the varied parameters, the share of each outcome, and two medians."""
    about = json.loads(table.schema.metadata[b"offdiag.sweep"])
    names, count = [axis["name"] for axis in about["axes"]], about["starts"]
    outcome = np.array(table["outcome"].to_pylist()).reshape(-1, count)
    peak = table["max_off_diagonal"].to_numpy().reshape(-1, count)
    final = table["final_off_diagonal"].to_numpy().reshape(-1, count)
    values = {name: table[name].to_numpy()[::count] for name in names}
    return [
        {
            **{name: float(values[name][i]) for name in names},
            **{str(one): float((outcome[i] == one).mean()) for one in Outcome},
            "median_max_off_diagonal": _median(peak[i]),
            "median_final_off_diagonal": _median(final[i]),
        }
        for i in range(len(outcome))
    ]


def claim(sweep: Sweep, directory: Path) -> None:
    """Mark the directory as this sweep's; RunError if it is another one's."""
    path, spec = directory / SPEC_FILE, sweep.to_dict()
    if path.exists():
        try:
            found = json.loads(path.read_text())
        except ValueError:
            found = None
        if found != spec:
            raise RunError(
                f"{directory} holds another sweep: choose another directory, or delete it."
            )
        return
    write_whole(path, json.dumps(spec, indent=2) + "\n")


def finished_cells(path: Path) -> Iterator[dict[str, Any]]:
    """The cells kept on disk; a last line cut short is mended away."""
    if not path.exists():
        return
    text = path.read_text()
    whole = text[: text.rfind("\n") + 1]
    if whole != text:  # or the next cell would be written behind half a line
        write_whole(path, whole)
    for line in whole.splitlines():
        yield json.loads(line)


def _put(values: tuple[float, ...] | None, name: str, value: float) -> tuple[float, ...]:
    place = int(name.partition(".")[2])
    if values is None or place > len(values):
        have = "none are given" if values is None else f"there are {len(values)}"
        raise ConfigError(f"{name} cannot vary: {have}. Give as many as you want to vary.")
    return (*values[: place - 1], value, *values[place:])


def _listed(values: Any) -> list[float | None]:
    return [float(value) if np.isfinite(value) else None for value in values]


def _median(values: np.ndarray) -> float | None:
    kept = values[np.isfinite(values)]
    return float(np.median(kept)) if kept.size else None


def _chained(cells: list[dict[str, Any]], name: str) -> list[Any]:
    return [value for cell in cells for value in cell["columns"][name]]
