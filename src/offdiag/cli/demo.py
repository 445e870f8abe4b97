"""`offdiag demo`"""

import time
from dataclasses import dataclass
from pathlib import Path

from rich.table import Table

from offdiag.cli.progress import console, reading
from offdiag.recipes.demo import DEMO_HEADS, run_demo
from offdiag.report.page import write_report
from offdiag.results.history import RunRecord

EPOCHS = 100


@dataclass(frozen=True, kw_only=True)
class Demo:
    """Train on the embedded digits with four heads, and write one page that compares them."""

    out: Path = Path("demo")
    """Directory for report.html, summary.json and the runs; must not exist."""
    seed: int = 0

    def run(self) -> None:
        start = time.perf_counter()
        console.print(f"training {', '.join(DEMO_HEADS)} on the digits, about a minute or two ...")
        records = run_demo(self.out, seed=self.seed, epochs=EPOCHS, on_finished=_say)
        page = self.out / "report.html"
        write_report(records, page, title="The prediction head on the digits")
        console.print(_table(records))
        console.print(f"wrote {page} and {self.out / 'summary.json'}", soft_wrap=True)
        console.print(f"took {time.perf_counter() - start:.0f} s")


def _say(record: RunRecord) -> None:
    console.print(f"{record.name}: {reading(record.history[-1])}")


def _table(records: list[RunRecord]) -> Table:
    table = Table("head", "loss", "effective rank", "kNN", "linear probe", title="projection")
    for record in records:
        last, evaluation = record.history[-1], record.evaluation
        assert evaluation is not None  # the digits have labels
        table.add_row(
            record.name,
            f"{last.loss:.4f}",
            f"{last.projection.effective_rank:.1f} of {last.projection.dim}",
            f"{evaluation['knn']['projection']:.3f}",
            f"{evaluation['linear']['projection']:.3f}",
        )
    return table
