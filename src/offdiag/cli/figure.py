"""`offdiag figure`"""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from tyro.conf import Positional

from offdiag._checks import ConfigError
from offdiag.cli.progress import console
from offdiag.plots.export import save_chart
from offdiag.plots.head_course import head_course
from offdiag.results.history import RunRecord


@dataclass(frozen=True, kw_only=True)
class Figure:
    """The paper's figure: off-diagonal norm, asymmetry norm and their ratio over training."""

    directories: Annotated[tuple[Path, ...], Positional]
    """Run directories, finished or not, whose head is a matrix."""
    out: Path
    """The picture to write: .png, .svg or .pdf."""

    def run(self) -> None:
        records = [RunRecord.load(directory) for directory in self.directories]
        if not records:
            raise ConfigError("figure needs at least one run directory; got none.")
        for record in records:
            if not any(row.head and row.head.off_diagonal_norm > 0 for row in record.history):
                raise ConfigError(
                    f"the head of {record.name} ({record.config.get('head')}) is no matrix that "
                    "leaves the identity, so there is no course to draw: leave that run out."
                )
        names = [record.name for record in records]
        if twice := next((name for name in names if names.count(name) > 1), None):
            raise ConfigError(
                f"two of the runs are called {twice!r}, and a line is named by its directory: "
                "rename one."
            )
        save_chart(head_course(records), self.out)
        console.print(f"wrote {self.out}", soft_wrap=True)
