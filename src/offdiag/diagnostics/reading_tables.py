"""The documentation's tables of readings, written from the catalogue.

python -m offdiag.diagnostics.reading_tables docs/readings.md
"""

import re
import sys
from collections.abc import Sequence
from pathlib import Path

from offdiag.diagnostics.catalogue import HEAD_READINGS, READINGS, Reading

BLOCK = re.compile(r"(<!-- readings of (\w+) -->\n).*?(<!-- end -->)", re.DOTALL)
"""What lies between these two comments is written, not edited."""


def part_table() -> str:
    """The readings of a part's output as a Markdown table."""
    titles = ("reading", "formula", "range", "low", "high", "centred", "source")
    return _table(titles, READINGS)


def head_table() -> str:
    """The readings of a prediction head as a Markdown table."""
    return _table(("reading", "formula", "range", "low", "high", "source"), HEAD_READINGS)


def with_tables(page: str) -> str:
    """The page with the tables of the present catalogue between its comments."""
    tables = {"parts": part_table, "heads": head_table}
    return BLOCK.sub(lambda found: found[1] + tables[found[2]]() + found[3], page)


def _table(titles: Sequence[str], readings: Sequence[Reading]) -> str:
    lines = [_line(titles), "|---" * len(titles) + "|"]
    for one in readings:
        cells = {title: getattr(one, title, "") for title in titles} | {"reading": f"`{one.name}`"}
        lines.append(_line([cells[title] for title in titles]))
    return "\n".join(lines) + "\n"


def _line(cells: Sequence[str]) -> str:
    return "".join(f"| {cell} " if cell else "| " for cell in cells) + "|"


if __name__ == "__main__":
    for name in sys.argv[1:]:
        Path(name).write_text(with_tables(Path(name).read_text()))
