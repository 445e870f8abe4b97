"""`offdiag list`"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any

from tyro.conf import Positional, arg

from offdiag._checks import choice
from offdiag.registry import (
    DATASETS,
    ENCODERS,
    HEADS,
    METHODS,
    NORMALISERS,
    OBJECTIVES,
    OPTIMIZERS,
    PROJECTORS,
    REGULARISERS,
    TAGS,
    TRANSFORMS,
    Entry,
    Setting,
)

TABLES: Mapping[str, Mapping[str, Entry]] = {
    "methods": METHODS,
    "heads": HEADS,
    "objectives": OBJECTIVES,
    "transforms": TRANSFORMS,
    "regularisers": REGULARISERS,
    "normalisers": NORMALISERS,
    "projectors": PROJECTORS,
    "encoders": ENCODERS,
    "optimisers": OPTIMIZERS,
    "data": DATASETS,
}
OTHERS = ("tags",)


@dataclass(frozen=True, kw_only=True)
class List:
    """Print every mechanism there is, with its source and what can be set of it."""

    what: Annotated[
        Positional[str | None], arg(metavar="{" + ",".join((*TABLES, *OTHERS)) + "}")
    ] = None
    """Which table; all of them by default."""
    tags: tuple[str, ...] = ()
    """Only the rows that have all of these tags; `offdiag list tags` explains them."""
    settings: bool = False
    """Print the settings of each row with their defaults as well."""
    json: bool = False
    """Print JSON, settings included."""

    markdown: bool = False
    """Print the tables as docs/mechanisms.md has them."""

    def run(self) -> None:
        if self.what is not None:
            choice("table", self.what, (*TABLES, *OTHERS))
        for tag in self.tags:
            choice("tag", tag, TAGS)
        if self.what == "tags":
            print(json.dumps(dict(TAGS), indent=1) if self.json else _lines(TAGS))
            return
        tables = {self.what: TABLES[self.what]} if self.what else TABLES
        chosen = {
            title: {name: row for name, row in table.items() if row.tags >= set(self.tags)}
            for title, table in tables.items()
        }
        if self.markdown:
            print("\n\n".join(_markdown(title, table) for title, table in chosen.items()))
            return
        if self.json:
            print(json.dumps({t: _plain(table) for t, table in chosen.items()}, indent=1))
            return
        print("\n\n".join(self._text(title, table) for title, table in chosen.items() if table))

    def _text(self, title: str, table: Mapping[str, Entry]) -> str:
        lines = {name: f"{row.summary} ({row.paper})" for name, row in table.items()}
        if not self.settings:
            return f"{title}\n{_lines(lines)}"
        width = max(map(len, lines))
        text = [title]
        for name, row in table.items():
            text.append(f"  {name:{width}}  {lines[name]}")
            for one in _settings(row):
                default = f"{one.default:g}" if isinstance(one.default, float) else one.default
                text.append(f"  {'':{width}}    {one.name} = {default}: {one.help}")
        return "\n".join(text)


def _settings(row: Entry) -> tuple[Setting, ...]:
    """What can be set of a row; of a method that is an objective, what can be set of that."""
    objective = row.parts.get("objective")
    return OBJECTIVES[objective].settings if objective else row.settings


def _lines(table: Mapping[str, str]) -> str:
    width = max(map(len, table))
    return "\n".join(f"  {name:{width}}  {text}" for name, text in table.items())


def _markdown(title: str, table: Mapping[str, Entry]) -> str:
    """A table with name, what it is, source and settings of each row."""
    lines = [f"## {title.capitalize()}", "", "| name | what it is | source | settings |"]
    lines.append("|---|---|---|---|")
    for name, row in table.items():
        settings = ", ".join(f"`{one.name}` {_short(one.default)}" for one in _settings(row))
        lines.append(f"| `{name}` | {row.summary} | {row.paper} | {settings} |")
    return "\n".join(lines)


def _short(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def _plain(table: Mapping[str, Entry]) -> dict[str, Any]:
    return {
        name: {
            "summary": row.summary,
            "paper": row.paper,
            "title": row.title,
            "tags": sorted(row.tags),
            "parts": dict(row.parts),
            "where": f"offdiag.{row.where}",
            "settings": {
                one.name: {"default": one.default, "help": one.help} for one in _settings(row)
            },
        }
        for name, row in table.items()
    }
