"""`offdiag train`"""

from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from tyro.conf import OmitArgPrefixes, arg

from offdiag._checks import ConfigError, RunError, at_least
from offdiag.cli.part_settings import configured
from offdiag.runs.config import RunConfig, is_own_file
from offdiag.runs.recipes import RECIPES, SIZES

if TYPE_CHECKING:
    from offdiag.data.data import Data

# What loads torch is imported where it is used: a mistyped option is answered without it.


@dataclass(frozen=True, kw_only=True)
class Train:
    """Train one run into a new directory, or continue one; writes its report.html there."""

    out: Path | None = None
    """The run's directory; must not exist."""
    resume: Path | None = None
    """Continue the run in this directory instead, with the settings it began with."""
    devices: int = 1
    """Processes that share the run on this machine, each with a GPU, or part of the cores, of
    its own; no property of the run, which may be resumed with another number. For several
    machines see docs/scaling.md."""
    recipe: Annotated[str | None, arg(metavar="{" + ",".join(RECIPES) + "}")] = None
    """Start from a named complete run; every other option changes one thing of it."""
    size: Annotated[str | None, arg(metavar="{" + ",".join(SIZES) + "}")] = None
    """The recipe's size: full, or small, which ends within 15 minutes on two cores."""
    config: Annotated[RunConfig, OmitArgPrefixes] = field(default_factory=RunConfig)

    def run(self) -> None:
        from offdiag.cli.progress import console
        from offdiag.results.history import CONFIG_FILE
        from offdiag.runs.processes import Place, ProcessEnded, launch

        directory = self._directory()
        at_least("the number of devices", self.devices, 1)
        place = Place.here()
        if place.started and self.devices not in (1, place.local_size):
            raise ConfigError(
                f"--devices {self.devices} is at odds with the {place.local_size} that were "
                "started here already: leave it out."
            )
        try:
            if self.devices > 1 and not place.started:
                launch(_run_here, self, processes=self.devices)
            else:
                self.run_here()
        except KeyboardInterrupt:
            if place.rank == 0:
                console.print(f"to go on: {self._go_on()}", soft_wrap=True)
            raise
        except ProcessEnded as error:
            if not (directory / CONFIG_FILE).exists():
                raise
            raise RunError(f"{error} To go on: {self._go_on()}") from error

    def run_here(self) -> None:
        """Train in this process, which may be one of several that share the run."""
        from offdiag.cli.progress import console, training_bar
        from offdiag.report.page import write_report
        from offdiag.runs.processes import Place
        from offdiag.runs.train import SILENT, resume, train
        from offdiag.training.heap import keep_freed_memory

        keep_freed_memory()
        directory = self._directory()
        first = Place.here().rank == 0
        with training_bar(directory.name) if first else nullcontext(SILENT) as watcher:
            if self.resume is not None:
                record = resume(directory, data=self._own_data(), watcher=watcher)
            else:
                record = train(configured(self), directory, watcher=watcher)
        if not first:
            return
        page = directory / "report.html"
        write_report([record], page)
        if record.evaluation is not None:
            knn, linear = record.evaluation["knn"], record.evaluation["linear"]
            for part in ("features", "projection"):
                console.print(f"{part}: kNN {knn[part]:.4f}, linear probe {linear[part]:.4f}")
        console.print(f"wrote {page}")

    def _own_data(self) -> "Data | None":
        from offdiag.data.from_file import data_of_file

        return data_of_file(self.config.data) if is_own_file(self.config.data) else None

    def _go_on(self) -> str:
        devices = f" --devices {self.devices}" if self.devices > 1 else ""
        data = f" --data {self.config.data}" if is_own_file(self.config.data) else ""
        return f"offdiag train --resume {self._directory()}{data}{devices}"

    def _directory(self) -> Path:
        if self.resume is not None:
            config = configured(self)
            if is_own_file(config.data):  # its code is run only if it is asked for here
                config = replace(config, data=RunConfig().data)
            if self.out is not None or config.to_dict() != RunConfig().to_dict():
                raise ConfigError(
                    f"--resume {self.resume} takes every setting from that directory: "
                    "drop the other options (--data FILE.py:FUNCTION is needed again for data of "
                    "your own), or start a new run with --out."
                )
            return self.resume
        if self.out is None:
            raise ConfigError(
                "train needs a directory to write to: give --out DIR, or --resume DIR."
            )
        return self.out


def _run_here(command: Train) -> None:
    command.run_here()
