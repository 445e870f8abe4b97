"""`offdiag report`"""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from tyro.conf import Positional

from offdiag._checks import ConfigError
from offdiag.cli.progress import console
from offdiag.report.page import write_report
from offdiag.results.history import RunRecord


@dataclass(frozen=True, kw_only=True)
class Report:
    """One page for one run, or several side by side."""

    directories: Annotated[tuple[Path, ...], Positional]
    """Run directories, finished or not."""
    out: Path
    """The page to write."""

    def run(self) -> None:
        if not self.directories:
            raise ConfigError("report needs at least one run directory; got none.")
        write_report([RunRecord.load(directory) for directory in self.directories], self.out)
        console.print(f"wrote {self.out}", soft_wrap=True)
