"""Grids over any setting: which cells there are, what they are called, what is refused."""

import json

import pytest

from offdiag._checks import ConfigError
from offdiag.runs.compare import read_comparison
from offdiag.runs.config import RunConfig
from offdiag.runs.grid import Grid, parsed

BASE = RunConfig(epochs=1, batch_size=512, projector=(16, 8))


def test_every_combination_is_a_cell_named_by_what_varies():
    grid = Grid(base=BASE, axes={"head": ("none", "mlp"), "lr": (1e-3, 3e-3), "seed": (0, 1)})
    names = list(grid.configs())
    assert len(names) == 8 and names[0] == "simsiam_none_bn_lr0.001_seed0"
    assert grid.configs()["simsiam_mlp_bn_lr0.003_seed1"].lr == 3e-3


def test_a_setting_of_a_part_is_an_axis():
    grid = Grid(base=RunConfig(method="vicreg"), axes={"method.variance": (1.0, 25.0)})
    variances = [c.settings_of("objective")["variance"] for c in grid.configs().values()]
    assert variances == [1.0, 25.0]
    assert list(grid.configs())[0] == "vicreg_none_none_method.variance1_seed0"


def test_a_method_without_a_head_is_one_cell_of_a_grid_over_heads():
    grid = Grid(base=BASE, axes={"method": ("simsiam", "vicreg"), "head": ("none", "mlp")})
    cells = grid.cells()
    assert list(cells) == [
        "simsiam_none_bn_seed0",
        "simsiam_mlp_bn_seed0",
        "vicreg_none_none_seed0",
    ]
    assert cells["vicreg_none_none_seed0"].values["head"] is None


@pytest.mark.parametrize(
    ("grid", "sentence"),
    [
        ({"axes": {"learning_rate": (1.0,)}}, "'learning_rate' is no setting of a run"),
        ({"axes": {"lr": ()}}, "lr of a grid needs at least one value"),
        ({"axes": {"lr": (1.0, 1.0)}}, "the lr of a grid must be different; got 1, 1"),
        ({"axes": {"head": ("mlp",)}, "heads": ("none",)}, "head varies twice"),
        ({"axes": {"method.variance": (1.0,)}}, "the method 'simsiam' has no setting 'variance'"),
        ({"axes": {"head": ("mlp",)}, "base": RunConfig(method="vicreg")}, "vicreg has no head"),
        ({"axes": {"lr": (-1.0,)}}, "learning rate must be at least 0"),
    ],
)
def test_an_axis_that_makes_no_run_is_refused(grid, sentence):
    with pytest.raises(ConfigError, match=sentence):
        Grid(**grid)


def test_words_of_a_command_line_become_values_of_the_settings_type():
    assert parsed("lr", ["1e-3"], ["simsiam"]) == (1e-3,)
    assert parsed("seed", ["0", "1"], ["simsiam"]) == (0, 1)
    assert parsed("projector", ["256,64", "8"], ["simsiam"]) == ((256, 64), (8,))
    assert parsed("head_lr_decay", ["false"], ["simsiam"]) == (False,)
    assert parsed("method.variance", ["2"], ["simsiam", "vicreg"]) == (2.0,)
    assert parsed("read_every", ["none", "3"], ["simsiam"]) == (None, 3)
    with pytest.raises(ConfigError, match="takes values of type int; got 'a'"):
        parsed("epochs", ["a"], ["simsiam"])


def test_a_grid_file_of_the_first_version_is_read(tmp_path):
    base = {"data": "digits", "stop_gradient": "target", "momentum": 0.99, "projector": [16, 8]}
    values = {"method": "byol", "normaliser": "l2", "head": "mlp", "seed": 3}
    cell = {"name": "byol_mlp_l2_seed3", **values}
    (tmp_path / "grid.json").write_text(json.dumps({"base": base, "cells": [cell]}))
    comparison = read_comparison(tmp_path)
    assert dict(comparison.cells[0].combination) == {
        "method": "byol",
        "normaliser": "l2",
        "head": "mlp",
    }
    assert comparison.cells[0].seed == 3
