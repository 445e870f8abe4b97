"""Laws of forecasting the loss of directions."""

import math

import pytest

from offdiag.diagnostics.forecast import forecast
from offdiag.results.observation import Observation
from offdiag.results.readings import Readings


def history(rates, *, steps=range(0, 100, 10), noise=0.0):
    """A run whose i-th direction changes by exp(rate_i step) against the strongest."""
    rows = []
    for k, step in enumerate(steps):
        spectrum = [math.exp(rate * step + noise * (-1) ** k) for rate in rates]
        spectrum[0] = 1.0
        readings = Readings(dim=len(rates), rows=100, spectrum=tuple(spectrum))
        rows.append(Observation(step=step, parts={"projector": readings}))
    return rows


def test_exponential_decay_is_forecast_exactly():
    """From 1 to 0.01 at rate -0.01: at step log(100) / 0.01."""
    found = forecast(history([0.0, -0.01, -0.01, -0.01]), "projector")
    assert found.at_step == pytest.approx(math.log(100) / 0.01)
    assert found.earliest == pytest.approx(found.at_step, rel=1e-6)
    assert found.latest == pytest.approx(found.at_step, rel=1e-6)
    assert found.directions == 4
    assert "50 % of the projector's 4 directions are gone by step 461" in found.sentence


def test_the_share_picks_the_directions_that_go_first():
    run = history([0.0, -0.001, -0.01, -0.02])
    third, all_three = forecast(run, "projector", share=1 / 3), forecast(run, "projector", share=1)
    assert third.at_step == pytest.approx(math.log(100) / 0.02)
    assert all_three.at_step == pytest.approx(math.log(100) / 0.001)


def test_noise_widens_the_interval_and_rates_that_may_be_zero_never_end():
    found = forecast(history([0.0, -0.0001, -0.0001], noise=0.2), "projector")
    assert found.earliest < found.at_step and found.latest == math.inf
    assert "never" in found.sentence


def test_directions_that_grow_stay():
    found = forecast(history([0.0, 0.01 - 0.02, 0.001, 0.001]), "projector", share=1)
    assert found.at_step == math.inf and "stay" in found.sentence


def test_too_few_readings_give_no_forecast():
    assert forecast(history([0.0, -0.01], steps=range(3)), "projector") is None
    assert forecast([], "projector") is None
