import numpy as np
import pytest
from scipy.integrate import solve_ivp

from offdiag._checks import ConfigError
from offdiag.theory import kernels
from offdiag.theory.descent import descent
from offdiag.theory.flow import flow, flow_many
from offdiag.theory.problem import Problem
from offdiag.theory.state import covariance, pack, starts, unpack


def by_lsoda(problem, start, times, *, method="LSODA"):
    """The same flow by SciPy, at the given times: the slow reference."""
    k, y = problem.constants(), pack(problem, start)
    work = kernels.workspace(k)

    def velocity(_, state):
        out = np.empty_like(state)
        kernels.velocity(k, state, out, work)
        return out

    answer = solve_ivp(
        velocity, (0, times[-1]), y, t_eval=times, method=method, rtol=1e-10, atol=1e-14
    )
    assert answer.success
    c, n, head = unpack(problem, answer.y.T)
    return c, covariance(problem, n), head


@pytest.mark.parametrize(
    "problem",
    [
        Problem(dim=50, head_lr_ratio=0.1),
        Problem(dim=50, head_lr_ratio=0.0, masks="independent"),
        Problem(dim=50, stop_gradient="none", head_lr_ratio=1.0),
        Problem(dim=50, normaliser="none", strengths=(1.0, 0.5), noise=0.3),
        Problem(dim=50, power=5, head_lr_ratio=0.1),
        Problem(dim=50, strengths=(4.0, 3.0, 2.0), neurons=4, head_lr_ratio=0.1),
    ],
    ids=["head", "no head", "no stop-gradient", "no normaliser", "power 5", "four by three"],
)
def test_flow_agrees_with_lsoda(problem):
    start = starts(problem, 3)[2]
    fine = flow(problem, start, time=1e5, rtol=1e-9)
    assert fine.failure is None
    c, noise, head = by_lsoda(problem, start, fine.time)
    # On a jump the state moves by 1 in a tiny share of the time, so all the way needs more
    # digits than the end.
    np.testing.assert_allclose(fine.inner_products, c, atol=2e-5)
    np.testing.assert_allclose(fine.head, head, atol=2e-5)
    np.testing.assert_allclose(fine.noise, noise, atol=2e-5)
    run = flow(problem, start, time=1e5)
    np.testing.assert_allclose(run.inner_products[-1], c[-1], atol=1e-5)
    np.testing.assert_allclose(run.head[-1], head[-1], atol=1e-5)
    np.testing.assert_allclose(run.noise[-1], noise[-1], atol=1e-5)


def test_method_is_of_fifth_order():
    problem = Problem(dim=50, head_lr_ratio=0.1)
    k, y = problem.constants(), pack(problem, starts(problem, 1)[0])
    z = np.append(y, 3.0)
    n = z.size
    matrix, J, U = np.empty((n, n)), np.empty((n, n)), np.empty((8, n))
    pivots, by_z, work = np.empty(n, np.int64), np.empty(n), kernels.workspace(k)
    inner, wide = np.empty((n - 1, n - 1)), kernels.wide_workspace(k)
    # A rescaling that sees only the time makes equal steps in log(t + t_0).
    rescaling, chosen = np.array([1.0, 0.0, 0.0, 1.0, 1.0, 0.0, 0.0]), np.zeros(2, np.int64)

    def integrate(steps, span=1.0):
        now, end, v = z.copy(), np.empty(n), np.empty(n)
        for _ in range(steps):
            kernels.velocity(k, now[:-1], v[:-1], work)
            v[-1] = np.exp(-now[-1])
            rescaling[5], rescaling[6] = now[-1], v[-1]
            kernels.jacobian(k, now, v, J, inner, rescaling, chosen, by_z, work, wide)
            kernels.rosenbrock_step(
                k, now, v, J, span / steps / v[-1], end, U, matrix, pivots, rescaling, chosen, work
            )
            now[:] = end
        return now

    exact = integrate(512)
    errors = [np.abs(integrate(steps) - exact).max() for steps in (8, 16, 32)]
    orders = np.log2(np.array(errors[:-1]) / np.array(errors[1:]))
    assert errors[0] > 1e-12  # above rounding, or the order means nothing
    assert orders[-1] == pytest.approx(5.0, abs=0.5)


