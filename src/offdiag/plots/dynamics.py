"""Pictures of any dynamics: its readings over time."""

from collections.abc import Sequence

import altair as alt
import numpy as np
from jaxtyping import Float

from offdiag.plots.thinning import kept_points

HEIGHT = 190
POINTS = 400
TIME_TITLE = "time (learning rate × steps)"
STRETCHED = 30.0  # a logarithmic time axis where half of the change is over by 1 / 30 of the time


def reading_over_time(
    time: Float[np.ndarray, " times"],
    values: Float[np.ndarray, "times ..."],
    *,
    name: str,
    log_time: bool = False,
) -> alt.Chart:
    """One reading against time, a line for each mode where it has several."""
    table = np.asarray(values, float).reshape(len(time), -1)
    shown = time > 0 if log_time else np.ones(len(time), bool)
    keep = [i for i in kept_points(table.T.tolist(), POINTS) if shown[i]]
    many = table.shape[1] > 1
    rows = [
        {"mode": str(j + 1), "time": float(time[i]), "value": float(table[i, j])}
        for j in range(table.shape[1])
        for i in keep
        if np.isfinite(table[i, j])
    ]
    return (
        alt.Chart(alt.InlineData(values=rows))
        .mark_line()
        .encode(
            x=alt.X(
                "time:Q",
                title=TIME_TITLE,
                scale=alt.Scale(type="log" if log_time else "linear", nice=False),
            ),
            y=alt.Y("value:Q", title=name.replace("_", " ")),
            color=alt.Color("mode:N", legend=alt.Legend() if many else None, sort=None),
        )
        .properties(width="container", height=HEIGHT)
    )


def wants_log_time(
    time: Float[np.ndarray, " times"], readings: Sequence[Float[np.ndarray, "times ..."]]
) -> bool:
    """Whether most of the change is over long before the end, so that time is best in log."""
    for values in readings:
        table = np.asarray(values, float).reshape(len(time), -1)
        change = np.abs(np.diff(table, axis=0)).sum(1)
        if change.sum() > 0:
            half = int(np.searchsorted(np.cumsum(change), change.sum() / 2))
            return bool(time[min(half + 1, len(time) - 1)] < time[-1] / STRETCHED)
    return False
