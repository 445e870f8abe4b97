"""The common exam of every dynamics, and how any of them is solved."""

import subprocess
import sys
from enum import StrEnum
from pathlib import Path

import numpy as np
import pytest

from offdiag._checks import ConfigError, RunError
from offdiag.theory.dynamics import DYNAMICS, Dynamics, Learned, dynamics_entry
from offdiag.theory.isoloss import IsoLoss
from offdiag.theory.linear_byol import LinearBYOLModes
from offdiag.theory.problem import Problem
from offdiag.theory.solution import Solution
from offdiag.theory.solve import (
    generators,
    numeric_fields,
    solve,
    solve_ensemble,
    solve_sweep,
    with_fields,
)
from offdiag.theory.stepwise_barlow import StepwiseBarlow
from offdiag.theory.wen_li import WenLi

DOCS = Path(__file__).parents[2] / "docs" / "dynamics"


@pytest.mark.parametrize("name", DYNAMICS)
def test_every_dynamics_passes_the_exam(name, tmp_path):
    dynamics = DYNAMICS[name].target()
    assert isinstance(dynamics, Dynamics)
    first, again = (dynamics.start(generators(1)[0]) for _ in range(2))
    for part in first:
        np.testing.assert_array_equal(first[part], again[part])
    moved = dynamics.velocity(0.0, first)
    assert {part: one.shape for part, one in moved.items()} == {
        part: np.shape(one) for part, one in first.items()
    }
    run = solve(dynamics, first, time=dynamics.horizon / 20, rtol=1e-4)
    assert run.failure is None
    assert run.time[0] == 0 and run.time[-1] == pytest.approx(dynamics.horizon / 20)
    for values in dynamics.readings(run).values():
        assert len(values) == len(run.time) and np.isfinite(values).all()
    assert isinstance(dynamics.outcome(run), StrEnum)
    run.save(tmp_path / "run.npz")
    read = Solution.load(tmp_path / "run.npz")
    assert dynamics.outcome(read) == dynamics.outcome(run)
    assert numeric_fields(dynamics)


@pytest.mark.parametrize("name", DYNAMICS)
def test_every_row_has_its_words_its_page_and_distinct_claims(name):
    entry = DYNAMICS[name]
    assert entry.paper and entry.summary and entry.read
    keys = [claim.key for claim in entry.claims]
    assert keys and len(set(keys)) == len(keys)
    page = (DOCS / f"{name.removesuffix('-modes')}.md").read_text()
    for heading in ("Setting", "Equations", "Laws", "Claims", "What it explains"):
        assert f"## {heading}" in page
    for claim in entry.claims:
        assert name == "wen-li" or f"| {claim.title} |" in page


def test_an_unknown_dynamics_is_a_sentence():
    with pytest.raises(ConfigError, match="choose one of wen-li"):
        dynamics_entry("byol")


