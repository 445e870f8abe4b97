"""The diagnosis of runs and of embeddings, whatever they come in."""

import json
import math
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from safetensors.torch import save_file

from offdiag._checks import OffdiagError
from offdiag.diagnostics.readings import noise_readings, read_part
from offdiag.diagnostics.verdict import Kind
from offdiag.results.observation import (
    MonitorRecord,
    Observation,
    append_observation,
    start_file,
)
from offdiag.results.readings import Readings, numbers
from offdiag.runs import read_array as module
from offdiag.runs.diagnose import diagnose

DRAW = np.random.default_rng(0)
NOISE = DRAW.normal(size=(600, 32)).astype(np.float32)
LINES = (DRAW.normal(size=(600, 2)) @ DRAW.normal(size=(2, 32))).astype(np.float32)
CLASSES = np.arange(600) % 3


def close(found: Readings, expected: Readings) -> bool:
    pairs = zip(numbers(found).values(), numbers(expected).values(), strict=True)
    same = all(a == pytest.approx(b, rel=1e-6, abs=1e-9, nan_ok=True) for a, b in pairs)
    return same and found.spectrum == pytest.approx(expected.spectrum, rel=1e-6, abs=1e-12)


def refusal(source, **settings) -> str:
    with pytest.raises(OffdiagError) as refused:
        diagnose(source, **settings)
    assert "\n" not in str(refused.value)
    return str(refused.value)


def test_the_three_clear_cases_of_embeddings():
    assert diagnose(NOISE).verdict.kind == Kind.HEALTHY
    assert diagnose(LINES).verdict.kind == Kind.DIMENSIONAL
    near_one_point = 100 + 1e-3 * NOISE
    assert diagnose(near_one_point).verdict.kind == Kind.COMPLETE


@pytest.mark.parametrize("value", [0.0, 3.0])
def test_rows_that_are_all_the_same_are_complete_collapse_and_a_doubt_on_the_file(value):
    found = diagnose(np.full((300, 32), value, np.float32))
    assert found.verdict.kind == Kind.COMPLETE and found.collapsed
    assert "ever filled" in found.notes[0]
    json.dumps(found.to_dict(), allow_nan=False)


def test_every_kind_of_file_gives_the_same_readings(tmp_path):
    expected = diagnose(LINES).readings["embeddings"]
    z = torch.from_numpy(LINES)
    np.save(tmp_path / "z.npy", LINES)
    np.savez_compressed(tmp_path / "z.npz", LINES)
    torch.save({"z": z}, tmp_path / "z.pt")
    save_file({"z": z}, tmp_path / "z.safetensors")
    pq.write_table(pa.table({"z": list(LINES)}), tmp_path / "z.parquet", row_group_size=77)
    for path in tmp_path.iterdir():
        found = diagnose(path)
        assert found.name == path.name
        assert close(found.readings["embeddings"], expected), path
    assert close(diagnose(z).readings["embeddings"], expected)


def test_the_size_of_the_pieces_changes_nothing(monkeypatch):
    whole = diagnose(LINES, views=NOISE)
    monkeypatch.setattr(module, "rows_for", lambda dim: 37)
    pieces = diagnose(LINES, views=NOISE)
    assert close(pieces.readings["embeddings"], whole.readings["embeddings"])


def test_two_views_keep_step_whatever_files_they_come_in(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "rows_for", lambda dim: 100)
    pq.write_table(pa.table({"z": list(NOISE)}), tmp_path / "a.parquet", row_group_size=33)
    np.save(tmp_path / "b.npy", NOISE)
    found = diagnose(tmp_path / "a.parquet", views=tmp_path / "b.npy").readings["embeddings"]
    assert found.alignment == pytest.approx(0, abs=1e-9)
    other = diagnose(NOISE, views=NOISE[::-1]).readings["embeddings"]
    assert other.alignment == pytest.approx(2, abs=0.1) and math.isfinite(other.lidar)


def test_noise_of_the_same_shape_and_views_stands_beside():
    assert diagnose(LINES).noise["embeddings"] == noise_readings(600, 32)
    assert diagnose(LINES, views=NOISE).noise["embeddings"] == noise_readings(600, 32, views=2)


