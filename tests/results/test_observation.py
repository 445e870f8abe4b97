"""Laws of a monitor's file: what is written is read again, a cut line is left out."""

import math

import pytest

from offdiag._checks import RunError
from offdiag.results.observation import MonitorRecord, Observation, append_observation, start_file
from offdiag.results.readings import HeadReadings, Readings


def observation(step: int) -> Observation:
    part = Readings(dim=8, rows=64, effective_rank=3.5, spectrum=(0.7, 0.3))
    return Observation(
        step=step,
        parts={"projector": part},
        head=HeadReadings(asymmetry=0.5),
        loss=0.25,
        checkpoint="epoch-1.ckpt",
    )


def test_what_was_written_is_read_again(tmp_path):
    path = tmp_path / "monitor.jsonl"
    start_file(path, name="run", noise={"projector": Readings(dim=8, rankme=7.5)}, about={"a": 1})
    append_observation(path, observation(0))
    append_observation(path, observation(10))
    record = MonitorRecord.load(path)
    assert record.name == "run" and record.about == {"a": 1}
    assert record.noise["projector"].rankme == 7.5
    assert math.isnan(record.noise["projector"].lidar)
    assert [row.scalars() for row in record.history] == [
        observation(0).scalars(),
        observation(10).scalars(),
    ]
    assert record.history[0].parts["projector"].spectrum == (0.7, 0.3)


def test_a_line_cut_short_is_left_out(tmp_path):
    path = tmp_path / "monitor.jsonl"
    start_file(path, name="run", noise={}, about={})
    append_observation(path, observation(0))
    whole = path.read_text()
    path.write_text(whole + observation(10).to_json()[:40])
    assert [row.step for row in MonitorRecord.load(path).history] == [0]


def test_another_file_is_refused_in_a_sentence(tmp_path):
    path = tmp_path / "monitor.jsonl"
    for content in (
        "",
        "[]\n",
        "{}\n",
        '{"offdiag_monitor": 1}\n',
        '{"offdiag_monitor": 1, "noise": {}}\n{"step": 1}\n',
    ):
        path.write_text(content)
        with pytest.raises(RunError, match="not a file written by a monitor"):
            MonitorRecord.load(path)


def test_what_was_not_measured_is_not_logged():
    assert set(observation(0).scalars()) == {
        "loss",
        "projector/effective_rank",
        "head/asymmetry",
    }
