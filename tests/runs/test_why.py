"""Laws of finding a cause by intervention."""

import math
from dataclasses import replace

import pytest

from offdiag._checks import ConfigError, RunError
from offdiag.results.intervention import UNCHANGED, Branch, Why
from offdiag.results.readings import Readings
from offdiag.runs.config import RunConfig
from offdiag.runs.train import train
from offdiag.runs.why import INITIALISATION, changes_for, directions, why, why_run

OUTCOMES = {UNCHANGED: 2.0, "head": 12.0, "decay": 2.1, "learning rate /10": 20.0}


def branch(change: str, seed: int) -> float:
    return OUTCOMES[change] + 0.1 * seed + (0.5 * seed if change == "decay" else 0.0)


def test_the_change_that_restores_directions_is_first_and_certain():
    found = why(branch, ["decay", "learning rate /10", "head"])
    effects = found.effects()
    assert [effect.change for effect in effects] == ["head", "learning rate /10", "decay"]
    assert effects[0].gain == pytest.approx(10.0) and effects[0].certain
    assert effects[1].slower and not effects[2].certain
    assert found.unchanged == pytest.approx(2.1)


def test_the_interval_is_students_paired_by_seed():
    """Gains 1, 2, 3: mean 2, deviation 1, half of the interval 4.30 / sqrt(3)."""
    rows = [Branch(change=UNCHANGED, seed=s, directions=10.0 * s) for s in range(3)]
    rows += [Branch(change="head", seed=s, directions=10.0 * s + s + 1) for s in range(3)]
    effect = Why(name="run", start="x", steps=1, branches=tuple(rows)).effects()[0]
    assert (effect.gain, effect.low, effect.high) == pytest.approx(
        (2.0, 2 - 4.30 / math.sqrt(3), 2 + 4.30 / math.sqrt(3))
    )
    one = Why(name="run", start="x", steps=1, branches=(rows[0], rows[3])).effects()[0]
    assert math.isnan(one.low) and not one.certain


def test_what_was_run_is_not_run_again(tmp_path):
    asked: list[tuple[str, int]] = []

    def counted(change, seed):
        asked.append((change, seed))
        if (change, seed) == ("head", 1) and len(asked) < 5:
            raise RunError("the machine went down.")
        return branch(change, seed)

    with pytest.raises(RunError):
        why(counted, ["head"], seeds=(0, 1), out=tmp_path / "why")
    first = len(asked)
    asked += [("pause", 0)] * 5
    found = why(counted, ["head"], seeds=(0, 1), out=tmp_path / "why")
    assert len(asked) - first - 5 == 1
    assert Why.load(tmp_path / "why") == found
    assert len(found.branches) == 4


def test_no_change_is_one_sentence():
    with pytest.raises(ConfigError, match="at least one change"):
        why(branch, [])


def test_settings_leave_open_only_what_they_have():
    broken = RunConfig(
        method="simsiam", head="none", settings={"method": {"stop_gradient": "none"}}
    )
    changes = changes_for(broken)
    assert {"stop-gradient on", "a head that trains", "learning rate /10"} <= changes.keys()
    assert changes["stop-gradient on"].settings_of("method")["stop_gradient"] == "target"
    assert changes["a head that trains"].parts["head"] == "off-diagonal"
    healthy = changes_for(RunConfig(method="simsiam", head="mlp"))
    assert not {"stop-gradient on", "a head that trains", "weight decay off"} & healthy.keys()
    assert "target's momentum 0.99" not in healthy
    byol = changes_for(RunConfig(method="byol", settings={"method": {"momentum": 0.0}}))
    assert byol["target's momentum 0.99"].settings_of("method")["momentum"] == 0.99
    for base, options in ((broken, changes), (RunConfig(), changes_for(RunConfig()))):
        assert all(option != base for option in options.values())


def test_a_complete_collapse_has_no_directions():
    spread = Readings(dim=64, rows=100, effective_rank=30.0, std=0.125)
    assert directions(spread) == 30.0
    assert directions(replace(spread, std=0.125e-3)) == pytest.approx(30 * 0.005)
    assert directions(replace(spread, effective_rank=math.nan)) == 0.0


def test_branches_of_a_run_go_on_from_where_they_stopped(tmp_path):
    config = RunConfig(head="none", epochs=1, batch_size=256, projector=(16, 8), device="cpu")
    train(config, tmp_path / "run")
    ended: list[Branch] = []
    found = why_run(tmp_path / "run", steps=2, seeds=(0,), ended=ended.append)
    assert len(ended) == len(found.branches) > 3
    assert all(b.directions > 0 for b in found.branches)
    again = why_run(tmp_path / "run", steps=2, seeds=(0,), ended=ended.append)
    assert again == found and len(ended) == len(found.branches)
    assert found.start in (INITIALISATION, "the last checkpoint")