def test_labels_are_shown_beside_and_change_nothing_else():
    z = NOISE.copy()
    z[:, :3] += 20 * np.eye(3, dtype=np.float32)[CLASSES]
    blind, seeing = diagnose(z), diagnose(z, labels=CLASSES)
    assert seeing.knn["embeddings"] > 0.95 and blind.knn == {}
    assert diagnose(NOISE, labels=CLASSES).knn["embeddings"] < 0.5
    about = {key: value for key, value in seeing.about.items() if key != "labels"}
    assert replace(seeing, knn={}, about=about).to_dict() == blind.to_dict()


def test_neighbours_are_asked_about_the_rows_that_were_kept(monkeypatch):
    monkeypatch.setattr(module, "SAMPLE_ROWS", 200)
    monkeypatch.setattr(module, "rows_for", lambda dim: 50)
    z = NOISE.copy()
    z[:, :3] += 20 * np.eye(3, dtype=np.float32)[CLASSES]
    found = diagnose(z, labels=CLASSES)
    assert found.about["labels"]["rows"] == 200
    assert found.knn["embeddings"] > 0.95


def test_a_file_of_offdiag_embed_is_judged_by_its_worst_part_and_its_labels_are_used(tmp_path):
    path = tmp_path / "z.npz"
    split = np.zeros(600, np.int8)
    np.savez(path, features=NOISE, projection=LINES, split=split, labels=CLASSES)
    found = diagnose(path)
    assert list(found.readings) == list(found.knn) == ["features", "projection"]
    assert found.verdict.kind == Kind.DIMENSIONAL and found.verdict.part == "projection"
    assert any("features: healthy" in sentence for sentence in found.verdict.evidence)
    assert diagnose(path, key="features").verdict.kind == Kind.HEALTHY


def test_fewer_rows_than_columns_are_read_and_the_bound_is_said():
    found = diagnose(NOISE[:20])
    assert found.readings["embeddings"].effective_rank <= 19 + 1e-6
    assert "at most 19 directions" in found.notes[0]
    wide = np.random.default_rng(0).normal(size=(8, 20_000)).astype(np.float32)
    assert diagnose(wide).readings["embeddings"].effective_rank == pytest.approx(7, abs=0.1)


def test_columns_and_rows_that_hold_nothing_are_counted():
    z = NOISE.copy()
    z[:, :5] = 1
    assert "5 of 32 columns are constant" in diagnose(z).notes[0]
    z = NOISE.copy()
    z[7:10] = 0
    assert "3 of 600 rows are all zero" in diagnose(z).notes[0]


def test_a_file_and_a_function_give_the_same_readings_of_many_rows():
    draw = np.random.default_rng(1)
    z, other = (draw.normal(size=(3000, 16)).astype(np.float32) for _ in range(2))
    found = diagnose(z, views=other).readings["embeddings"]
    assert close(found, read_part(torch.from_numpy(z), torch.from_numpy(other)))


def test_duplicate_rows_are_counted():
    z = np.concatenate([NOISE, NOISE[:150]])
    assert "150 of 750 rows are duplicates" in diagnose(z).notes[0]
    assert diagnose(NOISE).notes == ()


def test_tokens_that_depend_on_their_position_only_are_complete_collapse():
    """The tokens of every image span all directions, and every image has the same tokens."""
    positions = DRAW.normal(size=(1, 64, 32)).astype(np.float32)
    images = DRAW.normal(size=(50, 1, 32)).astype(np.float32)
    noise = DRAW.normal(size=(50, 64, 32)).astype(np.float32)
    same = positions + 1e-3 * images
    assert diagnose(same, tokens="flatten").verdict.kind == Kind.COMPLETE
    assert "position" in diagnose(same, tokens="flatten").verdict.sentence
    assert diagnose(same[:, :4, :], tokens="flatten").verdict.kind == Kind.COMPLETE
    both = diagnose(positions + 0.5 * noise, tokens="flatten")
    assert both.verdict.kind == Kind.HEALTHY and "between positions" in both.notes[0]
    assert diagnose(noise, tokens="flatten").notes == ()


@pytest.mark.parametrize("rows", [2, 3, 100])
def test_so_few_rows_cannot_tell(rows):
    found = diagnose(np.random.default_rng(0).normal(size=(rows, 512)).astype(np.float32))
    assert found.verdict.kind == Kind.UNKNOWN and not found.healthy and not found.collapsed
    assert "256 rows" in found.verdict.sentence


