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
    """Start the command, kill it `after` seconds; whether the kill came in time."""
    process = subprocess.Popen(command(out, **how), stdout=subprocess.DEVNULL, env=ONE_THREAD)
    time.sleep(after)
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


@pytest.mark.slow
def test_twenty_kills_at_random_moments_change_no_bit(tmp_path):
    draw = random.Random(20)
    start = time.perf_counter()
    trained(tmp_path / "reference", checkpoint_seconds=0)
    whole = time.perf_counter() - start
    kills = 0
    for run in range(40):
        out = tmp_path / f"run{run}"
        often = 0.0 if run % 2 else 0.3
        for _ in range(4):
            kills += killed(out, draw.uniform(0, whole), checkpoint_seconds=often)
            check_whole(out)
        trained(out, checkpoint_seconds=often)
        assert_same_end(out, tmp_path / "reference")
        if kills >= 20:
            break
    assert kills >= 20
