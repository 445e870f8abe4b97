"""The paper's figure on one's own runs: how the head departs from the identity and returns."""

from collections.abc import Callable, Sequence

import altair as alt

from offdiag.plots.theme import PALETTE
from offdiag.results.history import RunRecord
from offdiag.results.readings import HeadReadings

PANELS: tuple[tuple[str, Callable[[HeadReadings], float]], ...] = (
    ("off-diagonal norm |offdiag E|", lambda head: head.off_diagonal_norm),
    ("asymmetry norm |E − E^T|", lambda head: head.asymmetry * head.off_diagonal_norm),
    ("their ratio", lambda head: head.asymmetry),
)


UNRELATED = 2**0.5


def head_course(records: Sequence[RunRecord], *, width: int = 250) -> alt.TopLevelMixin:
    """Three panels over the epochs (Wen & Li 2022, section 4): norm, asymmetry, their ratio.

    One line a run, named by the record, which must be of runs whose head is a matrix. The
    ratio is 0 for a symmetric head; the dashed line at sqrt(2) is that of unrelated entries.
    Before the head has moved the ratio has no value and is left out.
    """
    names = [record.name for record in records]
    panels = []
    for title, of in PANELS:
        lines = (
            alt.Chart(alt.InlineData(values=points(records, of)))
            .mark_line()
            .encode(
                x=alt.X("epoch:Q", title="epoch"),
                y=alt.Y("value:Q", title=title),
                color=alt.Color(
                    "run:N", scale=alt.Scale(domain=names, range=list(PALETTE)), title=None
                ),
            )
        )
        layers = [lines]
        if title == PANELS[2][0]:
            rule = alt.Chart(alt.InlineData(values=[{"level": UNRELATED}]))
            layers.append(rule.mark_rule(strokeDash=[5, 4], opacity=0.6).encode(y="level:Q"))
        panels.append(alt.layer(*layers).properties(width=width, height=round(0.8 * width)))
    return alt.hconcat(*panels, spacing=24)


def points(
    records: Sequence[RunRecord], of: Callable[[HeadReadings], float]
) -> list[dict[str, str | float]]:
    """One reading at every row whose head has left the identity."""
    return [
        {"run": record.name, "epoch": row.epoch, "value": of(row.head)}
        for record in records
        for row in record.history
        if row.head is not None and row.head.off_diagonal_norm > 0
    ]