def test_what_cannot_be_diagnosed_is_said_in_a_sentence(tmp_path, monkeypatch):
    bad = NOISE.copy()
    bad[5, 0] = np.nan
    assert "1 nan in 1 of 600 rows (row 5" in refusal(bad)
    assert "1 nan in 1 of 600 rows (row 5" in refusal(NOISE, views=bad)
    assert "the same images in the same order" in refusal(NOISE, views=NOISE[:-1])
    assert "the same images in the same order" in refusal(NOISE, views=NOISE[:, :-1])
    assert "for each of the 600 embeddings; got 599" in refusal(NOISE, labels=CLASSES[:-1])
    tokens = NOISE.reshape(150, 4, 32)
    assert diagnose(tokens, tokens="flatten").readings["embeddings"].rows == 600
    assert "use --tokens mean" in refusal(tokens, tokens="flatten", labels=CLASSES[:150])
    assert "unknown tokens 'max'" in refusal(tokens, tokens="max")
    assert "a key chooses among the arrays of a file" in refusal(NOISE, key="z")
    assert "does not exist: give a run directory" in refusal(tmp_path / "nowhere")
    assert "is not a run directory" in refusal(tmp_path)
    monkeypatch.setattr(module, "MOST_DIM", 16)
    assert "32 wide" in refusal(NOISE)


@pytest.fixture
def monitored(tmp_path):
    """A monitor's file of a run whose projector goes from noise to a line."""
    path = tmp_path / "run" / "monitor.jsonl"
    path.parent.mkdir()
    noise = {"projector": noise_readings(512, 64)}
    start_file(path, name="a fork of SimSiam", noise=noise, about={"batch": 256})
    for step, rank in ((0, 60), (100, 60), (200, 30), (300, 4), (400, 2), (500, 2)):
        spread = torch.ones(64) * 1e-3
        spread[:rank] = 1
        z = torch.randn(512, 64, generator=torch.Generator().manual_seed(step)) * spread
        part = diagnose(z).readings["embeddings"]
        append_observation(path, Observation(step=step, parts={"projector": part}, loss=0.1))
    return path


def test_a_monitors_file_is_judged_as_a_run(monitored):
    found = diagnose(monitored.parent)
    assert found.name == "a fork of SimSiam" and len(found.history) == 6
    assert found.collapsed
    assert found.start["projector"].effective_rank > found.readings["projector"].effective_rank
    assert found.noise["projector"].dim == 64 and found.about == {"batch": 256}
    assert diagnose(monitored).to_dict() == found.to_dict()
    assert json.loads(json.dumps(found.to_dict(), allow_nan=False))["observations"] == 6


def test_a_run_takes_no_settings_of_files(monitored):
    assert "views goes with a file of embeddings only" in refusal(monitored, views=NOISE)
    assert "a key goes with" in refusal(monitored, key="z")


def test_a_monitor_that_saw_nothing_yet_is_told_to_wait(monitored):
    monitored.write_text(monitored.read_text().split("\n")[0] + "\n")
    assert "no observation yet" in refusal(monitored)
    (monitored.parent / "monitor.jsonl").write_text("{}\n")
    assert "not a file written by a monitor" in refusal(monitored)


def test_embeddings_that_lie_on_their_side_are_said_to():
    z = np.random.default_rng(0).normal(size=(64, 1000)).astype(np.float32)
    assert any("transpose it" in note for note in diagnose(z).notes)
    assert not any("transpose" in note for note in diagnose(z[:, :512]).notes)


def test_a_record_with_marks_names_its_causes_and_one_without_names_none(monitored):
    assert diagnose(monitored).causes == ()
    row = replace(
        MonitorRecord.load(monitored).history[-1], step=600, marks={"target/gradient": 0.98}
    )
    append_observation(monitored, row)
    found = diagnose(monitored)
    first = found.causes[0]
    assert first.alarm and "gradient" in first.title and first.since_step == 600
    assert "0.98" in first.sentence and first.change
    assert {one.state for one in found.causes} >= {"red", "not measured"}
    json.dumps(found.to_dict(), allow_nan=False)


def test_losses_that_are_not_finite_are_noted(monitored):
    row = replace(MonitorRecord.load(monitored).history[-1], step=600, loss=math.inf)
    append_observation(monitored, row)
    assert any("first at step 600" in note for note in diagnose(monitored).notes)


def test_vectors_as_lines_of_json_are_embeddings_and_no_record(tmp_path):
    path = tmp_path / "vectors.jsonl"
    path.write_text("\n".join(json.dumps(row) for row in NOISE.tolist()))
    assert diagnose(path).verdict.kind == Kind.HEALTHY
