"""Terms that are added to a loss: exam for all rows, and the laws of the matrix entropies."""

import math

import pytest
import torch

from offdiag.methods.method import Embedded
from offdiag.registry import REGULARISERS
from offdiag.regularisers.information_bottleneck import gram, matrix_entropy, matrix_information

ROWS = 12


@pytest.mark.parametrize("name", sorted(REGULARISERS))
def test_every_regulariser_is_finite_and_proportional_to_its_weight(name, generator):
    views = tuple(torch.randn(ROWS, 4, generator=generator) for _ in range(2))
    embedded = Embedded(features=views, projection=views)
    one, two = (REGULARISERS[name](4, weight=weight)(embedded).total for weight in (1.0, 2.0))
    assert one.isfinite()
    torch.testing.assert_close(2 * one, two)


@pytest.mark.parametrize("order", [1.0, 2.0, 3.0])
def test_matrix_entropy_is_zero_for_equal_rows_and_log_rows_for_orthogonal_ones(order):
    equal, orthogonal = gram(torch.ones(ROWS, 4)), torch.eye(ROWS)
    assert matrix_entropy(equal, order=order).item() == pytest.approx(0, abs=1e-5)
    assert matrix_entropy(orthogonal, order=order).item() == pytest.approx(math.log(ROWS), abs=1e-5)


@pytest.mark.parametrize("order", [1.0, 2.0])
def test_information_with_constant_rows_is_zero_and_with_the_identity_the_entropy(order, generator):
    K = gram(torch.randn(ROWS, 4, generator=generator))
    ones, eye = torch.ones(ROWS, ROWS), torch.eye(ROWS)
    assert matrix_information(K, ones, order=order).item() == pytest.approx(0, abs=1e-4)
    expected = matrix_entropy(K, order=order).item()
    assert matrix_information(K, eye, order=order).item() == pytest.approx(expected, abs=1e-4)
