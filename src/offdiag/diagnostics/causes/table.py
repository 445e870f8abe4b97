"""The catalogue of causes as a table for the docs."""

from collections.abc import Iterable

from offdiag.diagnostics.causes.cause import Cause

HEADER = "| cause | what is measured | red | where the bound comes from | what to change |"


def row(cause: Cause) -> str:
    """One line of Markdown: title and key, mark, bound, its source, and the change in torch."""
    change = cause.change["torch"].replace("{{", "{").replace("}}", "}")
    for word in ("step", "part", "term"):
        change = change.replace(f"the {{{word}}}", f"that {word}")
        change = change.replace(f"{{{word}}}", f"that {word}")
    kind = f"{cause.bound:g}, {cause.strength}"
    cells = (f"{cause.title} (`{cause.key}`)", cause.mark, kind, cause.bound_source, change)
    return f"| {' | '.join(cells)} |"


def table(causes: Iterable[Cause]) -> str:
    """All rows, in the catalogue's order."""
    return "\n".join((HEADER, "|---|---|---|---|---|", *(row(cause) for cause in causes)))
