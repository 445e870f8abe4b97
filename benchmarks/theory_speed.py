"""How fast is the exact flow, how exact, and does the dimension matter?

    python benchmarks/theory_speed.py [--starts 1000] [--reference 20]

Prints one Markdown table. All ratios come from this one run, in turn: eight starts side by
side (`flow_many`), the same starts by the scalar kernel one by one, and LSODA, whose
right-hand side is compiled code too. Times are processor time of this process on one core.
"""

import argparse
import platform
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter, process_time

import numba
import numpy as np
import scipy
from scipy.integrate import solve_ivp

from offdiag.theory import kernels
from offdiag.theory.descent import descent
from offdiag.theory.flow import flow, flow_many
from offdiag.theory.problem import Problem
from offdiag.theory.state import State, covariance, pack, starts, unpack
from offdiag.theory.sweep import Axis, Sweep, run_sweep


def by_lsoda(problem: Problem, start: State, time: float, *, rtol: float, atol: float):
    """The end, the crossing times of |c| = 0.5, evaluations and seconds by SciPy's LSODA."""
    constants, packed = problem.constants(), pack(problem, start)
    work, out = kernels.workspace(constants), np.empty_like(packed)
    width = problem.features + problem.neurons

    def velocity(_, y):
        kernels.velocity(constants, y, out, work)
        return out.copy()

    events = [
        lambda _, y, i=j * width + f: abs(y[i]) - kernels.LEARNED
        for j in range(problem.neurons)
        for f in range(problem.features)
    ]
    began = process_time()
    plain = solve_ivp(velocity, (0, time), packed, method="LSODA", rtol=rtol, atol=atol)
    seconds = process_time() - began
    with_events = solve_ivp(
        velocity, (0, time), packed, method="LSODA", rtol=rtol, atol=atol, events=events
    )
    crossing = np.array([t[0] if len(t) else np.inf for t in with_events.t_events])
    return plain.y[:, -1], crossing, plain.nfev, seconds


def crossings(problem: Problem, start: State, time: float) -> np.ndarray:
    """First times of |c| = 0.5 by the flow, flattened."""
    return flow_many(problem, [start], time=time).learned_at[0].ravel()


def scalar(problem: Problem, drawn: list[State], time: float):
    """Ends, steps and seconds by the scalar kernel: the way before starts ran side by side."""
    m, k, count = problem.neurons, problem.features, len(drawn)
    packed = np.stack([pack(problem, start) for start in drawn])
    ends, learned = np.empty_like(packed), np.empty((count, m, k))
    rest = [np.empty(count) for _ in range(3)]
    status, tried = np.empty(count, np.int64), np.empty(count, np.int64)
    began = process_time()
    kernels.flow_many(
        problem.constants(), packed, time, 1e-6, 5000, ends, learned, *rest, status, tried
    )
    return ends, tried, process_time() - began


def timed(problem: Problem, drawn: list[State], time: float, **settings):
    """Final states and seconds of `flow_many` on one core."""
    began = process_time()
    return flow_many(problem, drawn, time=time, **settings), process_time() - began


