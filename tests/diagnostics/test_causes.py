"""Laws of naming causes: a pure function of recorded marks, the strongest evidence first."""

import math
from pathlib import Path

import pytest

from offdiag.diagnostics.causes.catalogue import CAUSES
from offdiag.diagnostics.causes.cause import State, Strength
from offdiag.diagnostics.causes.find import alarms, find_causes
from offdiag.diagnostics.causes.table import table
from offdiag.results.observation import Check, MonitorRecord, Observation

Marks = dict[str, float]


def record(*marks: Marks, library: str = "torch") -> MonitorRecord:
    """A run whose observations, one a step, hold these marks."""
    rows = tuple(Observation(step=i, parts={}, marks=one) for i, one in enumerate(marks))
    return MonitorRecord(name="run", history=rows, about={"library": library})


def state(key: str, *marks: Marks) -> State:
    return next(f.state for f in find_causes(record(*marks)) if f.cause.key == key)


MOVING = {"encoder/update": 1e-3, "projector/update": 1e-3, "predictor/update": 2e-3}
HELD = {"encoder/held": 1.0, "projector/held": 1.0, "predictor/held": 1.0}
SIX = 6
ROWS: dict[str, tuple[list[Marks], list[Marks]]] = {
    "not-finite": ([{"loss/finite": 1.0}, {"loss/finite": 0.0}], [{"encoder/finite": 1.0}]),
    "inputs-not-finite": ([{"inputs/finite": 0.9}], [{"inputs/finite": 1.0}]),
    "inputs-constant": ([{"inputs/constant": 1.0}], [{"inputs/constant": 0.0}]),
    "small-batch": ([{"modes/rows": 2.0}], [{"modes/rows": 64.0}]),
    "evaluation-mode": ([{"modes/evaluated": 1.0}], [{"modes/evaluated": 0.0}]),
    "gradient-in-target": (
        [{"target/gradient": 0.4, "target/pull": 0.99}],
        # A variance term acts on the projection too, and draws nothing to the prediction.
        [{"target/gradient": 0.4, "target/pull": 0.01}],
    ),
    "views-identical": ([{"views/difference": 0.0}], [{"views/difference": 0.3}]),
    "predictor-frozen": ([{**HELD, "predictor/held": 0.0}], [HELD]),
    "no-predictor": (
        [{"predictor/parameters": 0.0, "loss/pull": 1.0}] * 2,
        [{"predictor/parameters": 90.0, "loss/pull": 1.0}] * 2,
    ),
    "nothing-apart": ([{"loss/pull": 1.0}] * 2, [{"loss/pull": 0.9}] * 2),
    "loss-sign": (
        [{"prediction/push": -1.0, "modes/rows": 64.0}] * 2,
        [{"prediction/push": 1.0, "modes/rows": 64.0}] * 2,
    ),
    "target-trained": (
        [{"target/held": 1.0, "target/residual": 0.9}],
        [{"target/held": 0.0, "target/residual": 0.9}],
    ),
    "target-frozen": (
        [{"target/moved": 0.0, "target/gap": 0.1}] * 2,
        [{"target/moved": 0.9, "target/gap": 0.1}] * 2,
    ),
    "encoder-frozen": ([{**HELD, "encoder/held": 0.0}], [HELD]),
    "sharpening-off": ([{"assign/sharpening": 1.0}], [{"assign/sharpening": 2.5}]),
    "centring-off": ([{"assign/centre": 0.0}] * 3, [{"assign/centre": 0.4}] * 3),
    "inputs-scale": ([{"inputs/std": 73.0}], [{"inputs/std": 1.0}]),
    "inputs-alike": ([{"inputs/alike": 0.9}] * 2, [{"inputs/alike": 0.0}] * 2),
    "views-unpaired": (
        [{"views/partner": 1 / 64, "views/rows": 64.0}] * SIX,
        [{"views/partner": 0.2, "views/rows": 64.0}] * SIX,
    ),
    "stored-statistics": (
        [{"modes/stored_statistics": 1.0, "modes/evaluated": 0.0}],
        [{"modes/stored_statistics": 0.0}],
    ),
    "target-copy": (
        [{"target/momentum": 0.0, "target/residual": 0.0}] * 2,
        [{"target/momentum": 0.99, "target/residual": 0.0}] * 2,
    ),
    "projector-frozen": ([{**HELD, "projector/held": 0.0}], [HELD]),
    "step-too-small": ([{"encoder/update": 1e-8}] * 5, [{"encoder/update": 1e-3}] * 5),
    "step-too-large": ([{"encoder/update": 0.8}, MOVING], [MOVING]),
    "one-code": (
        [{"assign/student_mean_entropy": 0.01}] * 2,
        [{"assign/student_mean_entropy": 0.9}] * 2,
    ),
    "uniform-codes": (
        [{"assign/teacher_entropy": 1.0}] * 60,
        [{"assign/teacher_entropy": 0.5}] * 60,
    ),
    "term-missing": (
        [{"terms/variance": 0.0, "terms/invariance": 1.0}],
        [{"terms/variance": 0.5, "terms/invariance": 1.0}],
    ),
    "variance-unheld": (
        [{"loss/spreading": -0.5, "projector/spread": 1.0 / (i + 1)} for i in range(SIX)],
        [{"loss/spreading": 0.1, "projector/spread": 1.0} for _ in range(SIX)],
    ),
    "decay-rules": ([{"encoder/decay_ratio": 4.0}] * 3, [{"encoder/decay_ratio": 0.1}] * 3),
    "predictor-slow": (
        [{**MOVING, "predictor/update": 1e-5}] * 3,
        [MOVING] * 3,
    ),
    "encoder-slow": ([{**MOVING, "encoder/update": 1e-6}] * 3, [MOVING] * 3),
    "bottleneck": (
        [{"projector/narrowest": 2.0, "projector/width": 64.0}],
        [{"projector/narrowest": 32.0, "projector/width": 64.0}],
    ),
    "dead-units": ([{"encoder/dead": 0.9}] * 2, [{"encoder/dead": 0.1}] * 2),
    "stale-target": ([{"target/stale": 3.0}] * 2, [{"target/stale": 0.1}] * 2),
    "underflow": (
        [{"encoder/gradient_zeros": 0.9, "precision/half": 1.0}] * 3,
        [{"encoder/gradient_zeros": 0.1, "precision/half": 1.0}] * 3,
    ),
}


