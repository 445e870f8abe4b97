"""`offdiag compare` as a newcomer types it."""

import pytest

from offdiag.cli.main import main

TINY = ["--epochs", "1", "--batch-size", "512", "--projector", "16", "8", "--jobs", "1"]


def refused(arguments, capsys):
    with pytest.raises(SystemExit) as ending:
        main([str(argument) for argument in arguments])
    assert ending.value.code == 2
    said = capsys.readouterr()
    assert said.err.startswith("offdiag: ") and said.err.count("\n") == 1, said
    return said.err, said.out


def test_failed_runs_make_the_exit_status_and_the_page_is_written_all_the_same(tmp_path, capsys):
    wild = ["--optimizer", "sgd", "--lr", "1e30", "--method", "simsiam", "--seeds", 4]
    grid = ["compare", "--heads", "none", "mlp", "--normalisers", "none", "--out", tmp_path / "g"]
    said, out = refused([*grid, *wild, *TINY], capsys)
    assert "2 of 2 runs failed in" in said and "not finite at step" in said
    assert "simsiam_mlp_none_seed4: FAILED: " in out
    page = (tmp_path / "g" / "report.html").read_text()
    assert "2 of 2 runs failed" in page
    assert (tmp_path / "g" / "table.parquet").exists()


def test_one_line_for_each_run_and_none_when_all_are_done(tmp_path, capsys):
    grid = ["compare", "--heads", "none", "--seeds", "0", "--out", str(tmp_path / "g"), *TINY]
    main(grid)
    first = capsys.readouterr().out
    assert "simsiam_none_bn_seed0: loss " in first and "kNN" in first
    main(grid)
    again = capsys.readouterr().out
    assert "seed0" not in again and again.count("wrote") == 2


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--heads", "none", "--head", "mlp"], "--heads says what to compare"),
        (["--seeds", "1", "1"], "the seeds of a grid must be different"),
        (["--heads", "diagonal"], "unknown head 'diagonal'"),
        (["--jobs", "0"], "jobs must be -1"),
    ],
)
def test_bad_input_gets_one_sentence_and_leaves_nothing(words, sentence, tmp_path, capsys):
    said, _ = refused(["compare", "--out", tmp_path / "g", *words], capsys)
    assert sentence in said
    assert list(tmp_path.iterdir()) == []
