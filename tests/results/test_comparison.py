"""Statistics of a grid against computations by hand and by scipy."""

import math

import numpy as np
import pytest
from scipy.stats import ttest_rel

from offdiag.results.comparison import (
    Cell,
    Combination,
    Comparison,
    Difference,
    Ending,
    Spread,
    Status,
    mean_curve,
)
from offdiag.results.history import Row
from offdiag.results.readings import Readings

NUMBERS = dict.fromkeys(Ending.__dataclass_fields__, 0.0)


def cell(head, seed, *, method="simsiam", status=Status.FINISHED, **numbers):
    return Cell(
        name=f"{method}_{head}_bn_seed{seed}",
        combination=Combination(method=method, normaliser="bn", head=head),
        seed=seed,
        status=status,
        ending=Ending(**(NUMBERS | numbers)),
        settings={},
        circumstances={},
    )


def row(epoch, loss):
    read = Readings(dim=4)
    return Row(
        step=1,
        epoch=epoch,
        seconds=1.0,
        loss=loss,
        learning_rate=0.1,
        head_learning_rate=0.1,
        images_per_second=1.0,
        features=read,
        projection=read,
        prediction=read,
        head=None,
        knn=None,
    )


def test_a_paired_difference_is_what_one_computes_by_hand():
    difference = Difference.of({0: 0.9, 1: 0.8, 2: 0.85, 7: 9.0}, {0: 0.7, 1: 0.75, 2: 0.6, 8: 9.0})
    # 0.2, 0.05 and 0.25: seeds 7 and 8 have no partner. 4.302653 is Student's t for two degrees.
    std = math.sqrt((0.0333333**2 + 0.1166667**2 + 0.0833333**2) / 2)
    assert difference.spread.mean == pytest.approx(0.5 / 3)
    assert difference.spread.std == pytest.approx(std, rel=1e-5)
    assert (difference.spread.n, difference.above) == (3, 3)
    half = 4.302653 * std / math.sqrt(3)
    assert difference.low == pytest.approx(0.5 / 3 - half, rel=1e-5)
    assert difference.high == pytest.approx(0.5 / 3 + half, rel=1e-5)


def test_the_interval_holds_what_a_paired_t_test_would_not_reject():
    draw = np.random.default_rng(0)
    for shift in (0.0, 0.5, 1.0, 2.0):
        a, b = draw.standard_normal((2, 6)) + [[shift], [0.0]]
        difference = Difference.of(dict(enumerate(a.tolist())), dict(enumerate(b.tolist())))
        test = ttest_rel(a, b)
        interval = test.confidence_interval(0.95)
        assert (difference.low, difference.high) == pytest.approx((interval.low, interval.high))
        assert (difference.low > 0 or difference.high < 0) == (test.pvalue < 0.05)


def test_swapping_the_two_turns_the_sign_and_mirrors_the_interval():
    a, b = {0: 1.0, 1: 3.0, 2: 2.5}, {0: 0.5, 1: 3.5, 2: 1.0}
    there, back = Difference.of(a, b), Difference.of(b, a)
    assert back.spread.mean == pytest.approx(-there.spread.mean)
    assert (back.low, back.high) == pytest.approx((-there.high, -there.low))
    assert there.above + back.above == 3


def test_one_seed_has_a_mean_and_no_spread():
    alone = Difference.of({4: 2.0}, {4: 1.5})
    assert alone.spread.mean == 0.5 and math.isnan(alone.spread.std)
    assert math.isnan(alone.low) and math.isnan(alone.high)
    assert Difference.of({0: 1.0}, {1: 1.0}) is Spread.of([]) is None


def test_differences_that_are_all_the_same_are_not_certainty():
    tied = Difference.of({0: 0.9, 1: 0.7, 2: 0.4}, {0: 0.6, 1: 0.4, 2: 0.1})
    assert tied.spread.mean == pytest.approx(0.3) and tied.above == 3
    assert math.isnan(tied.low) and math.isnan(tied.high)


def test_only_finished_runs_count_and_pairs_differ_in_one_axis():
    grid = Comparison(
        name="g",
        cells=(
            cell("none", 0, loss=1.0),
            cell("none", 1, loss=3.0),
            cell("none", 2, loss=99.0, status=Status.FAILED),
            cell("mlp", 0, loss=2.0),
            cell("mlp", 1, loss=None),
            cell("none", 0, method="byol", loss=5.0),
        ),
    )
    none, mlp, byol = grid.combinations
    assert grid.spread(none, "loss") == Spread(mean=2.0, std=math.sqrt(2), n=2)
    assert grid.by_seed(mlp, "loss") == {0: 2.0}
    assert [(p.first, p.second) for p in grid.pairs("head")] == [(none, mlp)]
    assert [(p.first, p.second) for p in grid.pairs("method")] == [(none, byol)]
    assert grid.varied == ("head", "method")
    assert [grid.label(one) for one in (none, byol)] == ["none, simsiam", "none, byol"]
    assert grid.difference(grid.pairs("head")[0], "loss").spread.mean == -1.0


def test_a_mean_curve_is_the_mean_where_runs_have_readings():
    curve = mean_curve(
        [[row(1.0, 2.0), row(2.0, 1.0)], [row(1.0, 4.0), row(2.0, math.nan), row(3.0, 5.0)]],
        lambda row: row.loss,
    )
    assert curve.epoch == (1.0, 2.0, 3.0)
    assert [one.mean for one in curve.at] == [3.0, 1.0, 5.0]
    assert [one.n for one in curve.at] == [2, 1, 1]
    assert curve.at[0].std == pytest.approx(math.sqrt(2))
