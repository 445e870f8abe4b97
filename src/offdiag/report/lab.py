"""The page of the theory lab: sentences, tables and charts, in the look of the report.

As self-contained as the report: no network, every name escaped, every script accounted for
by the page's policy.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import altair as alt

from offdiag._files import write_whole
from offdiag.report.document import chart_spec, render


@dataclass(frozen=True, kw_only=True)
class Panel:
    """A chart with its heading and a sentence on how to read it."""

    title: str
    how: str
    chart: alt.TopLevelMixin


@dataclass(frozen=True, kw_only=True)
class Table:
    """A heading row and rows of words."""

    head: Sequence[str]
    rows: Sequence[Sequence[str]]


@dataclass(frozen=True, kw_only=True)
class Part:
    """A section of the page: a heading, a lead, a table, and panels in a grid."""

    heading: str
    lead: str = ""
    table: Table | None = None
    panels: Sequence[Panel] = ()


def write_lab(path: Path, *, title: str, lede: Sequence[str], parts: Sequence[Part]) -> None:
    """Write the page, whole or not at all."""
    specs = [[chart_spec(panel.chart) for panel in part.panels] for part in parts]
    parts_with_specs = list(zip(parts, specs, strict=True))
    write_whole(path, render("lab.html.j2", title=title, lede=lede, parts=parts_with_specs))
