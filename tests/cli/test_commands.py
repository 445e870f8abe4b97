"""The command line as a newcomer types it: what it writes, and what it says when it cannot."""

import json
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from offdiag.cli.main import main
from offdiag.runs.demo import DEMO_HEADS

TINY = ["--epochs", "1", "--batch-size", "512", "--projector", "16", "8"]


def refused(arguments, capsys):
    """Run a command that must fail; the one sentence that it printed."""
    with pytest.raises(SystemExit) as ending:
        main([str(argument) for argument in arguments])
    assert ending.value.code == 2
    said = capsys.readouterr().err
    assert said.startswith("offdiag: ") and said.count("\n") == 1, said
    return said


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    out = tmp_path_factory.mktemp("cli") / "run"
    main(["train", "--out", str(out), *TINY])
    return out


@pytest.fixture
def pictures(tmp_path, generator):
    """Forty pictures of no class, 16 x 16."""
    folder = tmp_path / "pictures"
    folder.mkdir()
    draw = np.random.default_rng(0)
    for i in range(40):
        Image.fromarray(draw.integers(0, 255, (16, 16, 3), dtype=np.uint8)).save(
            folder / f"{i:02}.png"
        )
    return folder


def test_train_writes_a_run_and_its_page(run):
    assert {p.name for p in run.iterdir()} == {
        "config.json",
        "metrics.jsonl",
        "head.npz",
        "evaluation.json",
        "checkpoint.pt",
        "report.html",
    }


def test_evaluate_prints_json_that_agrees_with_the_run(run, capsys):
    main(["evaluate", str(run), "--json"])
    printed = json.loads(capsys.readouterr().out)
    written = json.loads((run / "evaluation.json").read_text())
    assert printed["knn"] == written["knn"]
    assert printed["linear"] == written["linear"]
    assert printed["settings"]["knn"]["neighbours"] == 20


def test_embed_writes_what_evaluation_sees(run, tmp_path):
    out = tmp_path / "digits.npz"
    main(["embed", str(run), "--out", str(out)])
    with np.load(out, allow_pickle=False) as arrays:
        assert arrays["features"].shape == (1797, 128)
        assert arrays["projection"].shape == (1797, 8)
        assert set(arrays["labels"]) == set(range(10))
        assert list(arrays["classes"]) == [str(i) for i in range(10)]
        assert 0.15 < arrays["split"].mean() < 0.25


def test_report_compares_runs(run, tmp_path):
    main(["report", str(run), str(run), "--out", str(tmp_path / "page.html")])
    assert (tmp_path / "page.html").read_text().lower().startswith("<!doctype html>")


def test_a_folder_without_labels_trains_and_embeds(pictures, tmp_path, capsys):
    out = tmp_path / "run"
    main(["train", "--data", f"folder:{pictures}", "--out", str(out), *TINY, "--batch-size", "16"])
    assert (out / "report.html").exists() and not (out / "evaluation.json").exists()
    main(["embed", str(out), "--out", str(tmp_path / "z.npz")])
    with np.load(tmp_path / "z.npz", allow_pickle=False) as arrays:
        assert arrays["features"].shape == (40, 128)
        assert "labels" not in arrays
    said = refused(["evaluate", out], capsys)
    assert "has no labels" in said


