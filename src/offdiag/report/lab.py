"""The page of the theory lab: sentences, tables and charts, in the look of the report.

As self-contained as the report: no network, every name escaped, every script accounted for
by the page's policy.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import altair as alt
import jinja2

from offdiag._files import write_whole
from offdiag.plots import theme
from offdiag.report.page import _beside, _hash, _library, _script_json, _spec


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
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["chart_json"] = _script_json
    specs = [[_spec(panel.chart) for panel in part.panels] for part in parts]
    page = environment.get_template("lab.html.j2").render(
        title=title,
        lede=lede,
        parts=list(zip(parts, specs, strict=True)),
        grounds={ground: theme.config(ground) for ground in ("light", "dark")},
        style=_beside("page.css"),
        library=_library(),
        script=_beside("page.js"),
        hashes=[_hash(_library()), _hash(_beside("page.js"))],
    )
    write_whole(path, page)
