"""Every example runs for a few steps, and its header holds the result of a whole run."""

import re
import runpy
import sys
from pathlib import Path

import pytest

EXAMPLES = sorted((Path(__file__).parents[1] / "examples").glob("*.py"))


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.stem)
def test_an_example_runs_for_a_few_steps(example, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", [str(example), "--steps", "2", "--out", "out"])
    runpy.run_path(str(example), run_name="__main__")
    assert "seed 0" in capsys.readouterr().out
    assert list((tmp_path / "out").iterdir())


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.stem)
def test_an_example_says_what_came_of_a_whole_run(example):
    header = " ".join(example.read_text().split('"""')[1].split())
    assert re.search(r"Seeds? 0.*, 2 virtual cores.*, torch [\d.]+, \d{4}-\d\d-\d\d", header)
    assert 50 <= len(example.read_text().splitlines()) <= 130
