"""Every reading against a slow reference, known answers, invariances, and bad input."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from offdiag._checks import DataError
from offdiag.diagnostics import spectrum as spectral
from offdiag.diagnostics.moments import Moments
from offdiag.diagnostics.noise import wishart_eigenvalues
from offdiag.diagnostics.readings import noise_readings, read_head, read_part, readings_of
from offdiag.diagnostics.sample import SAMPLE_ROWS
from offdiag.diagnostics.views import alignment, uniformity
from offdiag.results.readings import numbers

from ..helpers import references

SHAPES = [(40, 6), (12, 12), (13, 12), (7, 20), (2, 5), (150, 60)]
INVARIANT = (
    "effective_rank",
    "participation_ratio",
    "nesum",
    "numerical_rank",
    "condition_number",
    "alpha_req",
    "matrix_entropy",
    "singular_value_auc",
    "top_share",
)


def gaussian(rows, dim, seed=0, rank=None, shift=0.3):
    draw = torch.Generator().manual_seed(seed)
    z = torch.randn(rows, rank or dim, generator=draw, dtype=torch.float64)
    if rank is not None:
        z = z @ torch.randn(rank, dim, generator=draw, dtype=torch.float64)
    return z + shift


def same(a, b, **tolerance):
    return a == pytest.approx(b, **({"rel": 1e-6, "abs": 1e-9} | tolerance), nan_ok=True)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("rank", [None, 1, 3])
def test_every_reading_equals_its_slow_reference(shape, rank):
    z = gaussian(*shape, rank=rank)
    other = z + 0.1 * gaussian(*shape, seed=1)
    found = numbers(read_part(z, other))
    expected = references.part(z.numpy()) | {
        "alignment": references.alignment(z.numpy(), other.numpy()),
        "lidar": references.lidar(torch.stack((z, other), 1).numpy()),
    }
    assert found.keys() == expected.keys()
    wrong = {k: (found[k], v) for k, v in expected.items() if not same(found[k], v, rel=1e-5)}
    assert wrong == {}


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_a_stream_reads_as_the_rows_in_memory_do(shape):
    z, other = gaussian(*shape), gaussian(*shape, seed=1)
    moments = Moments(shape[1])
    for piece in z.tensor_split(3):
        moments.update(piece)
    stream, memory = numbers(readings_of(moments, z, other)), numbers(read_part(z, other))
    wrong = {k: (stream[k], v) for k, v in memory.items() if not same(stream[k], v, rel=1e-5)}
    assert wrong == {}


def test_without_a_sample_or_a_second_view_what_needs_them_is_nan():
    moments = Moments(4)
    moments.update(gaussian(20, 4))
    alone = readings_of(moments)
    assert math.isnan(alone.std) and math.isnan(alone.uniformity) and alone.rankme > 1
    one = read_part(gaussian(20, 4))
    assert math.isnan(one.alignment) and math.isnan(one.lidar) and one.std > 0
    assert one.rows == alone.rows == 20


@pytest.mark.parametrize("dim", [8, 64])
@pytest.mark.parametrize("rank", [1, 2, 5, 8])
def test_rank_equal_directions_read_as_their_number(dim, rank):
    rows, _ = torch.linalg.qr(gaussian(100, rank, shift=0.0))
    rows = rows - rows.mean(0)
    u, _, _ = torch.linalg.svd(rows, full_matrices=False)
    basis, _ = torch.linalg.qr(gaussian(dim, rank, seed=1))
    readings = read_part(u[:, :rank] @ basis.T)
    for name in ("effective_rank", "participation_ratio", "nesum", "stable_rank", "rankme"):
        assert getattr(readings, name) == pytest.approx(rank, rel=2e-3), name
    assert readings.numerical_rank == rank
    assert readings.matrix_entropy == pytest.approx(math.log(rank), abs=1e-9)
    assert readings.singular_value_auc == pytest.approx(1 - (rank - 1) / (2 * dim))
    assert readings.condition_number == (pytest.approx(1) if rank == dim else math.inf)
    assert readings.mean_share == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize("shape", [(500, 20), (60, 200), (300, 300)], ids=str)
@pytest.mark.parametrize("rank", [1, 4, 16])
def test_no_rank_of_a_rank_r_gaussian_exceeds_r(shape, rank):
    readings = read_part(gaussian(*shape, rank=rank, shift=0.0).float())
    for name in ("effective_rank", "participation_ratio", "nesum", "rankme", "numerical_rank"):
        assert 1 - 1e-3 <= getattr(readings, name) <= rank + 1e-2, name
    assert readings.numerical_rank == rank


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 999), scale=st.floats(1e-3, 1e3), shift=st.floats(-1e3, 1e3))
def test_centred_readings_are_blind_to_rotation_scale_and_shift(seed, scale, shift):
    z = gaussian(40, 6, seed)
    rotation, _ = torch.linalg.qr(gaussian(6, 6, seed + 1))
    before, after = numbers(read_part(z)), numbers(read_part(scale * z @ rotation + shift))
    wrong = {k: (before[k], after[k]) for k in INVARIANT if not same(before[k], after[k], rel=1e-5)}
    assert wrong == {}


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 999), scale=st.floats(1e-3, 1e3))
def test_every_other_reading_is_blind_to_rotation_and_only_lidar_sees_scale(seed, scale):
    z, other = gaussian(30, 6, seed), gaussian(30, 6, seed + 1)
    rotation, _ = torch.linalg.qr(gaussian(6, 6, seed + 2))
    before = numbers(read_part(z, other))
    turned = numbers(read_part(z @ rotation, other @ rotation))
    scaled = numbers(read_part(scale * z, scale * other))
    # The std is a mean over coordinates: it depends on which they are.
    assert [k for k, v in before.items() if not same(turned[k], v, rel=1e-5)] in ([], ["std"])
    assert [k for k, v in before.items() if not same(scaled[k], v, rel=1e-5)] in ([], ["lidar"])


def test_uncentred_readings_see_a_mean_that_the_centred_do_not():
    near, far = read_part(gaussian(200, 10, shift=0.0)), read_part(gaussian(200, 10, shift=100.0))
    assert far.effective_rank == pytest.approx(near.effective_rank)
    assert far.nesum == pytest.approx(near.nesum)
    assert far.rankme < 1.3 and near.rankme > 9.5
    assert far.stable_rank < 1.01 and near.stable_rank > 5
    assert far.mean_share > 0.999 and near.mean_share < 0.1


@pytest.mark.parametrize("alpha", [0.0, 0.5, 1.0, 2.0])
@pytest.mark.parametrize("dim", [3, 5, 20, 49, 200])
def test_alpha_req_finds_the_power_of_a_power_law(alpha, dim):
    law = torch.arange(1, dim + 1, dtype=torch.float64) ** -alpha
    assert spectral.alpha_req(law).item() == pytest.approx(alpha, abs=1e-9)
    assert spectral.alpha_req(law.flip(0).diag()).item() == pytest.approx(alpha, abs=1e-6)


def test_alpha_req_needs_three_directions():
    assert spectral.alpha_req(torch.tensor([2.0, 1.0, 0.0])).isnan()


def test_alpha_req_looks_at_its_window_only():
    law = torch.arange(1, 101, dtype=torch.float64) ** -1.5
    law[:10] *= 100
    law[60:] /= 100
    assert spectral.alpha_req(law).item() == pytest.approx(1.5)
    assert spectral.alpha_req(law, first=1, last=100).item() != pytest.approx(1.5, abs=0.1)


def test_matrix_entropy_of_normalised_rows_is_that_of_their_kernel():
    z = torch.nn.functional.normalize(gaussian(9, 5), dim=1)
    kernel = spectral.matrix_entropy(z @ z.T / len(z)).item()
    assert spectral.matrix_entropy(spectral.second_moment(z)).item() == pytest.approx(kernel)


@pytest.mark.parametrize("value", [0.1, 1e6 / 3, -7.0])
@pytest.mark.parametrize("shape", [(50, 4), (3, 9), (1, 4), (1, 1)], ids=str)
def test_constant_embeddings_are_all_mean_and_have_no_spectrum(value, shape):
    readings = read_part(torch.full(shape, value), torch.full(shape, value))
    assert readings.mean_share == readings.stable_rank == 1
    assert readings.std == pytest.approx(0, abs=1e-12)
    assert readings.rankme == pytest.approx(1, abs=1e-3)
    assert readings.alignment == 0
    for name in (*INVARIANT, "lidar"):
        assert math.isnan(getattr(readings, name)), name
    moments = Moments(shape[1])
    for row in torch.full(shape, value):
        moments.update(row[None])
    assert math.isnan(readings_of(moments).effective_rank)


def test_a_constant_feature_beside_others_is_no_direction():
    z = gaussian(50, 3)
    wide = read_part(torch.cat((z, torch.full((50, 2), 0.1, dtype=torch.float64)), 1))
    assert wide.effective_rank == pytest.approx(read_part(z).effective_rank)
    assert wide.condition_number == math.inf


@pytest.mark.parametrize(
    ("z", "words"),
    [
        (torch.ones(3), r"shape \(rows, dim\).*got \(3,\)"),
        (torch.ones(2, 3, 4), r"got \(2, 3, 4\).*Flatten"),
        (torch.ones(0, 4), r"both at least 1; got \(0, 4\)"),
        (torch.ones(4, 3, dtype=torch.int64), r"floating-point.*torch.int64"),
        (torch.ones(4, 3, dtype=torch.bool), r"floating-point.*torch.bool"),
    ],
    ids=["one axis", "three axes", "no rows", "integers", "booleans"],
)
def test_what_is_not_a_float_matrix_is_refused_in_one_sentence(z, words):
    with pytest.raises(DataError, match=words):
        read_part(z)


def test_values_that_are_not_finite_are_counted_and_placed():
    z = torch.ones(10, 3)
    z[2, 0], z[7, 1], z[7, 2] = torch.nan, torch.inf, -torch.inf
    with pytest.raises(DataError, match=r"3 of 30 values are nan or inf, in rows 2, 7 \(counted"):
        read_part(z)
    with pytest.raises(DataError, match="the second view must be finite"):
        read_part(torch.ones(10, 3), z)
    with pytest.raises(DataError, match=r"rows 0, 1, 2, 3, 4 and 5 more"):
        read_part(z / 0)


def test_two_views_of_other_shapes_are_refused():
    with pytest.raises(DataError, match=r"same shape; got \(4, 3\) and \(5, 3\)"):
        read_part(torch.ones(4, 3), torch.ones(5, 3))


def test_a_stream_that_is_not_finite_reads_as_nan_and_raises_nothing():
    moments = Moments(3)
    moments.update(torch.full((5, 3), torch.nan))
    bad = torch.full((5, 3), torch.nan)
    found = numbers(readings_of(moments, bad, bad))
    assert all(math.isnan(value) for value in found.values()), found


@pytest.mark.parametrize("kind", [torch.float16, torch.bfloat16, torch.float32])
def test_half_precision_rows_read_as_their_float64_values(kind):
    z = gaussian(30, 5).to(kind)
    assert numbers(read_part(z)) == pytest.approx(numbers(read_part(z.double())), nan_ok=True)


def test_mixed_precision_around_a_reading_changes_nothing():
    z, other = gaussian(30, 5).float(), gaussian(30, 5, seed=1).float()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = read_part(z, other)
    assert inside == read_part(z, other)


def test_nothing_keeps_the_graph_or_changes_the_input():
    z = gaussian(20, 4).requires_grad_()
    before = z.detach().clone()
    read_part(z, z)
    assert torch.equal(z.detach(), before) and z.grad is None


@pytest.mark.parametrize("shape", [(60, 12), (12, 12), (9, 30), (300, 5)], ids=str)
def test_noise_reads_as_rows_of_noise_do(shape):
    draws = 24
    spread = {}
    for seed in range(draws):
        drawn = torch.Generator().manual_seed(1000 + seed)
        a, b = (torch.randn(*shape, generator=drawn) for _ in range(2))
        pair = numbers(noise_readings(*shape, views=2, seed=seed)), numbers(read_part(a, b))
        for name in pair[0]:
            spread.setdefault(name, []).append((pair[0][name], pair[1][name]))
    for name, values in spread.items():
        if name == "condition_number":  # heavy tails, or inf on both sides
            continue
        noise, rows = torch.tensor(values, dtype=torch.float64).T
        error = 4.5 * ((noise.var() + rows.var()) / draws).sqrt() + 1e-6
        assert abs(noise.mean() - rows.mean()) <= error, name
    assert all(math.isinf(a) == math.isinf(b) for a, b in spread["condition_number"])


@pytest.mark.parametrize(("rows", "dim"), [(6, 3), (3, 6), (4, 4), (1, 5), (5, 1)])
def test_the_drawn_spectrum_has_the_moments_of_a_wishart_matrix(rows, dim):
    draws = torch.stack([wishart_eigenvalues(rows, dim, seed=seed) for seed in range(3000)])
    assert draws.shape[1] == dim and not draws[:, rows:].any()
    assert torch.equal(draws, draws.sort(descending=True).values)
    for power, expected in ((1, rows * dim), (2, rows * dim * (rows + dim + 1))):
        traces = (draws**power).sum(1)
        error = 4.5 * (traces.var() / len(traces)).sqrt()
        assert abs(traces.mean() - expected) < error, power


def test_noise_is_drawn_once_and_costs_no_rows():
    first = noise_readings(10**9, 64, views=2)
    assert noise_readings(10**9, 64, views=2) is first
    assert first.effective_rank == pytest.approx(64, rel=1e-3)
    assert first.alignment == pytest.approx(2, abs=0.05)
    assert math.isnan(noise_readings(100, 8).alignment)
    with pytest.raises(DataError, match="at least one row"):
        noise_readings(0, 8)


def test_pairs_of_rows_are_bounded_by_a_sample_that_repeats():
    z = gaussian(SAMPLE_ROWS * 3, 4)
    other = z + 0.1 * gaussian(SAMPLE_ROWS * 3, 4, seed=1)
    first = read_part(z, other)
    assert first == read_part(z, other) and first.rows == len(z)
    assert first.uniformity == pytest.approx(uniformity(z).item(), abs=0.05)
    assert first.uniformity != uniformity(z).item()
    assert first.alignment == alignment(z, other).item()


def test_a_head_is_read_with_and_without_its_input():
    weight = torch.eye(3) + 0.1 * gaussian(3, 3).float()
    moment = spectral.second_moment(gaussian(50, 3))
    full, bare = read_head(weight, moment), read_head(weight)
    assert full.off_diagonal_norm == bare.off_diagonal_norm
    assert 0 < full.off_diagonal_share < 1 and math.isnan(bare.off_diagonal_share)
    lost = read_head(weight * torch.nan, moment)
    assert all(math.isnan(value) for value in numbers(lost).values())
