"""`offdiag diagnose`"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from rich.console import Console
from rich.table import Table
from rich.text import Text
from tyro.conf import Positional

from offdiag._checks import ConfigError
from offdiag._files import make_folder
from offdiag.diagnostics.diagnosis import Diagnosis
from offdiag.diagnostics.verdict import Kind
from offdiag.report.ranges import at_the_end, neighbours, reading_rows
from offdiag.runs.diagnose import diagnose
from offdiag.runs.diagnose_pair import diagnose_pair

HEALTHY, COLLAPSED, CANNOT_TELL = 0, 3, 4
"""Exit statuses; what cannot be read ends with 2, as everywhere."""
console = Console(highlight=False)
STYLES: Mapping[Kind, str] = {
    Kind.HEALTHY: "green",
    Kind.PROJECTION: "yellow",
    Kind.UNKNOWN: "yellow",
}


@dataclass(frozen=True, kw_only=True)
class Diagnose:
    """Say whether a run or a set of embeddings collapses. Exit status: 0 healthy, 3 collapse
    (complete, dimensional, or setting in), nothing learned, or diverged; 4 cannot tell; 2 the
    input cannot be used. It follows the features where they were read."""

    sources: Annotated[tuple[Path, ...], Positional]
    """A run directory, a monitor.jsonl, or embeddings (images x width) in a file that ends in
    .npy, .npz, .pt, .safetensors, .parquet, .csv or .jsonl. Two of a kind are compared: CKA,
    neighbours, directions lost and gained; then the exit status is that of the second."""
    views: Path | None = None
    """A second view of the same images, row by row: adds alignment and LiDAR."""
    labels: Path | None = None
    """A class for each row (a file as above, or .txt, one a line): adds nearest neighbours, which
    the verdict does not see."""
    key: str | None = None
    """The name of the array in a file that has several."""
    tokens: Literal["mean", "flatten"] | None = None
    """For (images x tokens x width): the mean over tokens, or a row for each token."""
    json: bool = False
    """Print JSON instead of a table."""
    out: Path | None = None
    """Write a page to this file."""

    def run(self) -> int:
        if self.out is not None:
            if self.out.is_dir():
                raise ConfigError(f"--out needs a file to write; {self.out} is a folder.")
            make_folder(self.out.parent)
        if len(self.sources) == 2:
            return self._compare()
        if len(self.sources) != 1:
            raise ConfigError(
                f"diagnose takes one source, or two to compare; got {len(self.sources)}."
            )
        diagnosis = diagnose(
            self.sources[0], views=self.views, labels=self.labels, key=self.key, tokens=self.tokens
        )
        if self.out is not None:  # first: who reads the table through `head` wants the page too
            # Here: the chart library takes a second and 150 MiB that a pipeline need not spend.
            from offdiag.report.diagnosis import write_diagnosis

            write_diagnosis(diagnosis, self.out)
        if self.json:
            print(json.dumps(diagnosis.to_dict(), indent=1, allow_nan=False))
        else:
            _print(diagnosis)
            if self.out is not None:
                console.print(_printable(f"wrote {self.out}"), soft_wrap=True, markup=False)
        return status(diagnosis)

    def _compare(self) -> int:
        if self.views is not None:
            raise ConfigError(
                "--views goes with one file of embeddings: leave it out, or compare "
                "the views as two files."
            )
        pair = diagnose_pair(*self.sources, labels=self.labels, key=self.key, tokens=self.tokens)
        if self.out is not None:
            from offdiag.report.pair import write_pair

            write_pair(pair, self.out)
        if self.json:
            print(json.dumps(pair.to_dict(), indent=1, allow_nan=False))
            return status(pair.second)
        for one in (pair.first, pair.second):
            said = Text(_printable(one.name), style="bold").append(": ")
            said.append(one.verdict.kind.value, style=STYLES.get(one.verdict.kind, "red"))
            said.append(f". {one.verdict.sentence}", style="not bold default")
            console.print(said, soft_wrap=True)
        for line in (*pair.sentences(), *pair.notes):
            console.print(Text(f"  {_printable(line)}"), soft_wrap=True)
        if self.out is not None:
            console.print(_printable(f"wrote {self.out}"), soft_wrap=True, markup=False)
        return status(pair.second)


def status(diagnosis: Diagnosis) -> int:
    """The exit status that says the verdict."""
    if diagnosis.healthy:
        return HEALTHY
    return COLLAPSED if diagnosis.collapsed else CANNOT_TELL


def _print(diagnosis: Diagnosis) -> None:
    verdict = diagnosis.verdict
    said = Text(verdict.kind.value, style=f"bold {STYLES.get(verdict.kind, 'red')}")
    said.append(". ").append(verdict.sentence, style="not bold default")
    console.print(said, soft_wrap=True)
    alarms = [cause for cause in diagnosis.causes if cause.alarm]
    for cause in alarms:
        since = "" if cause.since_step is None else f", since step {cause.since_step:,}"
        console.print(Text(_printable(f"cause: {cause.title}{since}. {cause.sentence}"), "bold"))
        console.print(Text(_printable(f"change: {cause.change}")), soft_wrap=True)
    if diagnosis.causes and not alarms and not diagnosis.healthy:
        console.print("No mark of a known cause is outside its bound.")
    # Text, not markup: a name may hold brackets.
    lines = (*at_the_end(diagnosis), *neighbours(diagnosis), *verdict.evidence, *diagnosis.notes)
    for line in lines:
        console.print(Text(f"  {_printable(line)}"), soft_wrap=True)
    for part, rows in reading_rows(diagnosis).items():
        reference = part in diagnosis.noise
        started = part in diagnosis.start
        grid = Table(
            title=Text(f"{_printable(part)}, {diagnosis.readings[part].dim:,} wide"),
            title_justify="left",
        )
        grid.add_column("reading")
        grid.add_column("value", justify="right")
        if reference:
            grid.add_column("noise", justify="right")
        if started:
            grid.add_column("start", justify="right")
        grid.add_column("range", justify="right")
        for row in rows:
            cells = [row.title, row.value.text]
            cells += [row.noise.text] if reference else []
            cells += [row.start.text] if started else []
            grid.add_row(*cells, row.bounds)
        console.print(grid)
    if diagnosis.causes:
        return
    for advice in verdict.advice:
        console.print(
            Text(f"not ruled out: {advice.cause}. Try: {advice.remedy} ({advice.source})"),
            soft_wrap=True,
        )


def _printable(text: str) -> str:
    """Without the stray surrogates that a file name may hold and a terminal cannot show."""
    return text.encode("utf-8", "replace").decode()
