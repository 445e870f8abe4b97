"""`offdiag theory explore`: write the explorer."""

from dataclasses import dataclass
from pathlib import Path

from offdiag.report.explorer.page import write_explorer


@dataclass(frozen=True, kw_only=True)
class TheoryExplore:
    """Write a page that runs the theory in the browser: sliders, pictures, no server.

    The page computes everything itself, asks nothing of the network, and keeps its settings
    in its address.
    """

    out: Path = Path("explorer.html")
    """The page to write."""

    def run(self) -> None:
        """Write the page and say where it is."""
        write_explorer(self.out)
        print(f"wrote {self.out}: open it in a browser")
