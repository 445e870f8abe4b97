"""The one verdict on a recorded run, for the page, the command and the monitor's file alike."""

import math
from collections.abc import Mapping, Sequence

from offdiag.diagnostics.readings import noise_readings
from offdiag.diagnostics.verdict import Verdict, judge
from offdiag.results.history import RunRecord
from offdiag.results.observation import MonitorRecord, Observation
from offdiag.results.readings import Readings


def judge_run(record: RunRecord | MonitorRecord) -> Verdict:
    """The verdict on a run of `offdiag train`, or on a monitor's file, from its readings alone.

    Each part is compared with Gaussian rows of the same shape (`gaussian_baselines`), so that
    every caller applies the same bounds.
    """
    history = observations(record)
    known = record.noise if isinstance(record, MonitorRecord) else {}
    return judge(history, gaussian_baseline=gaussian_baselines(history, known))


def observations(record: RunRecord | MonitorRecord) -> tuple[Observation, ...]:
    """The record's history in the form that `judge` reads."""
    if isinstance(record, MonitorRecord):
        return record.history
    return tuple(row.observation() for row in record.history)


def gaussian_baselines(
    history: Sequence[Observation], known: Mapping[str, Readings]
) -> dict[str, Readings]:
    """Readings of Gaussian rows of the shape of each part of the last observation.

    `known` has those that were recorded with the run; the others are drawn. A part whose number
    of rows was not recorded has none.
    """
    if not history:
        return {}
    found = {}
    for part, readings in history[-1].parts.items():
        if part in known:
            found[part] = known[part]
        elif readings.rows > 1:
            views = 2 if math.isfinite(readings.alignment) else 1
            found[part] = noise_readings(readings.rows, readings.dim, views=views)
    return found
