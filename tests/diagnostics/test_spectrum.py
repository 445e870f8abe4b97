"""Known answers, invariances and slow references for the spectral readings."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from offdiag.diagnostics.readings import read_part
from offdiag.diagnostics.spectrum import (
    covariance,
    effective_rank,
    normalised_std,
    rankme,
    spectrum,
    top_share,
)

shapes = st.tuples(st.integers(3, 40), st.integers(2, 12))


def gaussian(batch, dim, seed, rank=None):
    draw = torch.Generator().manual_seed(seed)
    z = torch.randn(batch, rank or dim, generator=draw)
    return z if rank is None else z @ torch.randn(rank, dim, generator=draw)


def test_rank_of_a_flat_and_of_a_collapsed_spectrum():
    assert effective_rank(3.0 * torch.eye(5)).item() == pytest.approx(5)
    u = torch.randn(5, generator=torch.Generator().manual_seed(0))
    assert effective_rank(torch.outer(u, u)).item() == pytest.approx(1, abs=1e-2)
    assert effective_rank(torch.zeros(5, 5)).isnan()


@given(shape=shapes, seed=st.integers(0, 999))
def test_covariance_matches_numpy(shape, seed):
    z = gaussian(*shape, seed)
    expected = np.cov(z.double().numpy(), rowvar=False, bias=True)
    np.testing.assert_allclose(covariance(z).numpy(), expected, atol=1e-12)


def test_covariance_survives_a_mean_that_dwarfs_the_spread():
    z = gaussian(200, 4, 0).double()
    torch.testing.assert_close(covariance(z + 1e6), covariance(z), rtol=1e-6, atol=1e-9)


@given(shape=shapes, seed=st.integers(0, 999))
def test_rankme_matches_its_formula_on_singular_values(shape, seed):
    z = gaussian(*shape, seed)
    s = np.linalg.svd(z.double().numpy(), compute_uv=False)
    p = s / s.sum() + 1e-7
    assert rankme(z).item() == pytest.approx(np.exp(-(p * np.log(p)).sum()), rel=1e-4)


@given(shape=shapes, seed=st.integers(0, 999))
def test_effective_rank_matches_its_formula_on_singular_values(shape, seed):
    z = gaussian(*shape, seed)
    s = np.linalg.svd((z - z.mean(0)).double().numpy(), compute_uv=False)
    p = s[s > 1e-9] / s.sum()
    expected = np.exp(-(p * np.log(p)).sum())
    assert effective_rank(covariance(z)).item() == pytest.approx(expected, rel=1e-4)


def test_what_is_not_finite_reads_as_nan():
    z = gaussian(10, 3, 0)
    z[0, 0] = torch.inf
    assert effective_rank(covariance(z)).isnan() and rankme(z).isnan()


@given(rank=st.integers(1, 6), seed=st.integers(0, 999))
def test_no_rank_exceeds_the_number_of_directions_in_use(rank, seed):
    z = gaussian(50, 12, seed, rank=rank)
    assert effective_rank(covariance(z)).item() <= rank + 1e-2
    assert rankme(z).item() <= rank + 1e-3


@settings(max_examples=30)
@given(seed=st.integers(0, 999), scale=st.floats(0.01, 100))
def test_ranks_are_blind_to_rotation_and_scale_and_the_centred_one_to_shift(seed, scale):
    z = gaussian(40, 6, seed).double()
    rotation, _ = torch.linalg.qr(gaussian(6, 6, seed + 1).double())
    moved = scale * z @ rotation
    assert effective_rank(covariance(moved + 7)).item() == pytest.approx(
        effective_rank(covariance(z)).item(), rel=1e-6
    )
    assert rankme(moved).item() == pytest.approx(rankme(z).item(), rel=1e-6)


def test_spectrum_is_descending_and_sums_to_one():
    shares = spectrum(covariance(gaussian(60, 8, 0)))
    assert torch.equal(shares, shares.sort(descending=True).values)
    assert shares.sum().item() == pytest.approx(1)
    assert top_share(covariance(gaussian(60, 8, 0))).item() == pytest.approx(shares[0].item())


def test_std_is_zero_at_complete_collapse_and_one_over_root_dim_when_spread():
    assert normalised_std(torch.ones(10, 4)).item() == pytest.approx(0, abs=1e-12)
    assert normalised_std(gaussian(20_000, 16, 0)).item() == pytest.approx(0.25, rel=0.01)


def test_std_is_blind_to_dimensional_collapse_where_the_rank_sees_it():
    line = gaussian(1000, 1, 0) @ torch.ones(1, 16)
    assert normalised_std(line).item() == pytest.approx(0.25, rel=0.01)
    assert effective_rank(covariance(line)).item() == pytest.approx(1, abs=1e-2)


def test_read_part_agrees_with_each_formula_by_itself():
    z = gaussian(100, 300, 0)
    readings, cov = read_part(z), covariance(z)
    assert readings.effective_rank == pytest.approx(effective_rank(cov).item())
    assert readings.rankme == pytest.approx(rankme(z).item())
    assert readings.std == pytest.approx(normalised_std(z).item())
    assert readings.top_share == pytest.approx(top_share(cov).item())
    assert len(readings.spectrum) == 256
