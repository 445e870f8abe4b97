"""Schedules are pure functions of the step."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from offdiag.training.schedules import SHAPES, Schedule


def rates(schedule, name="weights"):
    group = {"params": [torch.nn.Parameter(torch.zeros(1))], "name": name, "base_lr": 1.0}
    optimizer = torch.optim.SGD([group], lr=1.0)
    seen = []
    for step in range(schedule.steps):
        schedule.apply(optimizer, step)
        seen.append(optimizer.param_groups[0]["lr"])
    return seen


@given(shape=st.sampled_from(SHAPES), steps=st.integers(1, 200), warmup=st.integers(0, 250))
def test_rates_lie_between_zero_and_the_base_rate(shape, steps, warmup):
    assert all(0 <= r <= 1 for r in rates(Schedule(steps=steps, shape=shape, warmup=warmup)))


def test_cosine_starts_at_one_and_ends_near_zero():
    seen = rates(Schedule(steps=100))
    assert seen[0] == 1
    assert seen[50] == pytest.approx(0.5)
    assert seen[-1] < 1e-3
    assert seen == sorted(seen, reverse=True)


def test_warm_up_is_linear_and_reaches_the_full_rate():
    seen = rates(Schedule(steps=100, warmup=10, shape="constant"))
    assert seen[:10] == pytest.approx([(i + 1) / 10 for i in range(10)])
    assert seen[10:] == [1] * 90


def test_steps_drop_to_a_fifth_at_each_milestone():
    seen = rates(Schedule(steps=200, shape="steps"))
    assert seen[149] == 1
    assert seen[150] == pytest.approx(0.2)
    assert seen[175] == pytest.approx(0.04)


def test_a_head_that_is_not_decayed_keeps_its_rate_while_the_rest_falls():
    schedule = Schedule(steps=50, warmup=5, decay_head=False)
    assert rates(schedule, "head")[5:] == [1] * 45
    assert rates(schedule, "weights")[-1] < 0.01
