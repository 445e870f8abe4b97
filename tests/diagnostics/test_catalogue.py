"""The catalogue of readings: every number has one row, and the documentation is written from it."""

from dataclasses import fields
from pathlib import Path

import pytest

from offdiag.diagnostics.catalogue import HEAD_READINGS, READINGS
from offdiag.diagnostics.reading_tables import with_tables
from offdiag.results.readings import HeadReadings, Readings

PAGE = Path(__file__).parents[2] / "docs" / "readings.md"


def test_every_number_of_a_part_and_of_a_head_has_one_row():
    of_parts = [f.name for f in fields(Readings) if f.name not in ("dim", "rows", "spectrum")]
    assert sorted(one.name for one in READINGS) == sorted(of_parts)
    assert sorted(one.name for one in HEAD_READINGS) == sorted(f.name for f in fields(HeadReadings))


@pytest.mark.parametrize("one", READINGS, ids=lambda one: one.name)
def test_the_ends_of_a_range_differ_and_are_finite(one):
    shape = Readings(dim=64, rows=2048)
    assert one.collapsed is not None and one.spread is not None
    ends = one.collapsed(shape), one.spread(shape)
    assert ends[0] != ends[1] and all(abs(end) < 1e9 for end in ends)
    assert one.caption.endswith(".") and one.formula and one.range


def test_the_tables_of_the_documentation_are_those_of_the_catalogue():
    """If this fails: python -m offdiag.diagnostics.reading_tables docs/readings.md"""
    page = PAGE.read_text()
    assert with_tables(page) == page
    for one in (*READINGS, *HEAD_READINGS):
        assert page.count(f"| `{one.name}` |") == 1
