"""Laws of the charts: what stands in them is what stands in the record."""

import math
from dataclasses import replace

import numpy as np
import pytest
import vl_convert

from offdiag._checks import ConfigError, RunError
from offdiag.plots import training
from offdiag.plots.export import save_chart

from ..report import synthetic

CURVES = (*training.WHAT_CURVES, *training.DIMENSION_CURVES, *training.HEAD_CURVES)


def opened(chart) -> dict:
    """The specification with each layer's data where it is used, not under a shared name."""
    spec = chart.to_dict()
    for part in (spec, *spec.get("layer", ())):
        if "data" in part:
            part["data"] = {"values": spec["datasets"][part["data"]["name"]]}
    return spec


def points(chart) -> dict[str, dict[float, float | None]]:
    lines = opened(chart)["layer"][0]["data"]["values"]
    return {row["run"]: dict(zip(row["x"], row["y"], strict=True)) for row in lines}


@pytest.mark.parametrize("curve", CURVES, ids=lambda curve: curve.key)
def test_a_curve_draws_the_readings_of_each_run(curve):
    records = synthetic.demo()
    drawn = points(training.curve(records, curve))
    assert list(drawn) == [record.name for record in records]
    for record in records:
        for row, value in zip(record.history, curve.values(record), strict=True):
            assert drawn[record.name][row.epoch] == (
                None if value is None else pytest.approx(value, rel=1e-3)
            )


@pytest.mark.parametrize("curve", CURVES, ids=lambda curve: curve.key)
def test_every_curve_compiles_and_says_in_words_what_it_is(curve):
    spec = training.curve(synthetic.demo(), curve).to_dict()
    assert spec["width"] == "container"
    assert curve.title in spec["description"]
    assert vl_convert.vegalite_to_vega(spec)["marks"]


@pytest.mark.parametrize("name", synthetic.HOSTILE)
def test_a_curve_of_a_hostile_name_compiles(name):
    chart = training.curve([synthetic.run(name, epochs=5)], CURVES[0]).properties(width=300)
    assert vl_convert.vegalite_to_svg(chart.to_dict()).startswith("<svg")


def test_a_long_run_is_drawn_with_its_peak_and_with_few_points():
    record = synthetic.run("long", epochs=2_000, rows=range(1, 2_001))
    peak = 1_234
    history = list(record.history)
    history[peak] = replace(history[peak], loss=7.5)
    record = replace(record, history=tuple(history))
    drawn = points(training.curve([record, replace(record, name="twin")], CURVES[0]))
    assert drawn["long"][history[peak].epoch] == 7.5
    assert len(drawn["long"]) < 700
    assert max(drawn["long"]) == history[-1].epoch


def test_runs_read_at_different_epochs_keep_their_own_and_the_pointer_shows_a_dash():
    a = synthetic.run("a", rows=range(10, 101, 10))
    b = synthetic.run("b", rows=range(25, 101, 25))
    chart = training.curve([a, b], CURVES[0])
    assert list(points(chart)["b"]) == [25, 50, 75, 100]
    rule = next(one for one in opened(chart)["layer"] if one["mark"]["type"] == "rule")
    said = rule["data"]["values"][0]
    at = dict(zip(said["x"], zip(said["r0"], said["r1"], strict=True), strict=True))
    assert at[10][1] == at[25][0] == "–"
    assert "–" not in at[50]


def test_the_healthy_std_is_drawn_at_one_over_the_root_of_the_width():
    curve = next(c for c in CURVES if c.key == "std-projection")
    layers = opened(training.curve([synthetic.run("a", width=64)], curve))["layer"]
    levels = [v["level"] for one in layers for v in one["data"]["values"] if "level" in v]
    assert set(levels) == {0.125}


def test_the_loss_is_drawn_on_a_log_axis_only_where_it_is_positive():
    record = synthetic.run("a")
    below = replace(record, history=(replace(record.history[0], loss=-0.9), *record.history[1:]))
    scales = [
        training.curve([one], CURVES[0]).to_dict()["layer"][0]["encoding"]["y"]["scale"]
        for one in (record, below)
    ]
    assert scales[0]["type"] == "log"
    assert "type" not in scales[1]


def test_a_constant_or_single_reading_still_draws():
    record = synthetic.run("one", rows=[1])
    for curve in CURVES:
        assert vl_convert.vegalite_to_svg(
            training.curve([record], curve).properties(width=300).to_dict()
        ).startswith("<svg")


def test_the_heat_map_shows_the_spectrum_with_its_floor():
    record = synthetic.run("a", ranks=(9, 3))
    values = opened(training.spectrum_over_time(record))["data"]["values"]
    assert len(values) <= training.HEATMAP_COLUMNS
    assert values[-1]["epoch"] == record.history[-1].epoch
    shares = record.history[-1].projection.spectrum
    assert values[-1]["share"][0] == pytest.approx(shares[0], rel=0.05)
    assert min(values[-1]["share"]) == training.SHARE_FLOOR


def test_a_block_is_drawn_as_its_strongest_entry_with_its_sign():
    matrix = np.zeros((5, 5))
    matrix[0, 1], matrix[1, 1], matrix[4, 4] = 0.3, -0.8, 0.1
    expected = np.zeros((3, 3))
    expected[0, 0], expected[2, 2] = -0.8, 0.1
    np.testing.assert_array_equal(training.strongest_of_blocks(matrix, 2), expected)
    np.testing.assert_array_equal(training.strongest_of_blocks(matrix, 1), matrix)


def test_the_head_is_drawn_less_the_identity_and_no_wider_than_64_cells():
    matrix = np.eye(130)
    matrix[129, 0] = 0.5
    rows = opened(training.head_matrix(matrix, limit=0.5, title="x"))["data"]["values"]
    cells = np.array([row["E − I"] for row in rows])
    assert cells.shape == (44, 44)
    assert cells[43, 0] == 0.5
    assert np.count_nonzero(cells) == 1


def test_the_diagonal_has_no_say_in_the_colour_scale():
    assert training.matrix_scale([np.diag([9.0, -9.0]), np.array([[5.0, 0.2], [-0.3, 5]])]) == 0.3


def test_readings_that_are_not_finite_are_gaps():
    curve = next(c for c in CURVES if c.key == "head-asymmetry")
    record = synthetic.run("none", head="none")
    assert all(math.isnan(row.head.asymmetry) for row in record.history)
    assert set(curve.values(record)) == {None}
    assert curve.drawn([record]) == []


@pytest.mark.parametrize(("ending", "start"), [(".png", b"\x89PNG"), (".pdf", b"%PDF")])
def test_a_chart_becomes_a_picture(tmp_path, ending, start):
    out = tmp_path / "new" / f"chart{ending}"
    save_chart(training.curve([synthetic.run("a")], CURVES[0]), out)
    assert out.read_bytes().startswith(start)


def test_an_svg_has_the_size_and_the_ink_asked_for(tmp_path):
    out = tmp_path / "chart.svg"
    save_chart(training.final_spectra([synthetic.run("a")]), out, ground="dark", width=700)
    text = out.read_text()
    assert text.startswith("<svg")
    assert "#b3b9c2" in text and "#14161a" in text


def test_an_unknown_kind_of_picture_is_one_sentence(tmp_path):
    chart = training.final_spectra([synthetic.run("a")])
    with pytest.raises(ConfigError, match=r"unknown kind of picture '.bmp': choose one of .png"):
        save_chart(chart, tmp_path / "chart.bmp")
    (tmp_path / "file").write_text("")
    with pytest.raises((RunError, OSError)):
        save_chart(chart, tmp_path / "file" / "chart.svg")
