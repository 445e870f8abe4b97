"""Laws of a grid's page as text; what a browser makes of it is in test_browser.py."""

import re
import shlex
from dataclasses import replace

import pytest

from offdiag._checks import ConfigError, RunError
from offdiag.cli.main import parse
from offdiag.report.comparison import render_comparison, write_comparison
from offdiag.results.comparison import Comparison, Status

from . import synthetic
from .test_page import Reader


@pytest.fixture(scope="module")
def page() -> Reader:
    return Reader(render_comparison(synthetic.comparison()))


def test_the_page_holds_means_differences_charts_and_every_run(page):
    for part in (
        "Heads and normalisers compared",
        "12 of 12 runs have finished: 4 combinations, seeds 0, 1, 2.",
        "Means over the seeds",
        "off-diagonal \u2212 none",
        "3 of 3 above 0",
        "simsiam_none_l2_seed2",
        "Settings that all runs share",
    ):
        assert part in page.text, part
    charts = [attrs["data-chart"] for _, attrs in page.tags if attrs.get("data-chart")]
    # Five readings of each seed; five curves for each of the two normalisers.
    assert len(charts) == len(set(charts)) == 5 + 5 * 2


def test_a_mean_of_the_table_is_that_of_the_runs():
    grid = synthetic.comparison()
    one = grid.combinations[0]
    spread = grid.spread(one, "knn_projection")
    text = f"{100 * spread.mean:.1f}\u00a0±\u00a0{100 * spread.std:.1f}\u00a0%"
    assert text in Reader(render_comparison(grid)).words


def test_the_page_asks_nothing_of_the_network_and_its_headings_are_in_order(page):
    for tag, attrs in page.tags:
        for name in ("src", "href", "action", "srcset", "poster"):
            assert not attrs.get(name) or attrs[name] == "data:,", (tag, attrs)
    levels = [int(tag[1]) for tag, _ in page.tags if re.fullmatch("h[1-6]", tag)]
    assert levels[0] == 1 and levels.count(1) == 1
    assert all(after - before <= 1 for before, after in zip(levels, levels[1:], strict=False))
    heads = [attrs for tag, attrs in page.tags if tag == "th"]
    assert heads and all(a.get("scope") in ("col", "row", "colgroup") for a in heads)
    ids = [attrs["id"] for _, attrs in page.tags if attrs.get("id")]
    assert len(ids) == len(set(ids))


def test_failed_and_unfinished_runs_are_named_and_in_no_mean():
    grid = synthetic.comparison()
    failed = replace(grid.cells[0], status=Status.FAILED, error="the loss is not finite.")
    waiting = replace(grid.cells[1], status=Status.UNFINISHED, ending=None, history=())
    cut = replace(grid, cells=(failed, waiting, *grid.cells[2:]))
    text = Reader(render_comparison(cut)).text
    assert "1 of 12 runs failed" in text and "the loss is not finite." in text
    assert "10 of 12 runs have finished" in text
    assert "no reading yet" in text and "2 of 3" in text


def test_a_grid_of_which_nothing_is_finished_and_one_of_a_single_run_make_a_page():
    grid = synthetic.comparison()
    none = [replace(cell, status=Status.FAILED, error="no.", ending=None) for cell in grid.cells]
    text = Reader(render_comparison(replace(grid, cells=tuple(none)))).text
    assert "0 of 12 runs have finished" in text and "no run has finished" in text
    assert "Over training" not in text
    alone = Reader(render_comparison(replace(grid, cells=grid.cells[:1]))).text
    assert "One combination over its seeds" in alone and "Paired differences" not in alone
    with pytest.raises(ConfigError, match="at least one run"):
        render_comparison(Comparison(name="g", cells=()))


def test_hostile_names_make_no_tag_and_no_script(page):
    grid = synthetic.comparison()
    cells = [
        replace(
            cell,
            name=name,
            error=name,
            status=Status.FAILED,
            settings=dict(cell.settings) | {"data": name, name: name},
            circumstances={name: {name: name}},
        )
        for cell, name in zip(grid.cells, synthetic.HOSTILE, strict=False)
    ]
    text = render_comparison(Comparison(name="<b>", cells=(*cells, *grid.cells[len(cells) :])))
    hostile = Reader(text)
    allowed = {tag for tag, _ in page.tags} | {"ul", "li", "strong"}
    assert {tag for tag, _ in hostile.tags} <= allowed
    assert not any(name.startswith("on") for _, attrs in hostile.tags for name in attrs)
    assert [t for kind, t in hostile.scripts if kind is None] == [
        t for kind, t in page.scripts if kind is None
    ]


def test_the_command_is_read_back_as_the_same_grid():
    grid = synthetic.comparison()
    said = next(
        w for w in Reader(render_comparison(grid)).words if w.startswith("offdiag compare --")
    )
    command = parse(shlex.split(said)[1:])
    again = command.grid()
    assert {axis: set(values) for axis, values in again.varied.items()} == {
        "head": {"off-diagonal", "none"},
        "normaliser": {"bn", "l2"},
        "seed": {0, 1, 2},
    }
    assert set(again.configs()) == {cell.name for cell in grid.cells}
    described = again.base.to_dict()
    assert {k: described[k] for k in ("epochs", "lr", "encoder")} == {
        k: grid.cells[0].settings[k] for k in ("epochs", "lr", "encoder")
    }
    uneven = replace(grid, cells=grid.cells[:-1])
    assert "Command to repeat" not in Reader(render_comparison(uneven)).text


def test_a_place_that_is_a_folder_is_one_sentence(tmp_path):
    with pytest.raises(RunError, match="it is a folder"):
        write_comparison(synthetic.comparison(), tmp_path)
