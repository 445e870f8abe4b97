"""All mechanisms on one bench: the same encoder, data and budget; only the mechanism differs."""

import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from offdiag._checks import ConfigError, RunError, choice
from offdiag.diagnostics.run_verdict import judge_run
from offdiag.diagnostics.verdict import Verdict
from offdiag.registry import (
    HEADS,
    METHODS,
    PROJECTORS,
    REGULARISERS,
    TAGS,
    TRANSFORMS,
    Entry,
    find,
)
from offdiag.results.comparison import Cell, Comparison, Ending, Spread, Status
from offdiag.results.history import RunRecord
from offdiag.runs.compare import CELLS, compare
from offdiag.runs.config import RunConfig
from offdiag.runs.grid import Grid

SETTINGS_OF: Mapping[str, Mapping[str, str]] = MappingProxyType(
    {
        "method": {},
        "head": {"method": "simsiam"},
        "transform": {"method": "simsiam", "head": "off-diagonal"},
        "regulariser": {"method": "simsiam", "head": "none"},
        "projector": {"method": "simsiam", "head": "off-diagonal"},
    }
)
"""Around what each kind of mechanism is put on the bench: a regulariser has to prevent the collapse
of SimSiam without a head; a transform and a projector are added to the paper's method."""
TABLES: Mapping[str, Mapping[str, Entry]] = MappingProxyType(
    {
        "method": METHODS,
        "head": HEADS,
        "transform": TRANSFORMS,
        "regulariser": REGULARISERS,
        "projector": PROJECTORS,
    }
)


@dataclass(frozen=True, kw_only=True)
class Mechanism:
    """One row of the bench: a row of the registry, and the settings that put it on the bench."""

    kind: str
    name: str

    @property
    def key(self) -> str:
        """The name in tables and on the command line: head:mlp."""
        return f"{self.kind}:{self.name}"

    @property
    def entry(self) -> Entry:
        return find(self.kind, self.name)

    @property
    def values(self) -> dict[str, str]:
        field = "projector_kind" if self.kind == "projector" else self.kind
        return {**SETTINGS_OF[self.kind], field: self.name}


def mechanisms(only: Sequence[str] = (), tags: Iterable[str] = ()) -> list[Mechanism]:
    """Those of the registry; `only` names some (vicreg, head:mlp), `tags` are required of all."""
    for tag in tags:
        choice("tag", tag, TAGS)
    every = [Mechanism(kind=kind, name=name) for kind, table in TABLES.items() for name in table]
    known = {one.key for one in every} | {one.name for one in every}
    for name in only:
        if name not in known:
            raise ConfigError(
                f"no mechanism {name!r} is on the bench: `offdiag list` names them all."
            )
    chosen = [
        one
        for one in every
        if (not only or {one.key, one.name} & set(only)) and one.entry.tags >= set(tags)
    ]
    if not chosen:
        raise ConfigError(f"no mechanism has the tags {', '.join(tags)}.")
    return chosen


@dataclass(frozen=True, kw_only=True)
class BenchRow:
    """What one mechanism keeps, is worth and costs: spreads over its finished seeds.

    Ranks lie in [1, width], accuracies in [0, 1] on held-out samples. `verdicts` are those of
    the finished runs; `error` is the sentence of the first run that failed. `record` is the run
    of the first finished seed.
    """

    mechanism: Mechanism
    readings: Mapping[str, Spread | None]
    seconds_per_step: float | None
    peak_memory_gib: float | None
    verdicts: tuple[Verdict, ...]
    finished: int
    planned: int
    error: str | None
    record: RunRecord | None


READINGS = (
    "effective_rank_features",
    "effective_rank_projection",
    "knn_features",
    "knn_projection",
    "linear_features",
    "linear_projection",
)


def bench(
    base: RunConfig,
    chosen: Sequence[Mechanism],
    out: Path,
    *,
    seeds: Sequence[int] = (0,),
    jobs: int | None = None,
    on_cell: Callable[[Cell], None] = lambda cell: None,
) -> list[BenchRow]:
    """Train every mechanism on `base`'s data, encoder and budget, for every seed; rows for the map.

    The directory is a grid of runs: it is resumed, it may grow, and a cell that fails stops no
    other. joblib carries it, on all cores or on a cluster.
    """
    grid = Grid(base=base, rows=tuple(one.values for one in chosen), axes={"seed": tuple(seeds)})
    return bench_rows(compare(grid, out, jobs=jobs, on_cell=on_cell), chosen, base, out)


def bench_rows(
    comparison: Comparison, chosen: Sequence[Mechanism], base: RunConfig, out: Path
) -> list[BenchRow]:
    """The rows of the map, in the order of `chosen`."""
    by_parts: dict[tuple[tuple[str, str], ...], list[Cell]] = {}
    for cell in comparison.cells:
        config = RunConfig.from_dict(cell.settings)
        by_parts.setdefault(tuple(config.parts.items()), []).append(cell)
    rows = []
    for mechanism in chosen:
        spec = next(iter(Grid(base=base, rows=(mechanism.values,)).configs().values()))
        # One cell a seed: the same run may be in the grid under the names of two mechanisms.
        cells = {cell.seed: cell for cell in reversed(by_parts.get(tuple(spec.parts.items()), []))}
        rows.append(_row(mechanism, list(cells.values()), out))
    return rows


def _row(mechanism: Mechanism, cells: Sequence[Cell], out: Path) -> BenchRow:
    done = [cell for cell in cells if cell.status is Status.FINISHED]
    endings = [cell.ending for cell in done if cell.ending is not None]
    records = [record for cell in done if (record := _record(out / CELLS / cell.name)) is not None]
    failed = [cell.error for cell in cells if cell.error is not None]
    return BenchRow(
        mechanism=mechanism,
        readings={name: _spread(endings, name) for name in READINGS},
        seconds_per_step=_median(
            [row.seconds / row.step for record in records for row in record.history[-1:]]
        ),
        peak_memory_gib=_median([record.history[-1].peak_memory_gib for record in records]),
        verdicts=tuple(judge_run(record) for record in records),
        finished=len(done),
        planned=len(cells),
        error=failed[0] if failed else None,
        record=records[0] if records else None,
    )


def _record(directory: Path) -> RunRecord | None:
    try:
        return RunRecord.load(directory)
    except RunError:
        return None


def _spread(endings: Sequence[Ending], name: str) -> Spread | None:
    values = [getattr(ending, name) for ending in endings]
    return Spread.of(value for value in values if value is not None)


def _median(values: Sequence[float]) -> float | None:
    return statistics.median(values) if values else None
