"""A recipe's settings are the defaults of the commands that train; every option overrides."""

import pytest

from offdiag._checks import ConfigError
from offdiag.cli.main import parse
from offdiag.runs.recipes import RECIPES, SIZES, recipe


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("name", RECIPES)
def test_the_command_line_starts_from_the_recipe(name, size):
    command = parse(["train", "--recipe", name, "--size", size, "--out", "x"])
    assert command.config == recipe(name, size=size)


def test_options_change_the_recipe_wherever_they_stand():
    words = ["train", "--head", "mlp", "--recipe=paper-cifar10", "--epochs", "3", "--out", "x"]
    config = parse(words).config
    assert (config.head, config.epochs, config.encoder) == ("mlp", 3, "resnet18")


def test_the_full_recipe_is_the_papers():
    config = recipe("paper-cifar10")
    assert (config.epochs, config.lr, config.optimizer) == (200, 3e-3, "adam")
    assert config.projector[-1] == 64 and config.head == "off-diagonal"
    assert recipe("paper-stl10").image_size == 64


def test_what_is_not_a_recipe_is_refused_in_a_sentence():
    with pytest.raises(ConfigError, match="unknown recipe 'paper': choose one of paper-cifar10"):
        parse(["train", "--recipe", "paper", "--out", "x"])
    with pytest.raises(ConfigError, match="unknown size 'tiny': choose one of full, small"):
        parse(["train", "--recipe", "paper-cifar10", "--size", "tiny", "--out", "x"])
    with pytest.raises(ConfigError, match="give --recipe NAME as well"):
        parse(["train", "--size", "small", "--out", "x"])
