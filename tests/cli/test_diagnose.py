"""`offdiag diagnose` as a pipeline calls it: what it prints, writes, and ends with."""

import json
from dataclasses import replace

import numpy as np
import pytest

from offdiag.cli.diagnose import status
from offdiag.cli.main import main
from offdiag.diagnostics.diagnosis import Diagnosis
from offdiag.diagnostics.verdict import Kind
from offdiag.runs.diagnose import diagnose

from .test_commands import TINY, refused

DRAW = np.random.default_rng(0)
NOISE = DRAW.normal(size=(400, 32)).astype(np.float32)
LINES = (DRAW.normal(size=(400, 2)) @ DRAW.normal(size=(2, 32))).astype(np.float32)


@pytest.fixture
def files(tmp_path):
    np.save(tmp_path / "noise.npy", NOISE)
    np.save(tmp_path / "lines.npy", LINES)
    np.save(tmp_path / "labels.npy", np.arange(400) % 2)
    return tmp_path


def ending(*arguments) -> int:
    """The exit status of a command; 0 if it just returns."""
    try:
        main([str(argument) for argument in arguments])
    except SystemExit as end:
        return end.code
    return 0


@pytest.mark.parametrize("kind", Kind)
def test_the_exit_status_says_the_verdict(kind):
    verdict = replace(diagnose(NOISE).verdict, kind=kind)
    expected = {Kind.HEALTHY: 0, Kind.PROJECTION: 0, Kind.UNKNOWN: 4}.get(kind, 3)
    assert status(Diagnosis(name="z", verdict=verdict, readings={})) == expected


def test_healthy_ends_with_0_and_collapse_with_3(files, capsys):
    assert ending("diagnose", files / "noise.npy") == 0
    said = capsys.readouterr().out
    assert said.startswith("healthy. ") and "effective rank" in said and "noise" in said
    assert ending("diagnose", files / "lines.npy") == 3
    assert capsys.readouterr().out.startswith("dimensional collapse. ")


def test_labels_print_the_neighbours_accuracy(files, capsys):
    ending("diagnose", files / "noise.npy", "--labels", files / "labels.npy")
    said = capsys.readouterr().out
    assert "Nearest neighbours on the embeddings name the right class for" in said


def test_too_few_rows_end_with_4(files, capsys):
    np.save(files / "few.npy", DRAW.normal(size=(100, 512)).astype(np.float32))
    assert ending("diagnose", files / "few.npy") == 4
    assert "at least 256 rows" in capsys.readouterr().out


def test_json_alone_goes_to_the_output_with_null_for_nan(files, capsys):
    page = files / "new" / "page.html"
    end = ending(
        "diagnose", files / "lines.npy", "--labels", files / "labels.npy", "--json", "--out", page
    )
    printed = json.loads(capsys.readouterr().out, parse_constant=pytest.fail)
    assert end == 3 and printed["verdict"]["kind"] == "dimensional collapse"
    assert printed["readings"]["embeddings"]["rows"] == 400
    assert printed["readings"]["embeddings"]["lidar"] is None
    assert printed["noise"]["embeddings"]["effective_rank"] > 30
    assert 0 <= printed["knn"]["embeddings"] <= 1
    assert page.read_text().lower().startswith("<!doctype html>")
    assert set(printed) == {
        "offdiag_diagnosis",
        "name",
        "verdict",
        "notes",
        "readings",
        "noise",
        "start",
        "head",
        "knn",
        "causes",
        "observations",
        "about",
    }


def test_bad_input_is_one_sentence_and_ends_with_2(files, capsys):
    bad = NOISE.copy()
    bad[3] = np.nan
    np.save(files / "bad.npy", bad)
    assert "32 nan in 1 of 400 rows" in refused(["diagnose", files / "bad.npy"], capsys)
    assert "does not exist" in refused(["diagnose", files / "nowhere.npy"], capsys)
    views = ["--views", files / "labels.npy"]
    assert "floating-point" in refused(["diagnose", files / "noise.npy", *views], capsys)
    out = ["--out", files]
    assert "is a folder" in refused(["diagnose", files / "noise.npy", *out], capsys)


def test_a_name_with_brackets_and_stray_bytes_is_printed_as_it_is(files, capsys):
    path = files / "[red]z \udcff.npy"
    np.save(path, np.zeros((50, 32), np.float32))
    assert ending("diagnose", path, "--out", files / "page.html") == 3
    assert "[red]z ?.npy" in capsys.readouterr().out
    assert "[red]z ?.npy" in (files / "page.html").read_text()


def test_a_run_of_ours_and_its_embeddings_can_be_diagnosed(tmp_path, capsys):
    run = tmp_path / "run"
    main(["train", "--out", str(run), *TINY, "--epochs", "2"])
    main(["embed", str(run), "--out", str(tmp_path / "z.npz")])
    capsys.readouterr()
    assert ending("diagnose", run, "--out", tmp_path / "page.html") in (0, 3, 4)
    said = capsys.readouterr().out
    assert "encoder, 128 wide" in said and "projector, 8 wide" in said
    assert ending("diagnose", tmp_path / "z.npz", "--json") in (0, 3, 4)
    printed = json.loads(capsys.readouterr().out)
    assert set(printed["readings"]) == set(printed["knn"]) == {"features", "projection"}
