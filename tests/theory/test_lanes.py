"""Eight starts side by side are eight starts one by one."""

import numpy as np
import pytest

from offdiag._checks import ConfigError
from offdiag.theory import flow as flows
from offdiag.theory import kernels, lanes
from offdiag.theory.flow import Interrupted, equations, estimated_seconds, flow, flow_many
from offdiag.theory.problem import Problem
from offdiag.theory.state import covariance, pack, starts, unpack

PROBLEMS = {
    "two by two": Problem(dim=40, head_lr_ratio=0.3),
    "power 5, no stop-gradient": Problem(
        dim=40, head_lr_ratio=0.3, stop_gradient="none", neurons=3, power=5
    ),
    "no normaliser": Problem(
        dim=40, normaliser="none", stop_gradient="none", strengths=(3.0, 2.0, 1.0), neurons=3
    ),
    "gradient through the target only": Problem(
        dim=40, stop_gradient="online", masks="independent"
    ),
    "no head": Problem(dim=40, head_lr_ratio=0.0, neurons=3),
    "one by three": Problem(
        dim=40, neurons=1, strengths=(3.0, 2.0, 1.0), probabilities=(0.5, 0.3, 0.2)
    ),
    "diagonal trains": Problem(
        dim=40,
        neurons=3,
        head_lr_ratio=0.3,
        head_trains=((True, True, False),) * 3,
        stop_gradient="none",
    ),
}


@pytest.mark.parametrize("problem", PROBLEMS.values(), ids=PROBLEMS)
def test_velocity_and_jacobian_are_those_of_the_scalar_kernels(problem):
    constants, rng = problem.constants(), np.random.default_rng(0)
    states = [
        2 * pack(problem, start) + 0.3 * rng.standard_normal(equations(problem) - 1)
        for start in starts(problem, 8)
    ]
    work = lanes.workspace(problem.neurons, problem.features, int(problem.trains.sum()))
    work.z[:-1] = np.array(states).T
    lanes.derivatives(constants, work)
    n = work.z.shape[0]
    found = -work.M.reshape(n, n, 8)[:-1, :-1]
    for lane, y in enumerate(states):
        scratch, wide = kernels.workspace(constants), kernels.wide_workspace(constants)
        v, jacobian = np.empty_like(y), np.empty((y.size, y.size))
        loss = kernels.velocity(constants, y, v, scratch)
        kernels.velocity_jacobian(constants, y, jacobian, scratch, wide)
        assert work.d_row[0, lane] == pytest.approx(loss, rel=1e-12)
        np.testing.assert_allclose(work.v[:-1, lane], v, atol=1e-12 * np.abs(v).max())
        scale = np.abs(jacobian).max()
        np.testing.assert_allclose(found[:, :, lane], jacobian, atol=1e-12 * scale)


def scalar_ends(problem, drawn, time):
    """The same ends by the scalar flow, start by start."""
    m, k, count = problem.neurons, problem.features, len(drawn)
    packed = np.stack([pack(problem, start) for start in drawn])
    ends, learned = np.empty_like(packed), np.empty((count, m, k))
    peaks, reached, losses = np.empty(count), np.empty(count), np.empty(count)
    status, tried = np.empty(count, np.int64), np.empty(count, np.int64)
    kernels.flow_many(
        *(problem.constants(), packed, time, 1e-6, 5000),
        *(ends, learned, peaks, reached, losses, status, tried),
    )
    assert (status == kernels.REACHED).all()
    return ends, learned, peaks


@pytest.mark.parametrize(
    "problem",
    [Problem(dim=1000), Problem(dim=300, neurons=3, strengths=(4.0, 3.0, 2.0), head_lr_ratio=0.1)],
    ids=["two by two", "three by three"],
)
def test_starts_end_where_the_scalar_flow_ends_them(problem):
    drawn, time = starts(problem, 21), 1e7  # more than two rounds of lanes, and a rest
    ends, learned, peaks = scalar_ends(problem, drawn, time)
    found = flow_many(problem, drawn, time=time)
    products, parts, head = unpack(problem, ends)
    np.testing.assert_allclose(found.inner_products, products, atol=1e-5)
    np.testing.assert_allclose(found.head, head, atol=1e-5)
    np.testing.assert_allclose(found.noise, covariance(problem, parts), atol=1e-5)
    np.testing.assert_allclose(found.peaks, peaks, rtol=1e-3)
    np.testing.assert_allclose(found.learned_at, learned, rtol=1e-4)


def test_how_a_start_ends_depends_neither_on_its_lane_nor_on_the_threads():
    problem = Problem(dim=50, head_lr_ratio=0.1)
    drawn = starts(problem, 19)
    one, two = (flow_many(problem, drawn, time=1e5, jobs=jobs) for jobs in (1, 2))
    np.testing.assert_array_equal(one.inner_products, two.inner_products)
    np.testing.assert_array_equal(one.steps, two.steps)
    alone = flow_many(problem, [drawn[17]], time=1e5)
    np.testing.assert_array_equal(alone.inner_products[0], one.inner_products[17])


@pytest.mark.parametrize("jobs", [1, 2])
def test_an_interruption_keeps_what_is_done(jobs, monkeypatch):
    problem = Problem(dim=50, head_lr_ratio=0.1)
    drawn = starts(problem, 60)
    whole = flow_many(problem, drawn, time=1e5)
    monkeypatch.setattr(flows, "rounds_in", lambda *_: 20)
    monkeypatch.setattr(flows, "ANSWER_SECONDS", 1e-4)

    def stop(done, total):
        assert total == 60
        if 10 < done < 60:
            raise KeyboardInterrupt

    with pytest.raises(Interrupted) as caught:
        flow_many(problem, drawn, time=1e5, jobs=jobs, on_progress=stop)
    kept = list(caught.value.indices)
    assert 10 < len(kept) < 60
    np.testing.assert_array_equal(caught.value.finished.inner_products, whole.inner_products[kept])


def test_what_is_too_big_is_refused_in_a_sentence():
    problem = Problem(neurons=40, dim=10_000)
    with pytest.raises(ConfigError, match="3241.*fewer neurons"):
        flow_many(problem, starts(problem, 1), time=1.0)
    with pytest.raises(ConfigError, match="3241.*fewer neurons"):
        flow(problem, starts(problem, 1)[0], time=1.0)


def test_an_estimate_grows_with_starts_and_neurons():
    small, large = Problem(), Problem(neurons=8)
    assert estimated_seconds(small, starts=800) == 100 * estimated_seconds(small, starts=8)
    assert estimated_seconds(large, starts=8) > 20 * estimated_seconds(small, starts=8)
    assert estimated_seconds(small, starts=80, jobs=2) == estimated_seconds(small, starts=40)


def test_the_old_name_of_the_final_states_still_works():
    with pytest.warns(DeprecationWarning, match="FinalStates"):
        assert flows.Ends is flows.FinalStates
