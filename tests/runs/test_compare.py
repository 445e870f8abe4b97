"""A grid in one directory: what is finished stays, what was cut or failed is taken up again."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time

import joblib
import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

import offdiag.runs.compare as compare_module
from offdiag._checks import ConfigError, RunError, TrainingError
from offdiag._grid_directory import held
from offdiag.results.comparison import READINGS, Status
from offdiag.results.history import EVALUATION_FILE, RunRecord
from offdiag.runs.compare import TABLE_FILE, Grid, compare, is_finished, read_comparison
from offdiag.runs.config import RunConfig

BASE = RunConfig(epochs=1, batch_size=512, projector=(32, 16), device="cpu")
GRID = Grid(base=BASE, heads=("none", "mlp"), seeds=(0, 1))
FIRST = "simsiam_none_bn_seed0"


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    out = tmp_path_factory.mktemp("grids") / "grid"
    return out, compare(GRID, out, jobs=1)


@pytest.fixture
def copy(done, tmp_path):
    return shutil.copytree(done[0], tmp_path / "copy")


@pytest.fixture
def calls(done, monkeypatch):
    """Runs that cost nothing: a copy of a finished one. What was asked for, in order."""
    asked = []

    def train(config, directory, watcher):
        asked.append(("train", directory.name))
        shutil.copytree(done[0] / "cells" / FIRST, directory)

    def resume(directory, watcher):
        asked.append(("resume", directory.name))
        shutil.copy(done[0] / "cells" / FIRST / EVALUATION_FILE, directory)

    monkeypatch.setattr(compare_module, "train", train)
    monkeypatch.setattr(compare_module, "resume", resume)
    return asked


def test_every_cell_is_a_run_and_a_row_of_the_table(done):
    out, comparison = done
    table = pq.read_table(out / TABLE_FILE).to_pylist()
    names = list(GRID.configs())
    assert [row["name"] for row in table] == names
    assert names[0] == FIRST and names[-1] == "simsiam_mlp_bn_seed1"
    for row in table:
        record = RunRecord.load(out / "cells" / row["name"])
        assert row["status"] == "finished" and row["error"] is None
        assert (row["head"], row["seed"]) == (record.config["head"], record.config["seed"])
        assert row["loss"] == record.history[-1].loss
        assert row["effective_rank_projection"] == record.history[-1].projection.effective_rank
        assert row["knn_features"] == record.evaluation["knn"]["features"]
        assert row["linear_projection"] == record.evaluation["linear"]["projection"]
        assert row["projector"] == [32, 16] and row["epochs"] == 1
        assert (row["head_norm_peak"] is None) == (row["head"] == "mlp")
        assert row["seconds"] > 0 and row["images_per_second"] > 0
    assert set(READINGS) <= set(table[0])
    assert not any(row.projection.spectrum for cell in comparison.cells for row in cell.history)


def test_the_same_command_again_trains_nothing(copy, calls):
    before = (copy / TABLE_FILE).read_bytes()
    again = compare(GRID, copy, jobs=1)
    assert calls == []
    assert (copy / TABLE_FILE).read_bytes() == before
    assert len(again.with_status(Status.FINISHED)) == 4


def test_a_grid_grows_and_what_it_had_stays(copy, calls):
    more = Grid(base=BASE, heads=("mlp", "bias"), seeds=(1, 2))
    grown = compare(more, copy, jobs=1)
    assert [name for _, name in calls] == [
        "simsiam_bias_bn_seed1",
        "simsiam_mlp_bn_seed2",
        "simsiam_bias_bn_seed2",
    ]
    assert [cell.name for cell in grown.cells][:4] == list(GRID.configs())
    assert len(grown.cells) == 7 == pq.read_table(copy / TABLE_FILE).num_rows


def test_a_cell_that_was_cut_goes_on_and_ends_as_it_would_have(copy):
    cell = copy / "cells" / FIRST
    evaluation = (cell / EVALUATION_FILE).read_text()
    (cell / EVALUATION_FILE).unlink()
    assert not is_finished(cell)
    assert read_comparison(copy).cells[0].status is Status.UNFINISHED
    heard = []
    compare(GRID, copy, jobs=1, on_cell=heard.append)
    assert [one.name for one in heard] == [FIRST]
    assert (cell / EVALUATION_FILE).read_text() == evaluation


def test_a_failed_cell_stops_no_other_and_is_tried_again(tmp_path, calls, monkeypatch):
    copying = compare_module.train

    def failing(config, directory, watcher):
        if config.head == "mlp" and config.seed == 0:
            raise TrainingError("the loss is not finite at step 1 of 2.")
        if config.head == "mlp":
            raise ZeroDivisionError("a bug")
        copying(config, directory, watcher)

    monkeypatch.setattr(compare_module, "train", failing)
    heard = []
    out = tmp_path / "grid"
    comparison = compare(GRID, out, jobs=1, on_cell=heard.append)
    assert [cell.status for cell in heard].count(Status.FINISHED) == 2
    errors = [cell.error for cell in comparison.with_status(Status.FAILED)]
    assert errors == ["the loss is not finite at step 1 of 2.", "ZeroDivisionError: a bug"]
    rows = pq.read_table(out / TABLE_FILE).to_pylist()
    assert [row["error"] for row in rows if row["status"] == "failed"] == errors
    kept = json.loads((out / "failures.json").read_text())
    assert "failing" in kept["simsiam_mlp_bn_seed1"]["traceback"]

    monkeypatch.setattr(compare_module, "train", copying)
    calls.clear()
    mended = compare(GRID, out, jobs=1)
    assert sorted(calls) == [("train", f"simsiam_mlp_bn_seed{seed}") for seed in (0, 1)]
    assert len(mended.with_status(Status.FINISHED)) == 4
    assert json.loads((out / "failures.json").read_text()) == {}


def test_another_grids_directory_is_refused_with_what_differs(copy, tmp_path, calls):
    other = Grid(base=RunConfig(**{**vars(BASE), "epochs": 2, "lr": 0.1}), heads=("none",))
    with pytest.raises(RunError, match=r"it has epochs 1, not 2, lr 0.003, not 0.1\. Give those"):
        compare(other, copy, jobs=1)
    indifferent = RunConfig(**{**vars(BASE), "download": True, "checkpoint_seconds": 1.0})
    compare(Grid(base=indifferent, heads=("none",)), copy, jobs=1)
    with pytest.raises(RunError, match=r"something other than a grid \(cells"):
        (copy / "grid.json").unlink()
        compare(GRID, copy, jobs=1)
    (tmp_path / "file").write_text("")
    with pytest.raises(RunError, match="cannot make the folder"):
        compare(GRID, tmp_path / "file")
    (copy / "grid.json").write_text('{"base": {}, "cells": [{"name": "../x"}]}')
    with pytest.raises(RunError, match="was not written by offdiag"):
        read_comparison(copy)
    assert calls == []


def test_two_commands_at_once_do_not_share_a_directory(tmp_path, calls):
    with (
        held(tmp_path),
        pytest.raises(RunError, match=rf"another process \({os.getpid()} on .+\) is at work"),
    ):
        compare(GRID, tmp_path, jobs=1)
    assert len(compare(GRID, tmp_path, jobs=1).with_status(Status.FINISHED)) == 4


@pytest.mark.parametrize(
    ("settings", "word"),
    [
        ({"heads": ("none", "none")}, "the heads of a grid must be different"),
        ({"seeds": (1, 1)}, "the seeds of a grid must be different; got 1, 1"),
        ({"heads": ("diagonal",)}, "unknown head"),
        (
            {
                "methods": ("byol",),
                "base": RunConfig(settings={"method": {"stop_gradient": "none"}}),
            },
            "the method 'byol' has no setting 'stop_gradient'",
        ),
        ({"seeds": (-1,)}, "the seed must lie in"),
    ],
)
def test_a_grid_with_a_cell_that_makes_no_run_is_refused_when_built(settings, word):
    with pytest.raises(ConfigError, match=word):
        Grid(**settings)


@pytest.mark.parametrize("how", [{"jobs": 0}, {"jobs": -2}, {"threads": 0}])
def test_no_jobs_and_no_threads_are_refused(how, tmp_path):
    with pytest.raises(ConfigError, match="jobs|threads"):
        compare(GRID, tmp_path / "grid", **how)
    assert list(tmp_path.iterdir()) == []


def test_runs_without_labels_are_finished_when_trained(tmp_path, monkeypatch):
    draw = np.random.default_rng(0)
    (tmp_path / "pictures").mkdir()
    for i in range(20):
        image = Image.fromarray(draw.integers(0, 255, (16, 16, 3), dtype=np.uint8))
        image.save(tmp_path / "pictures" / f"{i:02}.png")
    base = RunConfig(**{**vars(BASE), "data": f"folder:{tmp_path / 'pictures'}", "batch_size": 8})
    comparison = compare(Grid(base=base), tmp_path / "grid", jobs=1)
    assert [cell.status for cell in comparison.cells] == [Status.FINISHED]
    assert comparison.cells[0].ending.knn_features is None
    monkeypatch.setattr(compare_module, "_run_cell", None)
    compare(Grid(base=base), tmp_path / "grid", jobs=1)


def test_a_killed_worker_is_one_sentence_and_the_grid_goes_on(tmp_path, calls, monkeypatch):
    def killed():
        os.kill(os.getpid(), signal.SIGKILL)

    def workers_die(*_):  # real ones, at once, before they have loaded anything
        parallel = joblib.Parallel(n_jobs=2, return_as="generator_unordered")
        yield from parallel(joblib.delayed(killed)() for _ in range(2))

    out = tmp_path / "grid"
    with monkeypatch.context() as poisoned:
        poisoned.setattr(compare_module, "_work", workers_die)
        with pytest.raises(RunError, match="a worker process was lost .* 0 of 4 runs in .* go on"):
            compare(GRID, out, jobs=2)
    assert not (out / TABLE_FILE).exists()
    assert len(compare(GRID, out, jobs=1).with_status(Status.FINISHED)) == 4


def command(out):
    words = "compare --heads none mlp --epochs 12 --projector 32 16 --checkpoint-seconds 0 --jobs 2"
    return [sys.executable, "-m", "offdiag", *words.split(), "--out", str(out)]


def begun(out):
    """The command, once both of its runs have a reading."""
    process = subprocess.Popen(
        command(out),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    while len(list(out.glob("cells/*/metrics.jsonl"))) < 2:
        assert process.poll() is None, process.communicate()
        time.sleep(0.05)
    return process


def workers(process):
    listed = subprocess.run(
        ["ps", "-o", "pid=,args=", "--ppid", str(process.pid)], capture_output=True, text=True
    ).stdout
    return [int(line.split()[0]) for line in listed.splitlines() if "popen_loky" in line]


@pytest.mark.slow
@pytest.mark.parametrize("whom", ["a worker", "the command", "the terminal"])
def test_after_a_kill_the_same_command_ends_as_if_there_had_been_none(tmp_path, whom):
    out, whole = tmp_path / "grid", tmp_path / "whole"
    process = begun(out)
    alive = workers(process)
    assert len(alive) == 2
    if whom == "a worker":
        os.kill(alive[0], signal.SIGKILL)
    elif whom == "the command":
        process.kill()
    else:
        process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=60)
    if whom == "a worker":
        assert process.returncode == 2
        assert said.startswith("offdiag: a worker process was lost") and said.count("\n") == 1
    elif whom == "the terminal":
        assert process.returncode == 130 and said == "offdiag: interrupted.\n"
    until = time.monotonic() + 20  # no worker trains on beside the next command's
    while any(os.path.exists(f"/proc/{pid}/cmdline") for pid in alive):
        assert time.monotonic() < until
        time.sleep(0.1)
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    for directory in (out, whole):
        subprocess.run(command(directory), check=True, capture_output=True, env=environment)
    for name in ("simsiam_none_bn_seed0", "simsiam_mlp_bn_seed0"):
        ours, theirs = (RunRecord.load(d / "cells" / name) for d in (out, whole))
        assert [row.loss for row in ours.history] == [row.loss for row in theirs.history]
        assert ours.evaluation == theirs.evaluation


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning")
def test_a_dask_cluster_runs_the_grid_to_the_same_numbers(done, tmp_path):
    from distributed import Client, LocalCluster

    with (
        LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None) as cluster,
        Client(cluster),
        joblib.parallel_config(backend="dask"),
    ):
        comparison = compare(GRID, tmp_path / "dask", jobs=-1)
    assert [cell.ending.loss for cell in comparison.cells] == [
        cell.ending.loss for cell in done[1].cells
    ]
