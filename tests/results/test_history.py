"""Records survive their files, and broken files are named."""

import dataclasses
import json
import math

import numpy as np
import pytest

from offdiag._checks import RunError
from offdiag.results.history import (
    HeadMatrices,
    Row,
    append_row,
    keep_rows,
    read_head,
    read_history,
    write_head,
)

from ..report import synthetic


@pytest.fixture
def rows():
    return synthetic.run("a", epochs=5).history


def test_rows_survive_their_file_and_nan_survives_as_null(rows, tmp_path):
    path = tmp_path / "metrics.jsonl"
    odd = dataclasses.replace(
        rows[-1], head=dataclasses.replace(rows[-1].head, asymmetry=math.nan), knn=None
    )
    for row in (*rows, odd):
        append_row(path, row)
    assert "NaN" not in path.read_text()
    read = read_history(path)
    assert read[:-1] == rows
    assert math.isnan(read[-1].head.asymmetry) and read[-1].knn is None


def test_keep_rows_drops_what_came_after_the_step(rows, tmp_path):
    path = tmp_path / "metrics.jsonl"
    for row in rows:
        append_row(path, row)
    keep_rows(path, last_step=rows[2].step)
    assert read_history(path) == rows[:3]


def test_a_broken_line_in_the_middle_is_an_error_and_not_silence(rows, tmp_path):
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"step": 1}\n' + rows[0].to_json() + "\n")
    with pytest.raises(RunError, match=r"metrics.jsonl is not a metrics file"):
        read_history(path)


def test_scalars_name_every_number_once(rows):
    flat = rows[0].scalars()
    assert flat["projection/effective_rank"] == rows[0].projection.effective_rank
    assert flat["knn/features"] == rows[0].knn["features"]
    assert all(isinstance(value, float | int) for value in flat.values())


def test_head_matrices_survive_their_file(tmp_path):
    head = HeadMatrices(
        start=np.eye(3), peak=np.ones((3, 3)), end=np.eye(3), peak_epoch=2.0, end_epoch=5.0
    )
    write_head(tmp_path, head)
    read = read_head(tmp_path / "head.npz")
    assert read is not None and read.peak_epoch == 2 and read.end_epoch == 5
    assert np.array_equal(read.peak, head.peak)
    assert read_head(tmp_path / "absent.npz") is None


@pytest.mark.parametrize(
    "read, name, content",
    [
        (read_history, "metrics.jsonl", b"\xff\xfe no text\n"),
        (read_head, "head.npz", b""),
        (read_head, "head.npz", b"PK\x03\x04 cut short"),
    ],
)
def test_files_of_another_kind_are_refused_in_a_sentence(read, name, content, tmp_path):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(RunError, match=name):
        read(tmp_path / name)


def test_a_row_is_a_row_again(rows):
    assert Row.from_dict(json.loads(rows[0].to_json())) == rows[0]
