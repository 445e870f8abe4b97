import json
import re

import pyarrow.parquet as pq
import pytest

from offdiag.cli import theory
from offdiag.cli.main import main

KEYS = {
    "diverse",
    "collapsed_strong",
    "collapsed_other",
    "unlearned",
    "median_max_off_diagonal",
    "median_final_off_diagonal",
    "median_time_strong_feature",
    "seconds",
    "problem",
}


def test_run_writes_the_numbers(tmp_path, capsys):
    path = tmp_path / "numbers.json"
    main(["theory", "run", "--dim", "200", "--starts", "8", "--time", "1e6", "--json", str(path)])
    numbers = json.loads(path.read_text())
    assert set(numbers) >= KEYS
    assert numbers["problem"]["dim"] == 200 and numbers["starts"] == 8
    assert "diverse" in capsys.readouterr().out


def test_run_draws_the_story_on_one_page_that_asks_nothing_of_the_network(tmp_path):
    main(
        ["theory", "run", "--dim", "200", "--starts", "6", "--time", "1e6", "--out", str(tmp_path)]
    )
    names = {path.name for path in tmp_path.iterdir()}
    assert names == {
        "theory.html",
        "story.png",
        "story.svg",
        "numbers.json",
        "with-head.npz",
        "without-head.npz",
    }
    page = (tmp_path / "theory.html").read_text()
    assert page.count("data-chart=") == 8
    without_scripts = re.sub(r"<script>.*?</script>", "", page, flags=re.DOTALL)
    assert not re.search(r"(?:src|href)=[\"']?(?:https?:)?//", without_scripts)


def test_sweep_writes_one_table_and_its_diagrams_and_goes_on(tmp_path, capsys):
    words = ["theory", "sweep", "--starts", "2", "--time", "1e5", "--out", str(tmp_path)]
    words += ["--vary", "head-lr-ratio", "1e-3", "1e-1", "3", "log"]
    words += ["--vary", "dim", "50", "100", "2"]
    main(words)
    assert pq.read_table(tmp_path / "sweep.parquet").num_rows == 12
    assert (tmp_path / "diverse.png").exists() and (tmp_path / "sweep.html").exists()
    before = (tmp_path / "sweep.parquet").stat().st_mtime_ns
    main(words)
    assert (tmp_path / "sweep.parquet").stat().st_mtime_ns == before
    assert "12 starts in 6 cells; 0 failed" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("vary", "word"),
    [
        (["dim", "1"], "NAME LOW HIGH STEPS"),
        (["dim", "a", "b", "3"], "numbers"),
        (["dim", "1", "2", "3", "linear"], "NAME LOW HIGH STEPS"),
        (["colour", "1", "2", "3"], "colour"),
    ],
)
def test_an_axis_that_cannot_be_read_is_one_sentence(vary, word, tmp_path, capsys):
    with pytest.raises(SystemExit) as ended:
        main(["theory", "sweep", "--out", str(tmp_path / "out"), "--vary", *vary])
    assert ended.value.code == 2
    assert word in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_problem_that_makes_no_sense_is_one_sentence(capsys):
    with pytest.raises(SystemExit) as ended:
        main(["theory", "run", "--dim", "3"])
    assert ended.value.code == 2
    assert "dim must be" in capsys.readouterr().err


@pytest.mark.parametrize("holds", [True, False])
def test_verify_ends_with_1_if_and_only_if_a_claim_fails(holds, tmp_path, monkeypatch, capsys):
    numbers = {
        "max |E_21| ~ sqrt(rho)": {"head_lr_ratio": [0.01, 0.1], "median_max": [0.05, 0.17]},
        "T_1 ~ d^2": {"dim": [100, 1000], "median_time": [70.0, 7000.0]},
    }
    claims = [
        theory.Claim(
            name=name,
            paper="",
            measured="",
            requirement="",
            numbers=values,
            starts=1,
            holds=holds or name.startswith("T"),
        )
        for name, values in numbers.items()
    ]
    monkeypatch.setattr(theory, "verify", lambda *_, **__: claims)
    words = ["theory", "verify", "--json", str(tmp_path / "v.json"), "--out", str(tmp_path / "out")]
    if holds:
        main(words)
    else:
        with pytest.raises(SystemExit) as ended:
            main(words)
        assert ended.value.code == 1
        assert "max |E_21|" in capsys.readouterr().err
    assert len(json.loads((tmp_path / "v.json").read_text())) == 2
    assert (tmp_path / "out" / "sqrt-law.png").exists()
