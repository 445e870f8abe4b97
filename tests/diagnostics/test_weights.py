"""Known answers for the readings of a head's matrix."""

import math

import pytest
import torch

from offdiag.diagnostics.readings import read_head
from offdiag.diagnostics.weights import asymmetry, identity_distance, off_diagonal_norm


def test_the_identity_lends_nothing_and_has_no_asymmetry_to_speak_of():
    eye = torch.eye(4)
    assert off_diagonal_norm(eye).item() == 0
    assert identity_distance(eye).item() == 0
    assert asymmetry(eye).isnan()


def test_off_diagonal_norm_leaves_the_diagonal_out_and_identity_distance_does_not():
    weight = torch.tensor([[3.0, 3.0], [4.0, 1.0]])
    assert off_diagonal_norm(weight).item() == pytest.approx(5)
    assert identity_distance(weight).item() == pytest.approx(math.sqrt(29))


@pytest.mark.parametrize(
    ("weight", "expected"),
    [
        ([[1.0, 2.0], [2.0, 1.0]], 0.0),
        ([[1.0, 2.0], [0.0, 1.0]], math.sqrt(2)),
        ([[1.0, 2.0], [-2.0, 1.0]], 2.0),
    ],
    ids=["symmetric", "triangular", "antisymmetric"],
)
def test_asymmetry_of_the_three_extremes(weight, expected):
    assert asymmetry(torch.tensor(weight)).item() == pytest.approx(expected)


def test_read_head_names_each_formula():
    weight = torch.tensor([[1.0, 2.0], [0.5, 1.5]])
    readings = read_head(weight)
    assert readings.off_diagonal_norm == off_diagonal_norm(weight).item()
    assert readings.asymmetry == asymmetry(weight).item()
    assert readings.identity_distance == identity_distance(weight).item()