def side_by_side(problem: Problem, drawn: list[State], time: float, repeats: int) -> str:
    """Milliseconds a start of both kernels, interleaved, and how far apart they end."""
    fast, slow = [], []
    for _ in range(repeats):
        found, seconds = timed(problem, drawn, time)
        fast.append(seconds / len(drawn) * 1e3)
        ends, tried, seconds = scalar(problem, drawn, time)
        slow.append(seconds / len(drawn) * 1e3)
    products, _, _ = unpack(problem, ends)
    apart = np.abs(found.inner_products - products).max(axis=(1, 2))
    exact, _ = timed(problem, drawn, time, rtol=1e-9, max_steps=50_000)
    to_exact = [
        np.abs(one - exact.inner_products).max(axis=(1, 2))
        for one in (found.inner_products, products)
    ]
    ratio = np.array(slow) / np.array(fast)
    return (
        f"{min(fast):.3f} ms against {min(slow):.2f} ms (least of {repeats}); ratios "
        f"{ratio.min():.1f} to {ratio.max():.1f}; {found.steps.mean():.0f} steps; ends apart by "
        f"{np.median(apart):.0e} (median), {np.mean(apart < 2e-6):.1%} below 2e-6, worst "
        f"{apart.max():.0e}; from rtol 1e-9 side by side {np.quantile(to_exact[0], 0.99):.0e}, "
        f"scalar {np.quantile(to_exact[1], 0.99):.0e} (99th percentile)"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--starts", type=int, default=1000)
    parser.add_argument("--reference", type=int, default=20)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--sweep", action="store_true", help="also 64 x 64 cells of 32 starts")
    settings = parser.parse_args()
    flow(Problem(), starts(Problem(), 1)[0], time=1e8)  # compiles
    scalar(Problem(), starts(Problem(), 1), 1.0)
    descent(Problem(), starts(Problem(), 1)[0], learning_rate=0.1, steps=10)

    rows: list[tuple[str, str]] = []
    problem, time = Problem(dim=100_000), 1e12
    drawn = starts(problem, settings.starts)
    few = drawn[: min(settings.starts, 200)]
    rows.append(
        (
            f"a start, d = 1e5, T = 1e12, {len(few)} starts: side by side against one by one",
            side_by_side(problem, few, time, settings.repeats),
        )
    )
    large = Problem(dim=10_000, neurons=8)
    rows.append(
        (
            "a start with 8 neurons, d = 1e4, T = 1e10, 16 starts",
            side_by_side(large, starts(large, 16), 1e10, 1),
        )
    )
    runs = [flow(problem, start, time=time) for start in drawn]
    spent = np.array([run.seconds for run in runs]) * 1e3
    steps = np.array([run.method["steps"] for run in runs])
    rows += [
        (
            f"one trajectory alone, kept at every step, {settings.starts} starts",
            f"median {np.median(spent):.2f} ms, failures "
            f"{sum(run.failure is not None for run in runs)}",
        ),
        ("its steps", f"median {np.median(steps):.0f}, most {steps.max()}"),
    ]

    ours, theirs, evaluations, errors, late = [], [], [], [], []
    for start in drawn[: settings.reference]:
        run = flow(problem, start, time=time)
        exact, when, _, _ = by_lsoda(problem, start, time, rtol=1e-10, atol=1e-14)
        c, n, head = unpack(problem, exact)
        errors.append(
            max(
                np.abs(run.inner_products[-1] - c).max(),
                np.abs(run.head[-1] - head).max(),
                np.abs(run.noise[-1] - covariance(problem, n)).max(),
            )
        )
        found = crossings(problem, start, time)
        both = np.isfinite(when) & np.isfinite(found)
        late.append(np.abs(found[both] / when[both] - 1).max(initial=0.0))
        *_, count, seconds = by_lsoda(problem, start, time, rtol=1e-6, atol=1e-10)
        ours.append(min(timed(problem, drawn[:64], time)[1] for _ in range(3)) / 64 * 1e3)
        theirs.append(seconds * 1e3)
        evaluations.append(count)
    rows += [
        (
            f"the same by LSODA at rtol 1e-6, {settings.reference} starts",
            f"median {np.median(theirs):.1f} ms, slowest {max(theirs):.1f} ms, "
            f"{np.median(evaluations):.0f} evaluations; a start side by side is "
            f"{np.median(np.array(theirs) / np.array(ours)):.0f} x faster (median ratio)",
        ),
        (
            "end state against LSODA at rtol 1e-10",
            f"largest difference: median {np.median(errors):.1e}, worst {max(errors):.1e}",
        ),
        (
            "times of learning against LSODA at rtol 1e-10",
            f"relative difference: median {np.median(late):.1e}, worst {max(late):.1e}",
        ),
    ]

    problem, ratios, fast, slow = Problem(dim=1000), [], [], []
    for start in starts(problem, 3):
        slow.append(descent(problem, start, learning_rate=0.1, steps=10**7, points=2).seconds)
        fast.append(np.median([flow(problem, start, time=1e6).seconds for _ in range(9)]))
        ratios.append(slow[-1] / fast[-1])
    rows.append(
        (
            "descent with step 0.1 to T = 1e6, d = 1000, against the flow",
            f"{np.median(slow):.2f} s against {np.median(fast) * 1e3:.2f} ms: "
            f"{min(ratios):.0f} to {max(ratios):.0f} x",
        )
    )

    for dim in (100, 10_000, 1_000_000, 100_000_000):
        problem = Problem(dim=dim)
        found, seconds = timed(problem, starts(problem, 200), 100.0 * dim**2)
        rows.append(
            (
                f"d = {dim:g}, T = 100 d^2, 200 starts",
                f"{seconds / 200 * 1e3:.2f} ms a start, {np.median(found.steps):.0f} steps, "
                f"{seconds / found.steps.sum() * 1e6:.2f} us a step",
            )
        )
    if settings.sweep:
        axes = (
            Axis(name="dim", low=100.0, high=1e5, steps=64, log=True),
            Axis(name="head_lr_ratio", low=1e-4, high=1.0, steps=64, log=True),
        )
        with TemporaryDirectory() as folder:
            began, wall = process_time(), perf_counter()
            run_sweep(Sweep(problem=Problem(), axes=axes, starts=32), Path(folder))
            rows.append(
                (
                    "64 x 64 cells, 32 starts a cell, all cores",
                    f"{perf_counter() - wall:.0f} s on the clock, {process_time() - began:.0f} s "
                    "of processor time",
                )
            )

    print(f"Python {platform.python_version()}, Numba {numba.__version__}, ", end="")
    print(f"NumPy {np.__version__}, SciPy {scipy.__version__}, {platform.machine()}\n")
    print("| what | measured |\n|---|---|")
    for what, measured in rows:
        print(f"| {what} | {measured} |")


if __name__ == "__main__":
    main()
