"""Laws of the comparison of two embeddings of the same images."""

import pytest
import torch

from offdiag._checks import DataError
from offdiag.diagnostics.similarity import linear_cka, scores, similarity, subspace_angles

DRAW = torch.Generator().manual_seed(0)
Z = torch.randn(400, 12, generator=DRAW)
OTHER = torch.randn(400, 9, generator=DRAW)


def rotated(z: torch.Tensor) -> torch.Tensor:
    turn, _ = torch.linalg.qr(torch.randn(z.shape[1], z.shape[1], generator=DRAW))
    return 3 * z @ turn


def test_a_rotation_changes_nothing():
    found = similarity(Z, rotated(Z))
    assert found.cka == pytest.approx(1) and found.neighbours == pytest.approx(1, abs=1e-3)
    assert max(found.angles) < 0.1 and found.lost == found.gained == ()


def test_unrelated_embeddings_are_unrelated():
    found = similarity(Z, OTHER)
    assert found.cka < 0.1
    assert found.neighbours == pytest.approx(found.neighbours_by_chance, abs=0.02)
    assert len(found.lost) == 12 and len(found.gained) == 9


def test_directions_that_are_dropped_are_lost_and_new_ones_gained():
    strong = torch.arange(12, 0, -1.0)
    first = Z * strong
    second = torch.cat((Z[:, :4] * strong[:4], torch.randn(400, 2, generator=DRAW)), 1)
    found = similarity(first, second)
    assert found.lost == tuple(range(5, 13)) and found.compared == (12, 6)
    assert found.gained == (5, 6)
    assert sum(angle < 15 for angle in found.angles) == 4


def test_cka_is_that_of_the_kernels():
    x, y = (z.double() - z.double().mean(0) for z in (Z, OTHER))
    K, L = x @ x.T, y @ y.T
    expected = (K * L).sum() / (torch.linalg.norm(K) * torch.linalg.norm(L))
    assert linear_cka(Z, OTHER).item() == pytest.approx(expected.item())


def test_angles_of_planes_with_one_line_in_common():
    eye = torch.eye(5, dtype=torch.float64)
    angles = subspace_angles(eye[:, [0, 1]], eye[:, [0, 2]])
    assert angles.tolist() == pytest.approx([0, 90])


def test_no_more_directions_are_compared_than_rows_can_tell_apart():
    few = torch.randn(40, 64, generator=DRAW)
    assert scores(few).shape[1] == 10


def test_rows_must_be_the_same_images():
    with pytest.raises(DataError, match="400 and 399 rows"):
        similarity(Z, OTHER[:-1])
    with pytest.raises(DataError, match="at least 12 rows"):
        similarity(Z[:5], OTHER[:5])