def test_demo_writes_the_summary_that_it_promises(tmp_path, monkeypatch):
    monkeypatch.setattr("offdiag.cli.demo.EPOCHS", 1)
    main(["demo", "--out", str(tmp_path / "demo"), "--seed", "3"])
    summary = json.loads((tmp_path / "demo" / "summary.json").read_text())
    assert [run["head"] for run in summary["runs"]] == list(DEMO_HEADS)
    for run in summary["runs"]:
        assert run["seed"] == 3
        assert run["effective_rank"].keys() == {"features", "projection"}
        assert run["knn"].keys() == run["linear"].keys() == {"features", "projection"}
        assert run["head_off_diagonal_norm"].keys() == {"peak", "peak_epoch", "final"}
        assert run["seconds"] > 0
    assert (tmp_path / "demo" / "report.html").exists()


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["train", "--out", "x", "--head", "diagonal"], "unknown head 'diagonal': choose one of"),
        (["train", "--out", "x", "--data", "cifar11"], "unknown data 'cifar11': choose one of"),
        (["train", "--out", "x", "--data", "folder:nowhere"], "nowhere does not exist"),
        (["train", "--out", "x", "--batch-size", "5000"], "a batch of 5000 needs"),
        (["train", "--out", "x", "--views", "loud"], "unknown recipe of views 'loud'"),
        (["train"], "give --out DIR, or --resume DIR"),
        (["train", "--resume", "x", "--head", "mlp"], "takes every setting from that directory"),
        (["train", "--resume", "nowhere"], "nowhere is not a run directory"),
        (["evaluate", "nowhere"], "nowhere has no checkpoint.pt"),
        (["report", "nowhere", "--out", "page.html"], "nowhere is not a run directory"),
        (["embed", "nowhere", "--out", "z.csv"], "--out must end in .npz"),
        (["train", "--out", "x", "--workers", "-1"], "decoding workers must be at least 0"),
        (["report", __file__, "--out", "page.html"], "is not a run directory"),
        (["train", "--resume", __file__], "is not a run directory"),
        (["theory", "run", "--out", __file__], "cannot make the folder"),
        (["theory", "sweep", "--vary", "dim", "9", "99", "2", "--out", __file__], "cannot make"),
        (["theory", "run", "--starts", "2", "--shown", "5", "--json", "j.json"], "shown must be"),
        (["theory", "run", "--noise", "0"], "noise must be a positive number"),
    ],
)
def test_bad_input_gets_one_sentence_and_leaves_nothing(
    arguments, sentence, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    assert sentence in refused(arguments, capsys)
    assert list(tmp_path.iterdir()) == []


def test_an_existing_run_is_not_overwritten(run, capsys):
    assert "exists already" in refused(["train", "--out", run, *TINY], capsys)
    assert "exists already" in refused(["demo", "--out", run], capsys)


def test_pictures_that_cannot_be_used_are_named(pictures, tmp_path, capsys):
    train = ["train", "--data", f"folder:{pictures}", "--out", tmp_path / "run"]
    (pictures / "05.png").write_bytes((pictures / "05.png").read_bytes()[:60])
    assert "05.png" in refused(train, capsys)
    (pictures / "05.png").unlink()
    Image.new("RGB", (20, 16)).save(pictures / "06.png")
    assert "06.png" in refused(train, capsys) and not (tmp_path / "run").exists()
    Image.new("RGBA", (16, 16)).save(pictures / "06.png")
    assert "06.png" in refused(train, capsys)


def test_a_rate_that_diverges_names_the_step_and_can_be_seen_in_the_exit_status(tmp_path, capsys):
    wild = ["--optimizer", "sgd", "--lr", "1e30", "--normaliser", "none"]
    said = refused(["train", "--out", tmp_path / "run", *TINY, *wild], capsys)
    assert "not finite at step" in said
    assert (tmp_path / "run" / "checkpoint.pt").exists()


def test_the_module_runs_as_a_command():
    done = subprocess.run(
        [sys.executable, "-m", "offdiag", "--help"], capture_output=True, text=True, check=True
    )
    assert "demo" in done.stdout


def test_embedding_images_of_another_shape_is_refused(run, pictures, tmp_path, capsys):
    other = ["--data", f"folder:{pictures}", "--out", tmp_path / "z.npz"]
    said = refused(["embed", run, *other], capsys)
    assert "1 channel and 8 x 8 pixels" in said and "3 channels and 16 x 16 pixels" in said
    main([str(w) for w in ("embed", run, *other, "--image-size", 8, "--channels", "gray")])
    with np.load(tmp_path / "z.npz", allow_pickle=False) as arrays:
        assert arrays["features"].shape == (40, 128)
