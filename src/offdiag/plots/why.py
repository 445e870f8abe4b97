"""A chart of interventions: what each change is worth, with its interval."""

import altair as alt

from offdiag.results.intervention import UNCHANGED, Why

ROW_PIXELS = 26


def effects(why: Why) -> alt.LayerChart | alt.FacetChart:
    """Directions at the end of each branch with its interval, against the unchanged one."""
    found = why.effects()
    names = [effect.change for effect in found]
    rows = [
        {
            "change": effect.change,
            "directions": effect.directions,
            "low": why.unchanged + effect.low if effect.seeds > 1 else effect.directions,
            "high": why.unchanged + effect.high if effect.seeds > 1 else effect.directions,
        }
        for effect in found
    ]
    data = alt.InlineData(values=rows)
    y = alt.Y("change:N", sort=names, title=None)
    base = alt.Chart(data)
    interval = base.mark_rule().encode(
        y=y, x=alt.X("low:Q", title="directions at the end"), x2="high:Q"
    )
    point = base.mark_point(filled=True, size=60).encode(y=y, x="directions:Q")
    zero = (
        alt.Chart(alt.InlineData(values=[{"directions": why.unchanged, "change": UNCHANGED}]))
        .mark_rule(strokeDash=[4, 3])
        .encode(x="directions:Q")
    )
    return alt.layer(zero, interval, point).properties(
        width="container",
        height=ROW_PIXELS * max(len(rows), 1),
        description=f"Directions left after {why.steps} steps for each change, with 95 % "
        f"intervals; the dashed line is the unchanged branch.",
    )
