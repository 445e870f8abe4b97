"""Known answers for the readings of a head's matrix."""

import math

import pytest
import torch

from offdiag.diagnostics.readings import read_head
from offdiag.diagnostics.spectrum import second_moment
from offdiag.diagnostics.weights import (
    asymmetry,
    commutator,
    eigenspace_alignment,
    identity_distance,
    off_diagonal_norm,
    off_diagonal_share,
    polar_distance,
    rank,
)

from ..helpers import references


def gaussian(dim, *, seed=0):
    return torch.randn(dim, dim, generator=torch.Generator().manual_seed(seed))


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


@pytest.mark.parametrize("dim", [1, 2, 5])
@pytest.mark.parametrize("seed", range(3))
def test_every_reading_with_an_input_equals_its_slow_reference(dim, seed):
    draw = torch.Generator().manual_seed(seed)
    weight = torch.randn(dim, dim, generator=draw, dtype=torch.float64)
    z = torch.randn(40, dim, generator=draw, dtype=torch.float64) + 0.5
    readings = read_head(weight, second_moment(z))
    for name, expected in references.head(weight, z).items():
        assert getattr(readings, name) == pytest.approx(expected, rel=1e-6, abs=1e-9), name


def test_a_rotation_is_its_own_polar_factor_and_zero_is_root_dim_away():
    rotation, _ = torch.linalg.qr(gaussian(6))
    assert polar_distance(rotation).item() == pytest.approx(0, abs=1e-6)
    assert polar_distance(3 * rotation).item() == pytest.approx(2 * math.sqrt(6))
    assert polar_distance(torch.zeros(6, 6)).item() == pytest.approx(math.sqrt(6))
    assert polar_distance(gaussian(6)) <= identity_distance(gaussian(6))


def test_rank_counts_directions_and_not_their_size():
    u, v = gaussian(6)[:, :2], gaussian(6, seed=1)[:2]
    assert rank(u @ v) == rank(1e-6 * u @ v) == 2
    assert rank(torch.zeros(3, 3)) == 0 and rank(torch.eye(3)) == 3


def test_a_head_in_the_eigenbasis_of_its_input_is_aligned_and_commutes():
    V, _ = torch.linalg.qr(gaussian(5).double())
    C = V @ torch.diag(torch.tensor([5.0, 4, 3, 2, 1]).double()) @ V.T
    head = V @ torch.diag(torch.tensor([1.0, -2, 3, 0.5, 4]).double()) @ V.T
    assert eigenspace_alignment(head, C).item() == pytest.approx(1)
    assert commutator(head, C).item() == pytest.approx(0, abs=1e-12)
    assert eigenspace_alignment(torch.eye(5), C.float()).item() == pytest.approx(1)


def test_a_head_that_turns_every_eigenvector_away_reads_zero():
    C = torch.diag(torch.tensor([4.0, 3.0, 2.0, 1.0]))
    assert eigenspace_alignment(torch.eye(4).roll(1, 0), C).item() == pytest.approx(0, abs=1e-9)
    assert eigenspace_alignment(torch.zeros(4, 4), C).item() == 0


def test_only_directions_with_energy_count_for_alignment():
    C = torch.diag(torch.tensor([1.0, 0.5, 0.0, 0.0]))
    head = torch.eye(4)
    head[2:, 2:] = torch.tensor([[0.0, 1.0], [-1.0, 0.0]])
    assert eigenspace_alignment(head, C).item() == pytest.approx(1)
    assert eigenspace_alignment(head, torch.zeros(4, 4)).isnan()


def test_the_commutator_reaches_root_two_and_no_more():
    E, C = torch.tensor([[0.0, 1.0], [0.0, 0.0]]), torch.tensor([[1.0, 0.0], [0.0, -1.0]])
    assert commutator(E, C).item() == pytest.approx(math.sqrt(2))
    assert all(
        0 <= commutator(gaussian(4, seed=i), gaussian(4, seed=i + 1)) <= 2**0.5 for i in range(9)
    )


def test_off_diagonal_share_is_zero_for_a_diagonal_and_one_for_a_hollow_head():
    C = second_moment(gaussian(9)[:, :4])
    assert off_diagonal_share(torch.diag(torch.tensor([1.0, 2, 3, 4])), C).item() == 0
    assert off_diagonal_share(torch.eye(4).roll(1, 0), C).item() == 1
    half = torch.tensor([[1.0, 1.0], [1.0, 1.0]])
    assert off_diagonal_share(half, torch.eye(2)).item() == pytest.approx(0.5)
    assert off_diagonal_share(half, torch.ones(2, 2)).item() == pytest.approx(0.5)
    assert off_diagonal_share(torch.zeros(4, 4), C).isnan()


def test_what_comes_through_dead_coordinates_is_no_share_of_the_prediction():
    C = torch.diag(torch.tensor([1.0, 0.0]))
    assert off_diagonal_share(torch.tensor([[1.0, 100.0], [0.0, 1.0]]), C).item() == 0
