"""Laws of the verdict on one run."""

import math
from dataclasses import replace

import pytest

from offdiag.diagnostics.verdict import Kind, judge, rank_floor

from ..report import synthetic


def history(rank: float, *, spread: float = 0.95, width: int = 64):
    row = synthetic.run("a", width=width, rows=[1, 2]).history[-1]
    projection = synthetic.readings(width, rank, spread=spread)
    return (row, replace(row, projection=projection))


@pytest.mark.parametrize(
    ("rank", "spread", "kind"),
    [
        (14.6, 0.95, Kind.HEALTHY),
        (6.5, 0.95, Kind.HEALTHY),
        (6.3, 0.95, Kind.DIMENSIONAL),
        (1.0, 0.95, Kind.DIMENSIONAL),
        (14.6, 0.05, Kind.COMPLETE),
        (math.nan, 0.0, Kind.COMPLETE),
        (math.nan, 0.95, Kind.UNKNOWN),
        (14.6, math.nan, Kind.UNKNOWN),
    ],
)
def test_the_rule_in_a_table(rank, spread, kind):
    rows = history(14.6, spread=spread)
    last = replace(rows[-1], projection=replace(rows[-1].projection, effective_rank=rank))
    assert judge((rows[0], last)).kind is kind


def test_the_verdict_does_not_ask_for_the_loss():
    rows = history(3.0)
    kinds = {judge((rows[0], replace(rows[1], loss=loss))).kind for loss in (0.0, 0.5, math.nan)}
    assert kinds == {Kind.DIMENSIONAL}


def test_a_single_reading_or_a_narrow_projection_cannot_tell():
    assert judge(history(3.0)[1:]).kind is Kind.UNKNOWN
    assert judge(history(1.5, width=8)).kind is Kind.UNKNOWN


def test_the_last_reading_decides():
    low, high = history(3.0)[1], history(20.0)[1]
    assert judge((low, high)).kind is Kind.HEALTHY
    assert judge((high, low)).kind is Kind.DIMENSIONAL


def test_a_wide_projection_needs_ten_directions():
    assert rank_floor(2048) == rank_floor(100) == 10
    rows = history(12.0, width=300)
    verdict = judge(rows)
    assert verdict.kind is Kind.HEALTHY
    assert "of 300" in verdict.sentence


def test_the_evidence_holds_the_readings_and_their_bounds():
    verdict = judge(history(3.0))
    assert verdict.evidence[0] == (
        "effective rank of the projection 3.0 of 64 (collapse: below 6.4)"
    )
    assert "0.119" in verdict.evidence[1] and "0.125" in verdict.evidence[1]
    assert len(verdict.evidence) == 3