def test_the_table_loads_without_torch_and_without_numba():
    code = (
        "import sys; from offdiag.theory.dynamics import DYNAMICS; import offdiag.theory.solve; "
        "[row.target for name, row in DYNAMICS.items() if name != 'wen-li']; "
        "print([m for m in ('torch', 'numba') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_asked_times_lie_on_the_trajectory_of_the_integrator():
    dynamics = StepwiseBarlow()
    start = dynamics.start(generators(1)[0])
    whole = solve(dynamics, start, time=5.0, rtol=1e-9)
    few = solve(dynamics, start, time=5.0, rtol=1e-9, at=[0.0, 1.0, 2.5, 5.0])
    np.testing.assert_array_equal(few.time, [0.0, 1.0, 2.5, 5.0])
    np.testing.assert_array_equal(few.states["encoder"][0], start["encoder"])
    np.testing.assert_allclose(few.states["encoder"][-1], whole.states["encoder"][-1], rtol=1e-6)


def test_the_error_of_a_solution_shrinks_with_the_tolerance():
    """p = 1 - exp(-t) exactly, for a mode of the head on a target that is held."""
    dynamics = IsoLoss(eigenvalues=(0.01,), power=0.0, noise_variance=0.5, equalised=False)
    start = dynamics.start(generators(1)[0])
    errors = []
    for rtol in (1e-4, 1e-6, 1e-9):
        run = solve(dynamics, start, time=4.0, rtol=rtol)
        size = dynamics.readings(run)["eigenvalues"][-1, 0]
        errors.append(abs(size / 0.01 / np.exp(-2 * 0.5 * 4.0) - 1))
    assert errors[0] > errors[1] > errors[2] and errors[2] < 1e-7


class Explodes:
    """x' = x^2 from 1: infinite at time 1."""

    horizon = 2.0

    def start(self, generator):
        return {"x": np.ones(1)}

    def velocity(self, time, state):
        return {"x": state["x"] ** 2}

    def readings(self, solution):
        return {"x": solution.states["x"]}

    def outcome(self, solution):
        return Learned.of(solution, solution.states["x"][-1], 0.5)


def test_a_run_that_fails_says_how_far_it_got(monkeypatch):
    monkeypatch.setattr("offdiag.theory.solve.settings_of", lambda dynamics: {})
    dynamics = Explodes()
    run = solve(dynamics, dynamics.start(generators(1)[0]))
    assert run.failure is not None and run.failure.startswith("stopped at time")
    assert run.time[-1] == pytest.approx(1.0, abs=1e-2)
    assert dynamics.outcome(run) is Learned.FAILED


def test_a_sweep_varies_any_numeric_field_with_the_same_starts():
    cells = solve_sweep(
        LinearBYOLModes(modes=3), {"weight_decay": [0.05, 0.3], "modes": [1, 3]}, starts=4
    )
    assert [cell for cell, _ in cells] == [
        {"weight_decay": decay, "modes": modes} for decay in (0.05, 0.3) for modes in (1, 3)
    ]
    low, high = cells[0][1], cells[2][1]
    assert low.share(Learned.ALL).count > high.share(Learned.ALL).count == 0
    alone = solve_ensemble(LinearBYOLModes(modes=1), starts=4)
    assert alone.outcomes == low.outcomes
    assert sum(share.count for share in alone.shares.values()) == 4


def test_a_sweep_reaches_the_fields_of_the_problem():
    changed = with_fields(WenLi(), {"problem.dim": 50.0, "problem.head_lr_ratio": 0.5})
    assert changed.problem == Problem(dim=50, head_lr_ratio=0.5)
    with pytest.raises(ConfigError, match="numeric field, one of problem.dim"):
        with_fields(WenLi(), {"problem.masks": 1.0})


def test_wen_li_keeps_the_numbers_of_the_flow():
    from offdiag.theory.ensemble import ensemble
    from offdiag.theory.flow import flow
    from offdiag.theory.state import starts

    problem = Problem()
    dynamics = WenLi(problem=problem)
    known = ensemble(problem, time=1e8, count=4)
    for i, network in enumerate(starts(problem, 4)):
        start = {
            "inner_products": network.inner_products,
            "noise_parts": network.noise_parts,
            "head": network.head,
        }
        run = solve(dynamics, start, time=1e8)
        reference = flow(problem, network, time=1e8)
        np.testing.assert_array_equal(run.states["head"], reference.head)
        np.testing.assert_array_equal(run.time, reference.time)
        assert dynamics.outcome(run) is known.outcomes[i]


def test_bad_times_and_bad_files_are_sentences(tmp_path):
    dynamics = StepwiseBarlow()
    with pytest.raises(ConfigError, match="time must be a positive number"):
        solve(dynamics, dynamics.start(generators(1)[0]), time=0.0)
    (tmp_path / "no.npz").write_bytes(b"no")
    with pytest.raises(RunError, match="should be a solution"):
        Solution.load(tmp_path / "no.npz")


def test_the_index_lists_every_dynamics_and_its_python_runs():
    text = (DOCS / "README.md").read_text()
    for name in DYNAMICS:
        assert f"| [{name}]({name.removesuffix('-modes')}.md) |" in text
    block = text.split("```python\n")[1].split("```")[0]
    exec(compile(block, "docs/dynamics/README.md", "exec"), {})
