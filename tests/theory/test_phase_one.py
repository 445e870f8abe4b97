"""The closed forms of the first phase against the flow itself."""

from dataclasses import replace

import numpy as np
import pytest

from offdiag.theory.flow import flow, flow_many
from offdiag.theory.outcomes import main_feature
from offdiag.theory.phase_one import (
    favoured_feature,
    first_times,
    head_delay,
    horizon,
    inverse_powers,
    learning_times,
    median_first_time,
    outweighing_entry,
    time_after_jump,
)
from offdiag.theory.phases import dominance
from offdiag.theory.problem import Problem
from offdiag.theory.state import covariance, starts


@pytest.mark.parametrize("power", [3, 5])
@pytest.mark.parametrize("stop", ["target", "none", "online"])
def test_differences_of_inverse_powers_are_conserved_without_a_head(power, stop):
    problem = Problem(
        dim=200,
        strengths=(2.0, 1.5, 1.2),
        probabilities=(0.5, 0.2, 0.3),
        power=power,
        head_lr_ratio=0.0,
        stop_gradient=stop,
    )
    run = flow(problem, starts(problem, 1)[0], time=1e12, rtol=1e-9, max_steps=20_000)
    assert np.abs(run.inner_products[-1]).max() > 0.5  # a feature was learned
    powers = inverse_powers(problem, run.inner_products)
    moved = (powers - powers[..., :1]) - (powers[0] - powers[0][..., :1])
    assert np.abs(moved).max() < 1e-6 * powers[0].max()


@pytest.mark.parametrize("power", [3, 5])
def test_without_a_head_the_start_decides(power):
    problem = Problem(
        dim=2000, strengths=(2.0, 1.5, 1.2), neurons=4, power=power, head_lr_ratio=0.0
    )
    drawn = starts(problem, 60)
    ends = flow_many(problem, drawn, time=1e9 if power == 3 else 1e16)
    ended = main_feature(ends.inner_products)
    favoured = favoured_feature(problem, np.stack([start.inner_products for start in drawn]))
    learned = ended >= 0
    assert learned.mean() > 0.3
    assert (ended == favoured)[learned].mean() > 0.97


@pytest.mark.parametrize(
    "problem",
    [
        Problem(dim=100_000),
        Problem(dim=10_000, power=5, probabilities=(0.3, 0.7), masks="independent"),
        Problem(dim=100_000, strengths=(2.0, 1.8, 1.5), neurons=3, noise=0.7, head_lr_ratio=0.1),
    ],
    ids=["reference", "power 5", "three by three"],
)
def test_the_first_learning_time_is_the_closed_form(problem):
    drawn = starts(problem, 24)
    predicted = first_times(problem, drawn)
    ends = flow_many(problem, drawn, time=20 * float(predicted.max()))
    ratio = ends.learned_at.min(axis=(1, 2)) / predicted
    assert np.median(ratio) == pytest.approx(1.0, abs=2e-3)


def test_the_time_after_the_jump_is_what_the_blow_up_leaves_out():
    # Strong features: what follows the jump can outlast the wait. One neuron, no head.
    problem = Problem(dim=3000, neurons=1, strengths=(12.0, 1.0), head_lr_ratio=0.0)
    drawn = [s for s in starts(problem, 40) if abs(s.inner_products[0, 0]) > 0.015][:8]
    ends = flow_many(problem, drawn, time=1e9)
    rest = ends.learned_at[:, 0, 0] - first_times(problem, drawn)
    assert len(rest) == 8
    # An estimate: the noise shrinks meanwhile, which slows the end.
    assert 1.0 < np.median(rest) / time_after_jump(problem) < 3.0


def test_the_horizon_grows_like_the_first_time():
    for power in (3, 5):
        times = [median_first_time(Problem(dim=d, power=power)) for d in (100, 1000)]
        assert np.log10(times[1] / times[0]) == pytest.approx(power - 1)
    problem = Problem(dim=2000)
    drawn = first_times(problem, starts(problem, 400))
    assert median_first_time(problem) == pytest.approx(np.median(drawn), rel=0.2)
    assert horizon(problem, first_times=10.0) == 10.0 * median_first_time(problem)
    assert horizon(Problem(dim=10**7, power=5)) == 1e15


def test_the_median_does_not_depend_on_the_seed():
    assert median_first_time(Problem(seed=1)) == median_first_time(Problem(seed=2))


def test_learning_times_are_shorter_for_stronger_features():
    problem = Problem()
    start = starts(problem, 1)[0]
    noise = covariance(problem, start.noise_parts)
    same = np.full((2, 2), 0.01)
    times = learning_times(problem, same, noise)
    np.testing.assert_allclose(times[:, 1] / times[:, 0], 2.0**6)


def test_the_head_delay_falls_with_the_dimension_and_the_ratio():
    assert head_delay(Problem(head_lr_ratio=0.0)) == np.inf
    slow, fast = Problem(dim=100, head_lr_ratio=1e-3), Problem(dim=10_000, head_lr_ratio=1e-3)
    assert head_delay(slow) == pytest.approx(10 * head_delay(fast))
    assert head_delay(replace(slow, head_lr_ratio=0.1)) == pytest.approx(head_delay(fast))


def test_an_entry_that_outweighs_the_noise_has_dominance_one():
    problem = Problem()
    entry = outweighing_entry(problem)
    start = starts(problem, 1)[0]
    run = flow(problem, start, time=1.0)
    # By hand: a leader with |c| = 1, a follower of |n|^2 = 1 that has learned nothing.
    head = np.array([[[1.0, 0.0], [entry, 1.0]]])
    by_hand = replace(
        run,
        time=np.array([0.0]),
        inner_products=np.array([[[1.0, 0.0], [0.0, 0.0]]]),
        noise=np.eye(2)[None],
        head=head,
        loss=np.zeros(1),
    )
    assert dominance(problem, by_hand, neuron=1, feeder=0, feature=0)[0] == pytest.approx(1.0)
