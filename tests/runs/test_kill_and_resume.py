"""SIGKILL at random moments, through the real command: the end is the same to the bit."""

import os
import random
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import torch

from offdiag.results.history import RunRecord
from offdiag.training.checkpoint import load_checkpoint

# One thread: the sums come out alike, and a busy machine is no slower for it.
ONE_THREAD = {**os.environ, "OMP_NUM_THREADS": "1"}
SETTINGS = ["--epochs", "6", "--batch-size", "256", "--projector", "32", "16"]


def command(out, *, checkpoint_seconds):
    start = ["--out", str(out), *SETTINGS, "--checkpoint-seconds", str(checkpoint_seconds)]
    words = ["--resume", str(out)] if out.exists() else start
    return [sys.executable, "-m", "offdiag", "train", *words]


def trained(out, **how):
    subprocess.run(command(out, **how), check=True, capture_output=True, env=ONE_THREAD)


def killed(out, after, **how):
    """Start the command and kill it `after` seconds from its first sign of training.

    Whether the kill came while it still ran. A first sign is a checkpoint newer than
    the one it found, so no kill is spent on imports.
    """
    checkpoint = out / "checkpoint.pt"
    found = checkpoint.stat().st_mtime_ns if checkpoint.exists() else 0
    process = subprocess.Popen(command(out, **how), stdout=subprocess.DEVNULL, env=ONE_THREAD)
    while process.poll() is None:
        if checkpoint.exists() and checkpoint.stat().st_mtime_ns > found:
            time.sleep(after)
            break
        time.sleep(0.002)
    in_time = process.poll() is None
    process.send_signal(signal.SIGKILL)
    process.wait()
    return in_time


def check_whole(out):
    """Every file that bears a name is whole, at whatever moment the run was killed."""
    if not out.exists():
        return
    assert load_checkpoint(out)["progress"]["step"] >= 0
    if (out / "metrics.jsonl").exists() and (out / "metrics.jsonl").read_text().count("\n"):
        RunRecord.load(out)


def assert_same_end(out, reference):
    ours, theirs = load_checkpoint(out), load_checkpoint(reference)
    for part in ("method", "head"):
        assert ours[part].keys() == theirs[part].keys()
        for key, value in theirs[part].items():
            same = (
                torch.equal(ours[part][key], value)
                if torch.is_tensor(value)
                else (ours[part][key] == value)
            )
            assert same, key
    with np.load(out / "head.npz") as a, np.load(reference / "head.npz") as b:
        assert all(np.array_equal(a[key], b[key]) for key in b)
    assert (out / "evaluation.json").read_text() == (reference / "evaluation.json").read_text()
    assert [r.loss for r in RunRecord.load(out).history] == [
        r.loss for r in RunRecord.load(reference).history
    ]
    assert sorted(p.name for p in out.iterdir()) == sorted(p.name for p in reference.iterdir())
    assert not list(out.parent.glob(".*"))


def kill_and_compare(folder, *, kills, seed):
    """Runs that are killed up to three times each and then finished, until `kills` came in time."""
    draw = random.Random(seed)
    trained(folder / "reference", checkpoint_seconds=0)
    done = 0
    for run in range(4 * kills):
        out = folder / f"run{run}"
        for _ in range(min(3, kills - done)):
            done += killed(out, draw.uniform(0, 1.5), checkpoint_seconds=0)
            check_whole(out)
        trained(out, checkpoint_seconds=0)
        assert_same_end(out, folder / "reference")
        if done >= kills:
            return
    pytest.fail(f"only {done} of {kills} kills came in time")


def test_a_kill_at_a_random_moment_changes_no_bit(tmp_path):
    kill_and_compare(tmp_path, kills=1, seed=1)


@pytest.mark.slow
def test_twenty_kills_at_random_moments_change_no_bit(tmp_path):
    kill_and_compare(tmp_path, kills=20, seed=20)
