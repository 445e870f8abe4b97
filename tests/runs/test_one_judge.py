"""A run gets the same verdict from its page and from the command, whatever its readings."""

import json
from dataclasses import replace

import pytest

from offdiag.diagnostics.run_verdict import judge_run
from offdiag.report.page import render_report
from offdiag.report.sentences import cases
from offdiag.results.history import CONFIG_FILE, METRICS_FILE, RunRecord, append_row
from offdiag.results.readings import Readings
from offdiag.runs.diagnose import diagnose

from ..report import synthetic

ROWS = 2_048


def at_rank(rank: float) -> RunRecord:
    """A run whose projection, 64 wide, has had this effective rank from the start."""
    record = synthetic.run("a run", epochs=12)

    def of(readings: Readings) -> Readings:
        return replace(readings, rows=ROWS)

    history = tuple(
        replace(
            row,
            features=of(row.features),
            projection=of(replace(row.projection, effective_rank=rank)),
            prediction=of(row.prediction),
        )
        for row in record.history
    )
    return replace(record, history=history)


def written(record: RunRecord, directory) -> None:
    described = {"config": record.config, "circumstances": record.circumstances}
    (directory / CONFIG_FILE).write_text(json.dumps(described))
    for row in record.history:
        append_row(directory / METRICS_FILE, row)


@pytest.mark.parametrize("rank", [1.0, 5.05, 5.11, 5.13, 20.0])
def test_the_page_and_the_command_judge_a_run_alike(rank, tmp_path):
    """At 5.11 of 64 the width and Gaussian rows of the same shape are on two sides of a bound."""
    record = at_rank(rank)
    written(record, tmp_path)
    of_command = diagnose(tmp_path, name="a run").verdict
    loaded = RunRecord.load(tmp_path, name="a run")
    assert judge_run(loaded) == of_command
    assert [case.verdict for case in cases([loaded])] == [of_command]
    assert ("does not collapse" in render_report([loaded])) == (of_command.kind == "healthy")
