"""How fast is the exact flow, how exact, and does the dimension matter?

    python benchmarks/theory_speed.py [--starts 1000] [--reference 20]

Prints one Markdown table. All ratios come from this one run, flow and reference in turn.
Times are those of the compiled call on one core; LSODA's right-hand side is the same
compiled code.
"""

import argparse
import platform
from time import perf_counter

import numba
import numpy as np
import scipy
from scipy.integrate import solve_ivp

from offdiag.theory import kernels
from offdiag.theory.descent import descent
from offdiag.theory.flow import flow, flow_many
from offdiag.theory.problem import Problem
from offdiag.theory.state import State, covariance, pack, starts, unpack


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
    began = perf_counter()
    plain = solve_ivp(velocity, (0, time), packed, method="LSODA", rtol=rtol, atol=atol)
    seconds = perf_counter() - began
    with_events = solve_ivp(
        velocity, (0, time), packed, method="LSODA", rtol=rtol, atol=atol, events=events
    )
    crossing = np.array([t[0] if len(t) else np.inf for t in with_events.t_events])
    return plain.y[:, -1], crossing, plain.nfev, seconds


def crossings(problem: Problem, start: State, time: float) -> np.ndarray:
    """First times of |c| = 0.5 by the flow, flattened."""
    return flow_many(problem, [start], time=time).learned_at[0].ravel()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--starts", type=int, default=1000)
    parser.add_argument("--reference", type=int, default=20)
    settings = parser.parse_args()
    flow(Problem(), starts(Problem(), 1)[0], time=1e8)  # compiles
    descent(Problem(), starts(Problem(), 1)[0], learning_rate=0.1, steps=10)

    rows: list[tuple[str, str]] = []
    problem, time = Problem(dim=100_000), 1e12
    drawn = starts(problem, settings.starts)
    runs = [flow(problem, start, time=time) for start in drawn]
    spent = np.array([run.seconds for run in runs]) * 1e3
    steps = np.array([run.method["steps"] for run in runs])
    rows += [
        (
            f"one trajectory, d = 1e5, T = 1e12, rtol 1e-6, {settings.starts} starts",
            f"median {np.median(spent):.2f} ms, slowest {spent.max():.2f} ms "
            f"({spent.max() / np.median(spent):.1f} x), failures "
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
        ours.append(run.seconds * 1e3)
        theirs.append(seconds * 1e3)
        evaluations.append(count)
    rows += [
        (
            f"the same by LSODA at rtol 1e-6, {settings.reference} starts",
            f"median {np.median(theirs):.1f} ms, slowest {max(theirs):.1f} ms, "
            f"{np.median(evaluations):.0f} evaluations; the flow is "
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
        runs = [flow(problem, start, time=100.0 * dim**2) for start in starts(problem, 200)]
        each = np.array([run.seconds for run in runs]) * 1e3
        steps = np.array([run.method["steps"] for run in runs])
        rows.append(
            (
                f"d = {dim:g}, T = 100 d^2, 200 starts",
                f"median {np.median(each):.2f} ms, {np.median(steps):.0f} steps, "
                f"{np.median(each / steps) * 1e3:.1f} us a step",
            )
        )

    print(f"Python {platform.python_version()}, Numba {numba.__version__}, ", end="")
    print(f"NumPy {np.__version__}, SciPy {scipy.__version__}, {platform.machine()}\n")
    print("| what | measured |\n|---|---|")
    for what, measured in rows:
        print(f"| {what} | {measured} |")


if __name__ == "__main__":
    main()
