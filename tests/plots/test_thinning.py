"""Laws of drawing fewer points."""

import numpy as np
import pytest

from offdiag.plots.thinning import evenly, kept_points


def test_a_short_curve_is_drawn_whole():
    assert kept_points([[3.0, 1.0, 2.0]], 10) == [0, 1, 2]


def test_a_long_curve_keeps_its_ends_and_its_extremes_wherever_they_are():
    random = np.random.default_rng(0)
    for _ in range(20):
        curve = random.standard_normal(5_000)
        peak, trough = random.integers(0, 5_000, 2)
        curve[peak], curve[trough] = 99.0, -99.0
        kept = kept_points([curve.tolist()], 100)
        assert {0, 4_999, int(peak), int(trough)} <= set(kept)
        assert len(kept) <= 102
        assert kept == sorted(kept)


def test_curves_on_one_axis_keep_the_same_points():
    up = [float(i) for i in range(1_000)]
    bump = [1.0 if i == 777 else 0.0 for i in range(1_000)]
    kept = kept_points([up, bump], 40)
    assert 777 in kept
    assert len(kept) <= 82


def test_missing_values_are_no_extremes():
    curve = [None if i % 2 else float("nan") for i in range(1_000)]
    curve[500] = 1.0
    assert kept_points([curve], 20) == [0, 500, 999]


@pytest.mark.parametrize("length", [1, 2, 64, 65, 5_000])
def test_even_indices_hold_both_ends_and_no_more_than_asked(length):
    indices = evenly(length, 64)
    assert indices[0] == 0
    assert indices[-1] == length - 1
    assert len(indices) <= 64
    assert np.ptp(np.diff(indices)) <= 1 if length > 2 else True
