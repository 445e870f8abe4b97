import json
import re

import pyarrow.parquet as pq
import pytest

from offdiag.cli import theory
from offdiag.cli.main import main
from offdiag.theory.claim import ClaimState, Finding
from offdiag.theory.ensemble import InterruptedEnsemble, ensemble
from offdiag.theory.problem import Problem

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


@pytest.fixture(scope="module")
def page_of_a_run(tmp_path_factory):
    out = tmp_path_factory.mktemp("run")
    main(["theory", "run", "--dim", "200", "--starts", "6", "--time", "1e6", "--out", str(out)])
    return out


def test_run_draws_the_story_on_one_page_that_asks_nothing_of_the_network(page_of_a_run):
    assert {path.name for path in page_of_a_run.iterdir()} == {
        "theory.html",
        "story.png",
        "story.svg",
        "story.pdf",
        "numbers.json",
        "with-head.npz",
        "without-head.npz",
    }
    page = (page_of_a_run / "theory.html").read_text()
    assert page.count("data-chart=") == 8
    without_scripts = re.sub(r"<script>.*?</script>", "", page, flags=re.DOTALL)
    assert not re.search(r"(?:src|href)=[\"']?(?:https?:)?//", without_scripts)


def test_the_page_tells_a_story_in_order(page_of_a_run):
    page = (page_of_a_run / "theory.html").read_text()
    headings = [
        "What was asked",
        "What happened",
        "How often",
        "Why<",
        "How to go on",
        "All numbers",
    ]
    places = [page.index(heading) for heading in headings]
    assert places == sorted(places)
    for setting in json.loads((page_of_a_run / "numbers.json").read_text())["problem"]:
        assert setting.replace("_", " ") in page


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


def finding(key, state, numbers):
    return Finding(
        key=key,
        title=f"The title of {key}",
        state=state,
        numbers=numbers,
        reason="of that",
        starts=1,
    )


@pytest.mark.parametrize(
    ("state", "status"),
    [(ClaimState.HELD, 0), (ClaimState.DOES_NOT_APPLY, 0), (ClaimState.NOT_HELD, 1)],
)
def test_verify_ends_with_1_if_and_only_if_a_claim_was_refuted(
    state, status, tmp_path, monkeypatch, capsys
):
    size = {"head_lr_ratio": [0.01, 0.1], "median_max": [0.05, 0.17]}
    wait = {"dim": [100, 1000], "median_time": [70.0, 7000.0], "predicted_time": [70.0, 7000.0]}
    findings = [
        finding("head-size", state, size if state is not ClaimState.DOES_NOT_APPLY else {}),
        finding("first-learning-time", ClaimState.HELD, wait),
    ]
    monkeypatch.setattr(theory, "verify", lambda *_, **__: findings)
    words = ["theory", "verify", "--json", str(tmp_path / "v.json"), "--out", str(tmp_path / "out")]
    if status == 0:
        main(words)
    else:
        with pytest.raises(SystemExit) as ended:
            main(words)
        assert ended.value.code == status
        assert "The title of head-size" in capsys.readouterr().err
    saved = json.loads((tmp_path / "v.json").read_text())
    assert [one["state"] for one in saved] == [str(state), "held"]
    assert (tmp_path / "out" / "d2-law.pdf").exists()
    drawn = state is not ClaimState.DOES_NOT_APPLY
    assert (tmp_path / "out" / "sqrt-law.png").exists() == drawn
    page = (tmp_path / "out" / "verify.html").read_text()
    assert page.index("What was asked") < page.index("Claims</h2>")


def test_verify_ends_with_3_where_no_claim_applies(monkeypatch):
    monkeypatch.setattr(
        theory, "verify", lambda *_, **__: [finding("head-size", ClaimState.DOES_NOT_APPLY, {})]
    )
    with pytest.raises(SystemExit) as ended:
        main(["theory", "verify"])
    assert ended.value.code == 3


def test_an_interrupted_run_prints_the_starts_that_are_done(tmp_path, monkeypatch, capsys):
    whole = ensemble(Problem(dim=200), time=1e6, count=5)

    def stop(*_, **__):
        raise InterruptedEnsemble(whole)

    monkeypatch.setattr(theory, "ensemble", stop)
    path = tmp_path / "numbers.json"
    with pytest.raises(SystemExit) as ended:
        main(["theory", "run", "--starts", "50", "--json", str(path)])
    assert ended.value.code == 130
    numbers = json.loads(path.read_text())
    assert numbers["starts"] == 5 and numbers["interrupted"] is True
    assert "5 starts" in capsys.readouterr().out


def test_what_is_too_big_is_one_sentence(capsys):
    with pytest.raises(SystemExit) as ended:
        main(["theory", "run", "--neurons", "40"])
    assert ended.value.code == 2
    message = capsys.readouterr().err
    assert "linear equations" in message and "minutes of work" not in message


def test_help_describes_the_command(capsys):
    with pytest.raises(SystemExit):
        main(["theory", "--help"])
    text = capsys.readouterr().out
    assert "exact dynamics" in text and "Union" not in text
