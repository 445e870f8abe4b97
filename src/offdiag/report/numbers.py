"""Numbers as a reader wants them: sensible digits, units, and an en dash where there is none."""

import math
from dataclasses import dataclass

MISSING = "–"


@dataclass(frozen=True, kw_only=True)
class Cell:
    """What stands in a table cell; `why` explains a dash."""

    text: str
    why: str = ""


def cell(text: str | None, *, otherwise: str) -> Cell:
    """`text`, or a dash that explains itself."""
    return Cell(text=MISSING, why=otherwise) if text is None else Cell(text=text)


def significant(value: float | None, digits: int = 3) -> str | None:
    """`digits` significant digits, exponents only far from 1; None if missing or not finite."""
    if value is None or not math.isfinite(value):
        return None
    if value != 0 and not 1e-4 <= abs(value) < 1e6:
        return f"{value:.{digits - 1}e}"
    magnitude = math.floor(math.log10(abs(value))) if value else 0
    return f"{value:.{max(digits - 1 - magnitude, 0)}f}"


def percent(share: float | None) -> str | None:
    """A share in [0, 1] in per cent with one decimal."""
    return None if share is None or not math.isfinite(share) else f"{100 * share:.1f}\u00a0%"


def duration(seconds: float) -> str | None:
    """Seconds as hours, minutes and seconds, the two largest units that are not 0."""
    if not math.isfinite(seconds):
        return None
    if seconds < 10:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"


def epoch(value: float) -> str:
    """An epoch as a whole number where it is one."""
    return f"{value:.4g}" if value < 1000 else f"{value:.0f}"
