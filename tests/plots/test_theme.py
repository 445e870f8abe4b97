"""Colours hold on both grounds."""

import pytest

from offdiag.plots.theme import DIVERGING, INK, PALETTE, PAPER, config


def luminance(colour: str) -> float:
    channels = (int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5))
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one: str, other: str) -> float:
    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("ground", ["light", "dark"])
@pytest.mark.parametrize("colour", PALETTE)
def test_a_line_stands_out_from_both_grounds(colour, ground):
    assert contrast(colour, PAPER[ground]) >= 3


@pytest.mark.parametrize("ground", ["light", "dark"])
def test_labels_are_readable_on_their_ground(ground):
    assert contrast(INK[ground], PAPER[ground]) >= 4.5


@pytest.mark.parametrize("ground", ["light", "dark"])
def test_zero_has_the_colour_of_the_ground_and_both_ends_stand_out(ground):
    colours = DIVERGING[ground]
    assert colours[len(colours) // 2] == PAPER[ground]
    assert min(contrast(end, PAPER[ground]) for end in (colours[0], colours[-1])) >= 7


def test_the_colours_of_the_runs_are_distinct():
    assert len(set(PALETTE)) == len(PALETTE)
    assert config()["range"]["category"] == list(PALETTE)
