"""When directions will be gone, at the rate at which they shrink now."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from offdiag.results.observation import Observation
from offdiag.results.readings import NAN

GONE = 0.01
"""A direction is gone below this share of the strongest one's variance."""
READINGS = 8
"""The rates are of the latest readings, this number of them."""
LEAST = 4
DEVIATIONS = 2.0
"""Half the interval, in standard errors of a rate: about 95 %."""


@dataclass(frozen=True, kw_only=True)
class Forecast:
    """At what step a share of a part's directions will be gone, if the present rates hold.

    `share` of the directions that are there at `step` (above 1 % of the strongest) fall below it
    by `at_step`; the interval is of the rates' standard errors, `latest` inf where the rates may
    as well be 0. `per_step` is the median rate of log v_i / v_1.
    """

    part: str
    step: int
    share: float
    directions: int
    at_step: float
    earliest: float
    latest: float
    per_step: float

    @property
    def sentence(self) -> str:
        """One line for the page and the command."""
        words = f"{100 * self.share:.0f} % of the {self.part}'s {self.directions} directions"
        if not math.isfinite(self.at_step):
            return f"At the present rate {words} stay."
        to = f"{self.latest:.0f}" if math.isfinite(self.latest) else "never"
        return (
            f"At the present rate {words} are gone by step {self.at_step:.0f} "
            f"({self.earliest:.0f} to {to})."
        )


def forecast(history: Sequence[Observation], part: str, *, share: float = 0.5) -> Forecast | None:
    """When `share` of the directions of a part will be gone; None where there is too little.

    The spectrum of each reading is sorted, so that direction i is the i-th strongest. A line is
    fitted to log(v_i / v_1) over the latest readings by least squares; direction i falls below 1 %
    after log(v_i / (0.01 v_1)) / -slope steps. The time for the share is the quantile over the
    directions that are there, and so are its ends at the slopes' two standard errors.
    """
    rows = [row for row in history if part in row.parts and len(row.parts[part].spectrum) > 1]
    rows = rows[-READINGS:]
    if len(rows) < LEAST:
        return None
    width = min(len(row.parts[part].spectrum) for row in rows)
    spectra = np.array([row.parts[part].spectrum[:width] for row in rows], dtype=float)
    if not (np.isfinite(spectra).all() and (spectra[:, 0] > 0).all()):
        return None
    logs = np.log(np.maximum(spectra / spectra[:, :1], 1e-12))
    there = logs[-1] > math.log(GONE)
    there[0] = False  # the strongest is the measure
    if not there.any():
        return None
    steps = np.array([row.step for row in rows], dtype=float)
    slopes, errors = _lines(steps, logs[:, there])
    room = logs[-1, there] - math.log(GONE)
    last = rows[-1].step
    times = [
        _quantile([_steps(gap, rate) for gap, rate in zip(room, rates, strict=True)], share)
        for rates in (slopes, slopes - DEVIATIONS * errors, slopes + DEVIATIONS * errors)
    ]
    return Forecast(
        part=part,
        step=last,
        share=share,
        directions=int(there.sum()) + 1,
        at_step=last + times[0],
        earliest=last + times[1],
        latest=last + times[2],
        per_step=float(np.median(slopes)),
    )


def _lines(steps: np.ndarray, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Slopes of each column over the steps, and their standard errors."""
    x = steps - steps.mean()
    power = (x**2).sum()
    slopes = x @ values / power
    rest = values - values.mean(0) - np.outer(x, slopes)
    errors = np.sqrt((rest**2).sum(0) / max(len(steps) - 2, 1) / power)
    return slopes, errors


def _steps(room: float, rate: float) -> float:
    return room / -rate if rate < 0 else math.inf


def _quantile(times: list[float], share: float) -> float:
    ordered = sorted(times)
    place = max(0, math.ceil(share * len(ordered)) - 1)
    return ordered[place] if ordered else NAN
