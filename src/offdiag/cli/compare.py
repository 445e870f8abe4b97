"""`offdiag compare`"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

from rich.console import Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from tyro.conf import OmitArgPrefixes, UseAppendAction, arg

from offdiag._checks import ConfigError, TrainingError
from offdiag.cli.part_settings import configured
from offdiag.cli.progress import console
from offdiag.registry import HEADS, METHODS, NORMALISERS
from offdiag.report.comparison import write_comparison
from offdiag.results.comparison import Cell, Comparison, Status
from offdiag.results.history import METRICS_FILE, read_history
from offdiag.runs.compare import CELLS, TABLE_FILE, compare
from offdiag.runs.config import RunConfig
from offdiag.runs.grid import PLURALS, Grid, parsed
from offdiag.runs.recipes import RECIPES, SIZES

PAGE_FILE = "report.html"
SHOWN = 16


@dataclass(frozen=True, kw_only=True)
class Compare:
    """Train a grid of runs and write one table and one page that compare them.

    The same command again skips what is finished, goes on with what was cut short, and tries
    again what failed; with more heads, methods, normalisers or seeds the grid grows.
    """

    out: Path | None = None
    """Directory of table.parquet, report.html and the runs (in cells)."""
    vary: UseAppendAction[tuple[tuple[str, ...], ...]] = ()
    """NAME VALUE ..., once for each setting to vary: --vary head off-diagonal mlp --vary lr 1e-3
    3e-3 --vary method.variance 1 25 --vary seed 0 1 2. Widths are joined by commas: --vary
    projector 256,64 512,64."""
    heads: Annotated[tuple[str, ...], arg(metavar="{" + ",".join(HEADS) + "} ...")] = ()
    """Heads to compare; by default the one of --head."""
    methods: Annotated[tuple[str, ...], arg(metavar="{" + ",".join(METHODS) + "} ...")] = ()
    """Methods to compare; by default the one of --method."""
    normalisers: Annotated[tuple[str, ...], arg(metavar="{" + ",".join(NORMALISERS) + "} ...")] = ()
    """Normalisers to compare; by default the one of --normaliser."""
    seeds: tuple[int, ...] = ()
    """Seeds of each combination; by default the one of --seed."""
    jobs: int | None = None
    """Runs at a time; by default one for each core, or one on an accelerator."""
    threads: int = 1
    """Threads of each run; 1 gives the same digits on any number of cores."""
    recipe: Annotated[str | None, arg(metavar="{" + ",".join(RECIPES) + "}")] = None
    """Start from a named complete run; every other option changes one thing of it."""
    size: Annotated[str | None, arg(metavar="{" + ",".join(SIZES) + "}")] = None
    """The recipe's size: full, or small, which ends within 15 minutes on two cores."""
    config: Annotated[RunConfig, OmitArgPrefixes] = field(default_factory=RunConfig)

    def run(self) -> None:
        out = self.out
        if out is None:
            raise ConfigError("compare needs a directory to write to: give --out DIR.")
        grid = self.grid()
        configs = grid.configs()
        done: list[Cell] = []
        try:
            if console.is_terminal:
                standing = _Standing(out, configs, done)
                with Live(get_renderable=standing, console=console, refresh_per_second=2):
                    comparison = self._compare(grid, out, done)
            else:
                comparison = self._compare(grid, out, done)
        except KeyboardInterrupt:
            console.print(
                "finished runs are kept; to go on, give the same command again", soft_wrap=True
            )
            raise
        write_comparison(comparison, out / PAGE_FILE)
        for name in (PAGE_FILE, TABLE_FILE):
            console.print(f"wrote {out / name}", soft_wrap=True)
        _refuse_failures(comparison, set(configs), out)

    def _compare(self, grid: Grid, out: Path, done: list[Cell]) -> Comparison:
        def on_cell(cell: Cell) -> None:
            done.append(cell)
            if not console.is_terminal:
                console.print(_line(cell), soft_wrap=True, markup=False)

        return compare(grid, out, jobs=self.jobs, threads=self.threads, on_cell=on_cell)

    def grid(self) -> Grid:
        """The grid that the options spell; ConfigError for a value that makes no run."""
        base = configured(self)
        for plural, setting in PLURALS.items():
            given = getattr(self, plural)
            if given and getattr(base, setting) != getattr(RunConfig(), setting):
                raise ConfigError(
                    f"--{plural} says what to compare, so --{setting} {getattr(base, setting)} has "
                    "no say: drop one of them."
                )
        return Grid(
            base=base,
            axes=self._axes(base),
            heads=self.heads,
            methods=self.methods,
            normalisers=self.normalisers,
            seeds=self.seeds,
        )

    def _axes(self, base: RunConfig) -> dict[str, tuple[Any, ...]]:
        axes: dict[str, tuple[Any, ...]] = {}
        given = {words[0].replace("-", "_"): words[1:] for words in self.vary if words}
        if len(given) < len(self.vary):
            raise ConfigError("each --vary needs the name of another setting, then its values.")
        methods = given.get("method", self.methods or (base.method,))
        for axis, words in given.items():
            axes[axis] = parsed(axis, words, methods)
        return axes


class _Standing:
    """The grid while it runs, from what its runs have written so far."""

    def __init__(self, out: Path, configs: dict[str, RunConfig], done: list[Cell]) -> None:
        self.out, self.configs, self.done = out, configs, done

    def __call__(self) -> RenderableType:
        ended = {cell.name: cell for cell in self.done}
        failed = sum(cell.status is Status.FAILED for cell in self.done)
        table = Table("run", "epoch", "loss", "effective rank", "kNN", title="projection")
        shown = 0
        for name, config in self.configs.items():
            if name in ended or shown == SHOWN:
                continue
            history = read_history(self.out / CELLS / name / METRICS_FILE)
            if not history or history[-1].epoch >= config.epochs:
                continue
            last = history[-1]
            shown += 1
            table.add_row(
                name,
                f"{last.epoch:.0f} of {config.epochs}",
                f"{last.loss:.4f}",
                f"{last.projection.effective_rank:.1f} of {last.projection.dim}",
                f"{last.knn['projection']:.3f}" if last.knn else "",
            )
        said = f"{len(ended)} runs ended, {failed} of them failed; {len(self.configs)} in the grid"
        bar = ProgressBar(total=len(self.configs), completed=len(ended))
        return Group(said, bar, table)


def _line(cell: Cell) -> str:
    if cell.status is Status.FAILED:
        return f"{cell.name}: FAILED: {cell.error}"
    ending = cell.ending
    assert ending is not None  # it has come to its end
    parts = [f"loss {ending.loss:.4f}" if ending.loss is not None else "loss not finite"]
    if ending.effective_rank_projection is not None:
        parts.append(f"effective rank {ending.effective_rank_projection:.1f}")
    if ending.knn_features is not None and ending.knn_projection is not None:
        parts.append(f"kNN {ending.knn_features:.3f} -> {ending.knn_projection:.3f}")
    parts.append(f"{ending.seconds:.0f} s")
    return f"{cell.name}: {'  '.join(parts)}"


def _refuse_failures(comparison: Comparison, names: set[str], out: Path) -> None:
    failed = [cell for cell in comparison.with_status(Status.FAILED) if cell.name in names]
    if failed:
        raise TrainingError(
            f"{len(failed)} of {len(names)} runs failed in {out / CELLS}, first "
            f"{failed[0].name}: {str(failed[0].error).rstrip('.')}. "
            "The same command tries them again."
        )