def test_every_cause_has_its_rows_here():
    assert ROWS.keys() == {cause.key for cause in CAUSES}


@pytest.mark.parametrize("key", ROWS)
def test_a_mark_beyond_its_bound_names(key):
    red, fine = ROWS[key]
    finding = next(f for f in find_causes(record(*red)) if f.cause.key == key)
    assert finding.state is State.RED and finding.alarm
    assert finding.since_step is not None and finding.sentence and finding.change
    assert "{" not in finding.sentence and "nan" not in finding.sentence
    assert state(key, *fine) is State.IN_ORDER
    assert state(key) is State.NOT_MEASURED


@pytest.mark.parametrize("cause", CAUSES, ids=lambda cause: cause.key)
def test_a_row_says_all_that_a_row_must_say(cause):
    assert cause.title and cause.mark and cause.bound_source and cause.source
    assert "torch" in cause.change


def test_without_marks_nothing_is_red_and_nothing_is_ruled_out():
    findings = find_causes(record({}))
    assert {finding.state for finding in findings} == {State.NOT_MEASURED}
    assert len(findings) == len(CAUSES)


def test_a_gradient_in_the_target_is_named_with_number_step_and_change():
    run = record({"target/gradient": 0.0}, {"target/gradient": 0.4}, {"target/gradient": 0.5})
    first = find_causes(run)[0]
    assert (first.cause.key, first.state, first.alarm) == ("gradient-in-target", State.RED, True)
    assert (first.value, first.since_step, first.part) == (0.5, 1, "target")
    assert "0.5" in first.sentence and "detach" in first.change


def test_a_red_mark_in_a_run_that_learns_is_a_note():
    run = record({"target/gradient": 0.4})
    assert find_causes(run, harmed=False)[0].note
    assert alarms(find_causes(run, harmed=False)) == ()
    assert len(alarms(find_causes(run, harmed=True))) == 1


def test_direct_marks_come_first_then_the_earlier():
    run = record(
        {"inputs/std": 80.0, "modes/evaluated": 0.0, "encoder/update": 0.9},
        {"inputs/std": 80.0, "modes/evaluated": 1.0, "encoder/update": 0.9},
    )
    red = [f for f in find_causes(run) if f.state is State.RED]
    assert [f.cause.strength for f in red] == [
        Strength.DIRECT,
        Strength.MEASURED,
        Strength.MEASURED,
    ]
    assert red[0].since_step == 1


def test_what_was_red_and_is_mended_is_in_order():
    assert state("evaluation-mode", {"modes/evaluated": 1.0}, {"modes/evaluated": 0.0}) is (
        State.IN_ORDER
    )


def test_a_check_counts_like_an_observation():
    run = MonitorRecord(
        name="run", history=(), checks=(Check(step=2, marks={"target/gradient": 0.3}),)
    )
    assert find_causes(run)[0].since_step == 2


def test_the_change_is_in_the_words_of_the_watched_library():
    red = ROWS["target-frozen"][0]
    texts = {
        library: next(
            f.change
            for f in find_causes(record(*red, library=library))
            if f.cause.key == "target-frozen"
        )
        for library in ("lightly", "offdiag", "somebody's")
    }
    assert "update_momentum(" in texts["lightly"]
    assert "--momentum" in texts["offdiag"]
    assert "target = m * target" in texts["somebody's"]


def test_a_rate_that_warms_up_is_not_called_too_small():
    warm = [{"encoder/update": 1e-8 * 2**i, "encoder/lr": 1e-5 * 2**i} for i in range(5)]
    assert state("step-too-small", *warm) is State.NOT_MEASURED


def test_a_slow_average_is_not_called_frozen_while_rounding_may_hide_it():
    near = [{"target/moved": 0.0, "target/gap": 1e-4}] * 4
    assert state("target-frozen", *near) is State.NOT_MEASURED


def test_marks_survive_the_file(tmp_path):
    from offdiag.results.observation import append_observation, start_file

    file = tmp_path / "monitor.jsonl"
    start_file(file, name="run", noise={}, about={"library": "lightly"})
    append_observation(file, Check(step=0, marks={"a/b": 1.5, "c/d": math.nan}))
    append_observation(file, Observation(step=3, parts={}, marks={"a/b": 2.5}))
    loaded = MonitorRecord.load(file)
    assert loaded.checks[0].marks["a/b"] == 1.5 and math.isnan(loaded.checks[0].marks["c/d"])
    assert loaded.history[0].marks == {"a/b": 2.5}


def test_the_docs_have_the_catalogue_as_it_is():
    page = (Path(__file__).parents[2] / "docs" / "causes.md").read_text()
    assert table(CAUSES) in page