def test_descent_tends_to_the_flow_with_order_one():
    problem = Problem(dim=50, head_lr_ratio=0.1)
    start = starts(problem, 1)[0]
    limit = flow(problem, start, time=40.0, rtol=1e-10)
    errors = []
    for steps in (400, 800, 1600):
        run = descent(problem, start, learning_rate=40.0 / steps, steps=steps)
        errors.append(np.abs(run.inner_products[-1] - limit.inner_products[-1]).max())
    orders = np.log2(np.array(errors[:-1]) / np.array(errors[1:]))
    np.testing.assert_allclose(orders, 1.0, atol=0.1)


def test_descent_is_n_plus_eta_m_n():
    problem = Problem(dim=50)
    start = starts(problem, 1)[0]
    k, y = problem.constants(), pack(problem, start)
    v = np.empty_like(y)
    kernels.velocity(k, y, v, kernels.workspace(k))
    run = descent(problem, start, learning_rate=0.1, steps=1)
    c, n, head = unpack(problem, y + 0.1 * v)
    np.testing.assert_allclose(run.inner_products[-1], c, rtol=1e-13)
    np.testing.assert_allclose(run.noise[-1], covariance(problem, n), rtol=1e-13)
    np.testing.assert_allclose(run.head[-1], head, rtol=1e-13)


def test_many_starts_end_where_single_ones_do():
    problem = Problem(dim=50, head_lr_ratio=0.1)
    drawn = starts(problem, 4)
    ends = flow_many(problem, drawn, time=1e4)
    for i, start in enumerate(drawn):
        run = flow(problem, start, time=1e4)
        np.testing.assert_array_equal(ends.inner_products[i], run.inner_products[-1])
        np.testing.assert_array_equal(ends.head[i], run.head[-1])
        off = np.abs(run.head - np.eye(2)).max()
        assert off <= ends.peaks[i] <= 1.01 * off + 1e-12
        for j in range(2):
            for f in range(2):
                past = np.abs(run.inner_products[:, j, f]) > 0.5
                if past.any():
                    first = int(past.argmax())
                    assert run.time[first - 1] <= ends.learned_at[i, j, f] <= run.time[first]
                else:
                    assert ends.learned_at[i, j, f] == np.inf


def test_a_run_that_fails_says_where_and_why_and_others_go_on():
    problem = Problem()
    ends = flow_many(problem, starts(problem, 3), time=1e8, max_steps=60)
    assert all(failure is not None for failure in ends.failures)
    assert "stopped at time" in ends.failures[0] and "max_steps" in ends.failures[0]
    assert np.all(ends.reached < 1e8)
    run = flow(problem, starts(problem, 1)[0], time=1e8, max_steps=60)
    assert run.failure == ends.failures[0]
    assert run.time[-1] == pytest.approx(ends.reached[0])
    diverged = descent(
        Problem(normaliser="none", noise=3.0), starts(problem, 1)[0], learning_rate=10.0, steps=100
    )
    assert diverged.failure is not None and "step" in diverged.failure


@pytest.mark.parametrize("wrong", [0.0, -1.0, float("inf"), float("nan")])
def test_a_time_that_means_nothing_is_refused(wrong):
    problem = Problem()
    with pytest.raises(ConfigError, match="time"):
        flow(problem, starts(problem, 1)[0], time=wrong)


def test_a_start_of_another_problem_is_refused():
    with pytest.raises(ConfigError, match="same problem"):
        flow(Problem(), starts(Problem(neurons=3), 1)[0], time=1.0)
