"""Checkpoints are whole or absent, and never unpickled."""

import pickle

import pytest
import torch

from offdiag._checks import RunError
from offdiag.training.checkpoint import CHECKPOINT_FILE, load_checkpoint, save_checkpoint


def test_what_is_saved_is_loaded(tmp_path):
    save_checkpoint(tmp_path, {"weight": torch.arange(3.0), "step": 7})
    state = load_checkpoint(tmp_path)
    assert state["step"] == 7
    assert torch.equal(state["weight"], torch.arange(3.0))
    assert [p.name for p in tmp_path.iterdir()] == [CHECKPOINT_FILE]


def test_a_write_that_fails_leaves_the_old_checkpoint_and_nothing_else(tmp_path, monkeypatch):
    save_checkpoint(tmp_path, {"step": 1})

    def full(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(RunError, match=r"cannot write .*checkpoint.pt: No space left on device"):
        save_checkpoint(tmp_path, {"step": 2})
    assert load_checkpoint(tmp_path)["step"] == 1
    assert [p.name for p in tmp_path.iterdir()] == [CHECKPOINT_FILE]


def test_a_missing_checkpoint_is_named(tmp_path):
    with pytest.raises(RunError, match="has no checkpoint.pt"):
        load_checkpoint(tmp_path)


@pytest.mark.parametrize("keep", [0, 10, 200])
def test_a_checkpoint_cut_short_is_refused(tmp_path, keep):
    save_checkpoint(tmp_path, {"weight": torch.zeros(100)})
    path = tmp_path / CHECKPOINT_FILE
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(RunError, match="cannot be read as a checkpoint"):
        load_checkpoint(tmp_path)


class Bomb:
    def __reduce__(self):
        return (pytest.fail, ("a checkpoint was unpickled",))


@pytest.mark.parametrize(
    "write", [lambda b, p: torch.save(b, p), lambda b, p: p.write_bytes(pickle.dumps(b))]
)
def test_code_in_a_checkpoint_does_not_run(tmp_path, write):
    write({"format": 1, "bomb": Bomb()}, tmp_path / CHECKPOINT_FILE)
    with pytest.raises(RunError, match="cannot be read as a checkpoint"):
        load_checkpoint(tmp_path)
