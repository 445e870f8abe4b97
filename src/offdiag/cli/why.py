"""`offdiag why`"""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import joblib
from rich.console import Console
from rich.table import Table
from tyro.conf import Positional

from offdiag._checks import at_least
from offdiag.results.intervention import UNCHANGED, Branch, Why
from offdiag.runs.why import STEPS, why_run

console = Console(highlight=False)
CHART_FILE = "why.svg"


@dataclass(frozen=True, kw_only=True)
class WhyCommand:
    """Say which change brings a run's directions back: branches from its last checkpoint, or from
    fresh weights if that has collapsed, each with one thing changed. Goes on where it stopped."""

    run_directory: Annotated[Path, Positional]
    """The run."""
    steps: int = STEPS
    """Steps of each branch."""
    seeds: int = 3
    """Branches of each change, with other batches."""
    jobs: int | None = None
    """Branches at a time; by default one for each core."""

    def run(self) -> None:
        at_least("the number of seeds", self.seeds, 1)
        jobs = joblib.cpu_count() if self.jobs is None else self.jobs
        at_least("the number of jobs", jobs, 1)

        def ended(branch: Branch) -> None:
            console.print(
                f"  {branch.change}, seed {branch.seed}: {branch.directions:.1f} directions",
                markup=False,
            )

        found = why_run(
            self.run_directory,
            steps=self.steps,
            seeds=range(self.seeds),
            jobs=jobs,
            ended=ended,
        )
        console.print(_table(found))
        console.print(_sentence(found), markup=False)
        # Here: the chart library takes a second that nothing before it needs.
        from offdiag.plots.export import save_chart
        from offdiag.plots.why import effects

        chart = self.run_directory / "why" / f"{self.steps}" / CHART_FILE
        save_chart(effects(found), chart)
        console.print(f"wrote {chart}", soft_wrap=True, markup=False)


def _table(found: Why) -> Table:
    table = Table(title=f"{found.steps} steps from {found.start}", title_justify="left")
    table.add_column("change")
    for column in ("directions", "gain", "95 % interval"):
        table.add_column(column, justify="right")
    table.add_row(UNCHANGED, f"{found.unchanged:.1f}", "", "")
    for effect in found.effects():
        interval = f"{effect.low:+.1f} to {effect.high:+.1f}" if effect.seeds > 1 else "one seed"
        table.add_row(
            effect.change,
            f"{effect.directions:.1f}",
            f"{effect.gain:+.1f}",
            interval,
            style="bold" if effect.certain else None,
        )
    return table


def _sentence(found: Why) -> str:
    """What follows, and no more."""
    first = next(iter(found.effects()), None)
    if first is None or not first.certain:
        return "No change brings directions back for certain: more seeds or steps may decide."
    if first.slower:
        return (
            "Only a smaller learning rate keeps directions for certain, which may just postpone "
            "the collapse: try more steps."
        )
    return (
        f"{first.change[0].upper()}{first.change[1:]} brings back {first.gain:.1f} directions "
        f"({first.low:.1f} to {first.high:.1f})."
    )
