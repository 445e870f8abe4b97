"""The error tree, and the wording of the few checks on what a user gives.

Every message says what was expected, what came, and what to do. The command
line prints the message alone and exits non-zero; anything else that escapes is
a bug of ours and keeps its traceback.
"""

import math
from collections.abc import Iterable


class OffdiagError(Exception):
    """A user can mend this: one sentence, printed without a traceback."""


class ConfigError(OffdiagError):
    """A setting is out of range, unknown, or at odds with another one.

    Not a ValueError: the command-line parser would draw those as a box around its
    own names for things, and the sentence is all that a user needs.
    """


class DataError(OffdiagError, ValueError):
    """The images, labels or embeddings given cannot be used as they are."""


class RunError(OffdiagError, RuntimeError):
    """A run directory or checkpoint cannot be written, read or continued."""


class TrainingError(OffdiagError, RuntimeError):
    """Training stopped by itself; the message says at which step and why."""


def choice(kind: str, name: str, known: Iterable[str]) -> str:
    """Return `name` if it is one of `known`; otherwise say which names there are."""
    known = list(known)
    if name not in known:
        raise ConfigError(f"unknown {kind} {name!r}: choose one of {', '.join(known)}.")
    return name


def at_least(what: str, value: float, low: float) -> None:
    """Refuse a value below `low`, infinite or not a number, naming the setting."""
    if not low <= value < math.inf:
        finite = " and finite" if value == math.inf else ""
        raise ConfigError(f"{what} must be at least {low:g}{finite}; got {value:g}.")


def above_zero(what: str, value: float) -> None:
    """Refuse a value that is 0, negative or not a number, naming the setting."""
    if not value > 0:
        raise ConfigError(f"{what} must be above 0; got {value:g}.")


def within(what: str, value: float, low: float, high: float) -> None:
    """Refuse a value outside [low, high], naming the setting."""
    if not low <= value <= high:
        raise ConfigError(f"{what} must lie in [{low:g}, {high:g}]; got {value:g}.")
