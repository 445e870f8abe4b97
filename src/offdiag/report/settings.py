"""The exact settings, versions and commands behind each run, and where the runs differ."""

import json
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from offdiag.report.numbers import MISSING
from offdiag.results.history import RunRecord


@dataclass(frozen=True, kw_only=True)
class Setting:
    """One setting of all runs, by its dotted path."""

    path: str
    values: tuple[str, ...]

    @property
    def differs(self) -> bool:
        return len(set(self.values)) > 1


def settings(descriptions: Sequence[Mapping[str, Any]]) -> list[Setting]:
    """Every setting that any of the descriptions has, in their order; a dash where one lacks it."""
    flat = [_flat(description) for description in descriptions]
    paths = dict.fromkeys(path for one in flat for path in one)
    return [
        Setting(path=path, values=tuple(one.get(path, MISSING) for one in flat)) for path in paths
    ]


def command(record: RunRecord) -> str | None:
    """The command that trains this run again, into a new directory.

    None for a run of a method or data of one's own, which no command makes.
    """
    if record.description.own or record.config.get("data") == "own":
        return None
    # The shell must not take a run's name for an option.
    out = ["--out", f"./{record.name}-again"]
    return shlex.join(["offdiag", "train", *flags(record.config), *out])


def flags(config: Mapping[str, Any]) -> list[str]:
    """The words that give these settings on the command line."""
    words: list[str] = []
    for key, value in config.items():
        flag = "--" + key.replace("_", "-")
        if key == "settings":  # of the parts: --method.variance 25
            for part, own in value.items():
                words += flags({f"{part}.{name}": setting for name, setting in own.items()})
            continue
        if key == "stream":  # True, False or None, so the parser wants the word
            words += [] if value is None else [flag, str(value)]
        elif isinstance(value, bool):
            words.append(flag if value else flag.replace("--", "--no-", 1))
        elif isinstance(value, list | tuple):
            words += [flag, *(str(item) for item in value)] if value else []
        elif value is not None:
            words += [flag, str(value)]
    return words


def _flat(description: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    flat: dict[str, str] = {}
    for key, value in description.items():
        if isinstance(value, Mapping):
            flat |= _flat(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = _plain(value)
    return flat


def _plain(value: Any) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, list | tuple):
        return ", ".join(_plain(item) for item in value)
    return json.dumps(value, default=str)
