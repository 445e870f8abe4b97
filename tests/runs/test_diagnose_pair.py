"""Two runs or files compared, whatever they come in, and the page of it."""

import json

import numpy as np
import pytest

from offdiag._checks import OffdiagError
from offdiag.cli.main import main
from offdiag.report.pair import render_pair
from offdiag.runs.diagnose_pair import diagnose_pair

from ..cli.test_commands import TINY

DRAW = np.random.default_rng(0)
Z = DRAW.normal(size=(500, 32)).astype(np.float32)
LOST = Z.copy()
LOST[:, 8:] = 0


def test_two_files_of_the_same_rows_are_compared(tmp_path):
    np.save(tmp_path / "a.npy", Z)
    np.save(tmp_path / "b.npy", LOST)
    pair = diagnose_pair(tmp_path / "a.npy", tmp_path / "b.npy")
    one = pair.similarity["embeddings"]
    assert one.rows == 500 and one.compared == (32, 8) and not one.gained
    assert pair.first.name == "a.npy" and pair.second.name == "b.npy"
    plain = json.loads(json.dumps(pair.to_dict(), allow_nan=False))
    assert plain["similarity"]["embeddings"]["cka"] == one.cka
    page = render_pair(pair)
    assert "a.npy and b.npy" in page and "CKA" in page and "Both spectra" in page


def test_names_stay_names(tmp_path):
    hostile = "<script>alert(1)</script>"
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        np.save(tmp_path / folder / "z&<b>.npy", Z if folder == "a" else LOST)
    pair = diagnose_pair(tmp_path / "a" / "z&<b>.npy", tmp_path / "b" / "z&<b>.npy")
    assert pair.first.name != pair.second.name
    assert hostile not in render_pair(pair) and "z&<b>.npy" not in render_pair(pair)


def test_what_cannot_be_compared_is_said_in_a_sentence(tmp_path):
    for b, said in ((Z[:-1], "the same images in the same order"), (Z[:5], "same images")):
        with pytest.raises(OffdiagError, match=said):
            diagnose_pair(Z, b)


def test_two_runs_embed_the_same_images(tmp_path, capsys):
    for head in ("off-diagonal", "none"):
        main(["train", "--out", str(tmp_path / head), *TINY, "--head", head])
    capsys.readouterr()
    with pytest.raises(SystemExit) as end:
        main(
            [
                *("diagnose", str(tmp_path / "off-diagonal"), str(tmp_path / "none")),
                *("--out", str(tmp_path / "pair.html"), "--json"),
            ]
        )
    assert end.value.code in (0, 3, 4)
    printed = json.loads(capsys.readouterr().out)
    assert set(printed["similarity"]) == {"encoder", "projector"}
    assert (tmp_path / "pair.html").read_text().lower().startswith("<!doctype html>")
    checkpoint = tmp_path / "none" / "checkpoint.pt"
    pair = diagnose_pair(tmp_path / "off-diagonal", checkpoint)
    assert pair.similarity["projector"].cka == printed["similarity"]["projector"]["cka"]
