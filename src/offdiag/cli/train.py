"""`offdiag train`"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

from tyro.conf import OmitArgPrefixes, arg

from offdiag._checks import ConfigError
from offdiag.cli.progress import console, training_bar
from offdiag.report.page import write_report
from offdiag.runs.config import RunConfig
from offdiag.runs.recipes import RECIPES, SIZES
from offdiag.runs.train import resume, train


@dataclass(frozen=True, kw_only=True)
class Train:
    """Train one run into a new directory, or continue one; writes its report.html there."""

    out: Path | None = None
    """The run's directory; must not exist."""
    resume: Path | None = None
    """Continue the run in this directory instead, with the settings it began with."""
    recipe: Annotated[str | None, arg(metavar="{" + ",".join(RECIPES) + "}")] = None
    """Start from a named complete run; every other option changes one thing of it."""
    size: Annotated[str | None, arg(metavar="{" + ",".join(SIZES) + "}")] = None
    """The recipe's size: full, or small, which ends within 15 minutes on two cores."""
    config: Annotated[RunConfig, OmitArgPrefixes] = field(default_factory=RunConfig)

    def run(self) -> None:
        directory = self._directory()
        try:
            with training_bar(directory.name) as watcher:
                if self.resume is not None:
                    record = resume(directory, watcher=watcher)
                else:
                    record = train(self.config, directory, watcher=watcher)
        except KeyboardInterrupt:
            console.print(f"to go on: offdiag train --resume {directory}", soft_wrap=True)
            raise
        page = directory / "report.html"
        write_report([record], page)
        if record.evaluation is not None:
            knn, linear = record.evaluation["knn"], record.evaluation["linear"]
            for part in ("features", "projection"):
                console.print(f"{part}: kNN {knn[part]:.4f}, linear probe {linear[part]:.4f}")
        console.print(f"wrote {page}")

    def _directory(self) -> Path:
        if self.resume is not None:
            if self.out is not None or self.config != RunConfig():
                raise ConfigError(
                    f"--resume {self.resume} takes every setting from that directory: "
                    "drop the other options, or start a new run with --out."
                )
            return self.resume
        if self.out is None:
            raise ConfigError(
                "train needs a directory to write to: give --out DIR, or --resume DIR."
            )
        return self.out
