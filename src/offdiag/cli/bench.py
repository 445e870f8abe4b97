"""`offdiag bench`"""

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from tyro.conf import OmitArgPrefixes

from offdiag._checks import ConfigError, TrainingError
from offdiag.cli.part_settings import configured
from offdiag.runs.config import AUTO, METHOD_PARTS, RunConfig

if TYPE_CHECKING:
    from offdiag.results.comparison import Cell

EPOCHS = 60


@dataclass(frozen=True, kw_only=True)
class Bench:
    """Train every mechanism on one bench, and draw the map: what each keeps, is worth and costs.

    The same command again skips what is finished, goes on with what was cut short, and tries
    again what failed. By default: all mechanisms on the digits, 60 epochs of the small net.
    """

    out: Path | None = None
    """Directory of map.html, map.parquet and the runs (in cells)."""
    only: tuple[str, ...] = ()
    """Some mechanisms by name: vicreg head:mlp; `offdiag list` names them all."""
    tags: tuple[str, ...] = ()
    """Only the mechanisms that have all of these tags; `offdiag list tags` explains them."""
    seeds: tuple[int, ...] = (0,)
    jobs: int | None = None
    """Runs at a time; by default one for each core, or one on an accelerator."""
    config: Annotated[RunConfig, OmitArgPrefixes] = field(
        default_factory=lambda: RunConfig(epochs=EPOCHS, device="cpu", checkpoint_seconds=60.0)
    )

    def run(self) -> None:
        from offdiag.cli.progress import console
        from offdiag.report.bench import write_bench, write_table
        from offdiag.runs.bench import bench, mechanisms

        if self.out is None:
            raise ConfigError("bench needs a directory to write to: give --out DIR.")
        base = configured(self)
        refuse_a_method(base, "bench", "vicreg head:mlp")
        chosen = mechanisms(self.only, self.tags)
        total, done = len(chosen) * len(self.seeds), 0

        def on_cell(cell: "Cell") -> None:
            nonlocal done
            done += 1
            ended = cell.error or (f"{cell.ending.seconds:.0f} s" if cell.ending else "")
            console.print(f"{done}/{total} {cell.name}: {ended}", soft_wrap=True, markup=False)

        rows = bench(
            replace(base, seed=self.seeds[0]),
            chosen,
            self.out,
            seeds=self.seeds,
            jobs=self.jobs,
            on_cell=on_cell,
        )
        write_bench(rows, self.out / "map.html", title=f"Every mechanism on {base.data}")
        write_table(rows, self.out / "map.parquet")
        for name in ("map.html", "map.parquet"):
            console.print(f"wrote {self.out / name}", soft_wrap=True)
        if failed := [row for row in rows if row.error]:
            raise TrainingError(
                f"runs of {len(failed)} of {len(rows)} mechanisms failed, first "
                f"{failed[0].mechanism.key}: {str(failed[0].error).rstrip('.')}. The same command "
                "tries them again."
            )


def refuse_a_method(base: RunConfig, command: str, example: str) -> None:
    """ConfigError if the options choose a method or one of its parts, which the bench varies."""
    if base.method != "simsiam" or any(getattr(base, part) != AUTO for part in METHOD_PARTS):
        raise ConfigError(
            f"{command} varies the method and its parts: choose among them with --only, as in "
            f"--only {example}."
        )
