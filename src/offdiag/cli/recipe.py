"""`--recipe NAME --size SIZE`: a command's defaults are the recipe's, its other words override."""

from collections.abc import Sequence

from offdiag._checks import ConfigError
from offdiag.cli.part_settings import last_value
from offdiag.runs.config import RunConfig
from offdiag.runs.recipes import recipe


def chosen_recipe(words: Sequence[str]) -> RunConfig | None:
    """The settings of the recipe that the words name, or None if they name none."""
    name, size = last_value("--recipe", words), last_value("--size", words)
    if name is None:
        if size is not None:
            raise ConfigError("--size is the size of a recipe: give --recipe NAME as well.")
        return None
    return recipe(name) if size is None else recipe(name, size=size)
