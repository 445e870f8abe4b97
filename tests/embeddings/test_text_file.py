"""Vectors in text, under names, and weights that are taken for embeddings."""

import json

import numpy as np
import pytest
import torch
from torch import nn

from offdiag._checks import DataError
from offdiag.embeddings.reader import open_embeddings

Z = np.random.default_rng(0).normal(size=(20, 3)).round(4)


def read(path):
    (array,) = open_embeddings(path)
    return torch.cat(list(array.chunks(7))).numpy()


def test_text_gives_the_numbers_that_are_in_it(tmp_path):
    lines = [",".join(map(str, row)) for row in Z]
    (tmp_path / "z.csv").write_text("a,b,c\n" + "\n".join(lines))
    (tmp_path / "bare.csv").write_text("\n".join(lines) + "\n")
    (tmp_path / "z.jsonl").write_text("\n".join(json.dumps(row.tolist()) for row in Z))
    named = [json.dumps({"id": i, "embedding": row.tolist()}) for i, row in enumerate(Z)]
    (tmp_path / "named.jsonl").write_text("\n".join(named))
    for path in tmp_path.iterdir():
        assert np.array_equal(read(path), Z), path


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("z.csv", "1,2\n3,x\n", "row 1 is '3,x'"),
        ("z.csv", "1,2\n3\n", "row 1 has 1 numbers"),
        ("z.jsonl", "[1, 2]\n{}\n", "row 1 does not"),
        ("z.jsonl", "[1, 2]\nnot json\n", "must hold JSON"),
        ("z.csv", "", "is empty"),
    ],
)
def test_what_is_no_vector_is_said_with_its_row(tmp_path, name, text, said):
    (tmp_path / name).write_text(text)
    with pytest.raises(DataError, match=said):
        open_embeddings(tmp_path / name)


def test_a_vector_for_each_name_is_a_row_for_each_name(tmp_path):
    vectors = {f"image-{i}.png": torch.from_numpy(row) for i, row in enumerate(Z)}
    torch.save(vectors, tmp_path / "z.pt")
    assert np.array_equal(read(tmp_path / "z.pt"), Z)


def test_weights_are_not_taken_for_embeddings(tmp_path):
    weights = nn.Sequential(nn.Linear(4, 8), nn.Linear(8, 2)).state_dict()
    for held in (weights, {"model": dict(weights), "epoch": 3}):
        torch.save(held, tmp_path / "checkpoint.pt")
        with pytest.raises(DataError, match="holds the weights of a network"):
            open_embeddings(tmp_path / "checkpoint.pt")
