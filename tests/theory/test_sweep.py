import json

import numpy as np
import pytest

from offdiag._checks import ConfigError, RunError
from offdiag.theory import sweep as sweeps
from offdiag.theory.ensemble import ensemble
from offdiag.theory.problem import Problem
from offdiag.theory.sweep import Axis, Sweep, cell_shares, read_table, run_cell, run_sweep

AXES = (
    Axis(name="head_lr_ratio", low=0.001, high=0.1, steps=3, log=True),
    Axis(name="dim", low=100.0, high=300.0, steps=2),
)
SWEEP = Sweep(problem=Problem(), axes=AXES, starts=4, time=1e6)


def test_every_combination_is_a_cell_and_every_start_a_row(tmp_path):
    table = run_sweep(SWEEP, tmp_path, jobs=2)
    assert len(SWEEP) == 6 and table.num_rows == 24
    pairs = set(zip(table["head_lr_ratio"].to_pylist(), table["dim"].to_pylist(), strict=True))
    assert pairs == {(rho, d) for rho in AXES[0].values for d in AXES[1].values}
    assert read_table(tmp_path).equals(table)
    assert {file.name for file in tmp_path.iterdir()} == {"sweep.parquet", "sweep.json"}


def test_a_row_is_what_a_run_of_its_own_gives(tmp_path):
    table = run_sweep(SWEEP, tmp_path, jobs=1)
    problem, time = SWEEP.cell(5)
    alone = ensemble(problem, time=time, count=4)
    rows = table.slice(20, 4)
    assert rows["seed"].to_pylist() == [problem.seed] * 4
    assert rows["outcome"].to_pylist() == [str(one) for one in alone.outcomes]
    np.testing.assert_array_equal(rows["max_off_diagonal"], alone.ends.peaks)


def test_cells_have_seeds_of_their_own():
    assert len({SWEEP.cell(index)[0].seed for index in range(len(SWEEP))}) == len(SWEEP)


def test_a_sweep_that_was_stopped_goes_on_where_it_was(tmp_path, monkeypatch):
    whole = run_sweep(SWEEP, tmp_path / "whole", jobs=1)
    stopped = tmp_path / "stopped"

    def stop_after_two(done, total):
        if done == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_sweep(SWEEP, stopped, jobs=1, on_cell=stop_after_two)
    with (stopped / sweeps.CELLS_FILE).open("a") as file:
        file.write('{"cell": 4, "see')  # the line that was being written
    assert not (stopped / sweeps.TABLE_FILE).exists()
    run = []
    monkeypatch.setattr(
        sweeps, "run_cell", lambda sweep, index: run.append(index) or run_cell(sweep, index)
    )
    table = run_sweep(SWEEP, stopped, jobs=1)
    assert len(run) == 4
    assert table.equals(whole)
    run.clear()
    assert run_sweep(SWEEP, stopped, jobs=1).equals(whole) and not run


def test_another_sweeps_directory_is_refused(tmp_path):
    run_sweep(SWEEP, tmp_path, jobs=1)
    other = Sweep(problem=Problem(), axes=AXES[:1], starts=4, time=1e6)
    with pytest.raises(RunError, match="another sweep"):
        run_sweep(other, tmp_path)


def test_a_cell_that_breaks_is_counted_and_the_sweep_goes_on(tmp_path, monkeypatch):
    def break_one(problem, **settings):
        if problem.head_lr_ratio == AXES[0].values[1]:
            raise FloatingPointError("broken on purpose")
        return ensemble(problem, **settings)

    monkeypatch.setattr(sweeps, "ensemble", break_one)
    table = run_sweep(SWEEP, tmp_path, jobs=1)
    failed = [row for row in table.to_pylist() if row["outcome"] == "failed"]
    assert len(failed) == 8 and table.num_rows == 24
    assert all("broken on purpose" in row["failure"] for row in failed)
    assert sum(cell["failed"] == 1.0 for cell in cell_shares(table)) == 2


def test_shares_of_a_cell_sum_to_one(tmp_path):
    for cell in cell_shares(run_sweep(SWEEP, tmp_path, jobs=1)):
        shares = [cell[str(one)] for one in sweeps.Outcome]
        assert sum(shares) == pytest.approx(1)


def test_an_element_of_a_list_can_vary():
    axis = Axis(name="strengths.2", low=1.0, high=3.0, steps=3)
    sweep = Sweep(problem=Problem(), axes=(axis,), starts=1)
    assert [sweep.cell(i)[0].strengths for i in range(3)] == [(4.0, 1.0), (4.0, 2.0), (4.0, 3.0)]


def test_whole_numbers_stay_whole_and_are_taken_once():
    axis = Axis(name="neurons", low=1.0, high=3.0, steps=9)
    assert axis.values == (1.0, 2.0, 3.0)


@pytest.mark.parametrize(
    ("axis", "word"),
    [
        ({"name": "colour"}, "parameter to vary"),
        ({"name": "strengths"}, "strengths.1"),
        ({"name": "dim.1"}, "no dot"),
        ({"name": "noise", "steps": 0}, "steps"),
        ({"name": "noise", "low": -1.0, "log": True}, "log axis"),
        ({"name": "noise", "high": float("inf")}, "finite"),
    ],
)
def test_an_axis_that_means_nothing_is_refused(axis, word):
    with pytest.raises(ConfigError, match=word):
        Axis(**{"low": 1.0, "high": 2.0, "steps": 2, **axis})


@pytest.mark.parametrize(
    ("axes", "word"),
    [
        ((), "one or more"),
        (AXES[:1] * 2, "different"),
        ((Axis(name="dim", low=1.0, high=9.0, steps=2),), "makes no problem"),
        ((Axis(name="strengths.3", low=1.0, high=2.0, steps=2),), "strengths.3"),
        ((Axis(name="time", low=-1.0, high=1.0, steps=2),), "time"),
    ],
)
def test_a_grid_with_a_cell_that_means_nothing_is_refused_before_it_runs(axes, word):
    with pytest.raises(ConfigError, match=word):
        Sweep(problem=Problem(), axes=axes, starts=1)


def test_the_table_carries_its_sweep(tmp_path):
    table = run_sweep(SWEEP, tmp_path, jobs=1)
    assert json.loads(table.schema.metadata[b"offdiag.sweep"]) == SWEEP.to_dict()


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning")
def test_a_dask_cluster_gives_the_same_table(tmp_path):
    import joblib
    from distributed import Client, LocalCluster

    with (
        LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None) as cluster,
        Client(cluster),
        joblib.parallel_config(backend="dask"),
    ):
        table = run_sweep(SWEEP, tmp_path / "dask")
    assert table.equals(run_sweep(SWEEP, tmp_path / "threads", jobs=1))
