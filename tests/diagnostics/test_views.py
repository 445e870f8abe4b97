"""Laws of the readings of pairs: on the sphere, and between views."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from offdiag.diagnostics import views
from offdiag.diagnostics.views import alignment, lidar, uniformity

from ..helpers import references


def gaussian(*shape, seed=0):
    draw = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=draw, dtype=torch.float64)


def test_alignment_is_zero_for_the_same_direction_two_for_right_angles_four_for_opposite():
    e = torch.eye(4)
    assert alignment(e, 7 * e).item() == pytest.approx(0)
    assert alignment(e, e.roll(1, 0)).item() == pytest.approx(2)
    assert alignment(e, -e).item() == pytest.approx(4)


def test_uniformity_is_zero_at_collapse_and_minus_2t_at_right_angles():
    assert uniformity(torch.ones(9, 4)).item() == pytest.approx(0)
    assert uniformity(torch.eye(9)).item() == pytest.approx(-4)
    assert uniformity(torch.eye(9), t=3).item() == pytest.approx(-6)
    assert uniformity(torch.tensor([[1.0, 0], [-2.0, 0]])).item() == pytest.approx(-8)
    assert uniformity(torch.ones(1, 4)).isnan()


@settings(max_examples=20, deadline=None)
@given(
    rows=st.integers(2, 20),
    dim=st.integers(1, 6),
    block=st.integers(1, 25),
    seed=st.integers(0, 99),
)
def test_uniformity_counts_each_pair_once_however_it_is_cut(rows, dim, block, seed):
    z, before = gaussian(rows, dim, seed=seed), views.PAIRS_AT_ONCE
    try:
        views.PAIRS_AT_ONCE = block
        found = uniformity(z).item()
    finally:
        views.PAIRS_AT_ONCE = before
    assert found == pytest.approx(references.uniformity(z.numpy()), abs=1e-9)


@pytest.mark.parametrize(
    "shape", [(20, 2, 5), (10, 4, 3), (6, 2, 30), (3, 5, 40), (5, 3, 15)], ids=str
)
@pytest.mark.parametrize("delta", [1e-4, 1.0])
def test_lidar_equals_its_slow_reference_in_every_shape(shape, delta):
    z = gaussian(*shape) + 3 * gaussian(shape[0], 1, shape[2], seed=1)
    expected = references.lidar(z.numpy(), delta=delta)
    assert lidar(z, delta=delta).item() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("rank", [1, 2, 8, 32])
def test_lidar_finds_in_how_many_directions_images_differ(rank):
    objects = gaussian(2000, 1, rank) @ torch.eye(64, dtype=torch.float64)[:rank]
    found = lidar(objects + 0.01 * gaussian(2000, 2, 64, seed=1)).item()
    assert found == pytest.approx(rank, rel=0.1)


def test_lidar_is_blind_to_rotation_and_shift():
    z = gaussian(30, 3, 6) + gaussian(30, 1, 6, seed=1)
    rotation, _ = torch.linalg.qr(gaussian(6, 6, seed=2))
    assert lidar(z @ rotation + 1e3).item() == pytest.approx(lidar(z).item(), rel=1e-6)


def test_lidar_discounts_directions_that_augmentation_changes():
    objects = gaussian(500, 1, 8)
    still = lidar(objects + 0.1 * gaussian(500, 2, 8, seed=1)).item()
    noise = gaussian(500, 2, 8, seed=1) * torch.tensor([0.1] * 2 + [5.0] * 6)
    assert lidar(objects + noise).item() < 3 < still


@pytest.mark.parametrize("shape", [(1, 2, 3), (5, 1, 3)], ids=str)
def test_lidar_needs_two_images_and_two_views(shape):
    assert lidar(gaussian(*shape)).isnan()
    assert lidar(torch.ones(5, 2, 3)).isnan()
    assert math.isnan(lidar(torch.full((5, 2, 3), np.inf)).item())


def test_lidar_of_embeddings_so_large_that_delta_drowns_is_finite():
    z = 1e9 * (gaussian(6, 2, 30) + 3 * gaussian(6, 1, 30, seed=1))
    assert 1 <= lidar(z).item() <= 5 + 1e-6
