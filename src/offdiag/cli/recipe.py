"""`--recipe NAME --size SIZE`: a command's defaults are the recipe's, its other words override."""

from collections.abc import Sequence
from dataclasses import MISSING, fields
from typing import Any

import tyro

from offdiag._checks import ConfigError
from offdiag.runs.recipes import recipe


def defaults(command: type, words: Sequence[str]) -> Any:
    """An instance of `command` with the settings of the recipe that `words` name, or None."""
    name, size = _value("--recipe", words), _value("--size", words)
    if name is None:
        if size is not None:
            raise ConfigError("--size is the size of a recipe: give --recipe NAME as well.")
        return None
    required = {
        field.name: tyro.MISSING
        for field in fields(command)
        if field.default is MISSING and field.default_factory is MISSING
    }
    chosen = recipe(name) if size is None else recipe(name, size=size)
    return command(**required, config=chosen, recipe=name, size=size)


def _value(option: str, words: Sequence[str]) -> str | None:
    """The word that follows `option`, or stands behind its equals sign; the last one counts."""
    found = None
    for word, following in zip(words, [*words[1:], None], strict=True):
        if word == option:
            found = following
        elif word.startswith(option + "="):
            found = word.partition("=")[2]
    return found
