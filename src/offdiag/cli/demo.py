"""`offdiag demo`"""

import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from rich.live import Live
from rich.table import Table

from offdiag.cli.progress import console, reading
from offdiag.report.beside import theory_section
from offdiag.report.page import write_report
from offdiag.results.history import METRICS_FILE, RunRecord, read_history
from offdiag.runs.demo import DEMO_HEADS, demo

EPOCHS = 100


@dataclass(frozen=True, kw_only=True)
class Demo:
    """Train on the embedded digits with four heads, and write one page that compares them."""

    out: Path = Path("demo")
    """Directory for report.html, summary.json and the runs; must not exist."""
    seed: int = 0

    def run(self) -> None:
        start = time.perf_counter()
        console.print(f"training {', '.join(DEMO_HEADS)} on the digits: a minute or two")
        with ThreadPoolExecutor(1) as beside:
            theory = beside.submit(theory_section)  # the first time it compiles meanwhile
            if console.is_terminal:
                with Live(get_renderable=self._standing, console=console, refresh_per_second=2):
                    records = demo(self.out, seed=self.seed, epochs=EPOCHS)
            else:
                records = demo(self.out, seed=self.seed, epochs=EPOCHS, on_finished=_say)
        page = self.out / "report.html"
        write_report(
            records,
            page,
            title="The prediction head on the digits",
            extra_sections=[theory.result()],
        )
        for name in (page, self.out / "summary.json"):
            console.print(f"wrote {name}", soft_wrap=True)
        console.print(f"took {time.perf_counter() - start:.0f} s")

    def _standing(self) -> Table:
        """Where each run stands, from what it has written so far."""
        table = Table("head", "epoch", "loss", "effective rank", "kNN", title="projection")
        for head in DEMO_HEADS:
            history = read_history(self.out / head / METRICS_FILE)
            if not history:
                table.add_row(head, "waits", "", "", "")
                continue
            last = history[-1]
            table.add_row(
                head,
                f"{last.epoch:.0f} of {EPOCHS}",
                f"{last.loss:.4f}",
                f"{last.projection.effective_rank:.1f} of {last.projection.dim}",
                f"{last.knn['projection']:.3f}" if last.knn else "",
            )
        return table


def _say(record: RunRecord) -> None:
    console.print(f"{record.name}: {reading(record.history[-1])}", soft_wrap=True)
