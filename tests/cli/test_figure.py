"""The head's course as a picture, or a sentence that says why there is none."""

import pytest

from offdiag.cli.main import main
from offdiag.plots.head_course import PANELS, points
from offdiag.results.history import RunRecord
from offdiag.runs.config import RunConfig
from offdiag.runs.train import train


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    for head in ("off-diagonal", "none"):
        config = RunConfig(
            head=head, epochs=2, batch_size=512, projector=(16, 8), device="cpu", read_every=1
        )
        train(config, folder / head)
    return folder


def test_the_picture_appears_in_the_kind_asked_for(runs, tmp_path):
    for kind, start in ((".png", b"\x89PNG"), (".svg", b"<svg"), (".pdf", b"%PDF")):
        out = tmp_path / f"head{kind}"
        main(["figure", str(runs / "off-diagonal"), "--out", str(out)])
        assert out.read_bytes().startswith(start)


def test_the_asymmetry_norm_is_the_ratio_times_the_norm(runs):
    record = RunRecord.load(runs / "off-diagonal")
    norm, asymmetry, ratio = (
        [point["value"] for point in points([record], of)] for _, of in PANELS
    )
    assert len(norm) == len(record.history)
    assert asymmetry == pytest.approx([n * r for n, r in zip(norm, ratio, strict=True)])


@pytest.mark.parametrize(
    ("names", "sentence"),
    [
        (["none"], "is no matrix that leaves the identity"),
        (["off-diagonal", "off-diagonal"], "two of the runs are called 'off-diagonal'"),
        ([], "at least one run directory"),
    ],
)
def test_what_cannot_be_drawn_is_said(runs, tmp_path, capsys, names, sentence):
    with pytest.raises(SystemExit) as ending:
        main(["figure", *(str(runs / name) for name in names), "--out", str(tmp_path / "x.png")])
    assert ending.value.code == 2
    assert sentence in capsys.readouterr().err
    assert not (tmp_path / "x.png").exists()
