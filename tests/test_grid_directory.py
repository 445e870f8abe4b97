"""A directory of cells: one process at a time, never mixed up, and what it says of both."""

import json
import os
import subprocess
import sys

import joblib
import pytest

from offdiag._checks import RunError
from offdiag._grid_directory import LOCK_FILE, as_they_end, claimed, held, read_failures

HOLDER = """
import sys
from pathlib import Path
from offdiag._grid_directory import held
with held(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


def test_a_second_process_is_told_who_holds_the_directory_until_that_one_ends(tmp_path):
    other = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(tmp_path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert other.stdout.readline() == "held\n"
    for _ in range(2):  # the first refusal must not erase the holder's name
        sentence = rf"another process \({other.pid} on .+\) is at work"
        with pytest.raises(RunError, match=sentence), held(tmp_path):
            pass
    other.kill()
    other.communicate()
    with held(tmp_path):
        assert json.loads((tmp_path / LOCK_FILE).read_text())["pid"] == os.getpid()


def test_an_empty_lock_of_an_older_version_names_nobody(tmp_path):
    with held(tmp_path):
        (tmp_path / LOCK_FILE).write_text("")
        with pytest.raises(RunError, match="another process is at work"), held(tmp_path):
            pass


def test_the_spec_is_written_and_may_grow_or_be_refused(tmp_path):
    with claimed(tmp_path / "a", "spec.json", lambda: {"cells": [1]}):
        pass
    with claimed(tmp_path / "a", "spec.json", lambda: {"cells": [1, 2]}):
        assert json.loads((tmp_path / "a" / "spec.json").read_text()) == {"cells": [1, 2]}

    def refuses():
        raise RunError("another grid.")

    with (
        pytest.raises(RunError, match="another grid"),
        claimed(tmp_path / "a", "spec.json", refuses),
    ):
        pass
    assert json.loads((tmp_path / "a" / "spec.json").read_text()) == {"cells": [1, 2]}


def test_a_directory_of_something_else_is_refused_and_left_as_it_was(tmp_path):
    (tmp_path / "letter.txt").write_text("dear")
    sentence = r"something other than a grid \(letter.txt\)"
    with pytest.raises(RunError, match=sentence), claimed(tmp_path, "spec.json", dict):
        pass
    assert [path.name for path in tmp_path.iterdir()] == ["letter.txt"]


def test_failures_that_cannot_be_read_are_none(tmp_path):
    assert read_failures(tmp_path) == {}
    (tmp_path / "failures.json").write_text('{"a": {"error": "no."}, "b": {}}')
    assert read_failures(tmp_path) == {"a": {"error": "no."}}
    (tmp_path / "failures.json").write_text('{"a":')
    assert read_failures(tmp_path) == {}


def test_every_call_comes_back_once():
    calls = (joblib.delayed(pow)(n, 2) for n in range(5))
    assert sorted(as_they_end(calls, jobs=2, prefer="threads")) == [0, 1, 4, 9, 16]
