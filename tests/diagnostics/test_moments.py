"""Laws of streaming moments and of the bounded sample."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from offdiag._checks import ConfigError, DataError
from offdiag.diagnostics.moments import Moments
from offdiag.diagnostics.sample import RowSample

SOURCE = Path(__file__).parents[2] / "src"


def gaussian(rows, dim, seed=0):
    draw = torch.Generator().manual_seed(seed)
    return torch.randn(rows, dim, generator=draw, dtype=torch.float64)


def seen(dim, *batches):
    moments = Moments(dim)
    for batch in batches:
        moments.update(batch)
    return moments


def close(moments, z, *, atol=1e-9, rtol=1e-9):
    assert moments.count == len(z)
    torch.testing.assert_close(moments.mean, z.mean(0), atol=atol, rtol=1e-14)
    expected = torch.cov(z.T, correction=0).reshape(z.shape[1], z.shape[1])
    torch.testing.assert_close(moments.covariance(), expected, atol=atol, rtol=rtol)


@settings(max_examples=40, deadline=None)
@given(
    sizes=st.lists(st.integers(0, 9), min_size=1, max_size=8).filter(lambda s: sum(s) > 0),
    dim=st.integers(1, 6),
    seed=st.integers(0, 999),
    mean=st.sampled_from([0.0, 1.0, 1e6]),
)
def test_moments_match_torch_cov_whatever_the_batching(sizes, dim, seed, mean):
    z = gaussian(sum(sizes), dim, seed) + mean
    pieces = z.split(sizes)
    # torch.cov itself loses digits at a mean of 1e6: the reference takes the mean off first.
    tolerance = {"atol": 1e-9 * max(1.0, mean)}
    close(seen(dim, *pieces), z, **tolerance)
    merged = Moments(dim)
    for piece in pieces:
        merged.merge(seen(dim, piece))
    close(merged, z, **tolerance)


def test_a_mean_of_a_million_costs_no_digits():
    z = gaussian(500, 4)
    far = seen(4, *(z + 1e6).split(7)).covariance()
    torch.testing.assert_close(far, seen(4, z).covariance(), rtol=1e-8, atol=1e-9)


def test_second_moment_is_not_centred():
    z = gaussian(50, 3) + 2
    torch.testing.assert_close(seen(3, z).second_moment(), z.T @ z / 50)


def test_single_precision_rows_are_summed_in_double():
    z = (gaussian(1000, 3) + 1000).float()
    close(seen(3, *z.split(10)), z.double())


def test_mixed_precision_and_inference_mode_do_not_touch_the_sums():
    z = gaussian(60, 3) + 100
    moments, sample = Moments(3), RowSample(8)
    with torch.autocast("cpu", dtype=torch.bfloat16), torch.inference_mode():
        for piece in z[:30].split(10):
            moments.update(piece)
            sample.update(piece)
    for piece in z[30:].split(10):
        moments.update(piece)
        sample.update(piece)
    close(moments, z)
    assert all((row == z).all(1).any() for row in sample.rows[0])


def test_equal_rows_leave_a_covariance_of_exactly_zero_in_any_company():
    row = torch.full((1, 3), 0.1)
    moments = seen(3, *[row] * 7)
    moments.merge(seen(3, row, row))
    assert moments.count == 9 and not moments.covariance().any()


def test_no_rows_have_no_moments():
    empty = Moments(3)
    empty.update(torch.empty(0, 3))
    empty.merge(Moments(3))
    assert empty.count == 0 and empty.mean.isnan().all() and empty.covariance().isnan().all()
    assert empty.all_reduced().count == 0


def test_merging_leaves_the_other_as_it_is():
    a, b = seen(2, gaussian(5, 2)), seen(2, gaussian(4, 2, 1))
    before = b.covariance().clone()
    a.merge(b)
    a.update(gaussian(3, 2, 2))
    assert b.count == 4 and torch.equal(b.covariance(), before)
    fresh = Moments(2)
    fresh.merge(b)
    fresh.update(gaussian(3, 2, 2))
    assert torch.equal(b.covariance(), before)


def test_without_processes_all_reduced_is_a_copy():
    a = seen(2, gaussian(5, 2))
    copy = a.all_reduced()
    torch.testing.assert_close(copy.covariance(), a.covariance())
    copy.update(gaussian(5, 2, 1))
    assert a.count == 5


def test_another_width_is_refused():
    with pytest.raises(ConfigError, match="width 3; got width 2"):
        Moments(3).update(torch.ones(4, 2))
    with pytest.raises(ConfigError, match="width 3; got width 2"):
        Moments(3).merge(Moments(2))


PROCESS = """
import sys, torch, torch.distributed as dist
from offdiag.diagnostics.moments import Moments
rank, store, out = int(sys.argv[1]), sys.argv[2], sys.argv[3]
dist.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=2)
z = torch.load(f"{out}/rows.pt", weights_only=True)
mine, none = Moments(4), Moments(4)
for piece in (z[:30] if rank == 0 else z[30:]).split(7):
    mine.update(piece)
if rank == 1:
    none.update(z)
whole, one = mine.all_reduced(), none.all_reduced()
assert Moments(4).all_reduced().count == 0
torch.save([whole.count, whole.mean, whole.covariance(), mine.count,
            one.count, one.mean, one.covariance()], f"{out}/{rank}.pt")
dist.destroy_process_group()
"""


def test_two_processes_reduce_to_what_one_process_sees(tmp_path):
    z = gaussian(100, 4) + 1e6
    torch.save(z, tmp_path / "rows.pt")
    command = [sys.executable, "-c", PROCESS]
    environment = {"PYTHONPATH": str(SOURCE), "OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo"}
    running = [
        subprocess.Popen([*command, str(rank), tmp_path / "store", tmp_path], env=environment)
        for rank in range(2)
    ]
    assert [process.wait(timeout=100) for process in running] == [0, 0]
    expected = seen(4, z)
    for rank, held in enumerate([30, 70]):
        count, mean, covariance, own, lone, lone_mean, lone_covariance = torch.load(
            tmp_path / f"{rank}.pt", weights_only=True
        )
        assert (count, own, lone) == (100, held, 100)
        for found in (mean, lone_mean):
            torch.testing.assert_close(found, expected.mean, rtol=1e-15, atol=0)
        for found in (covariance, lone_covariance):
            torch.testing.assert_close(found, expected.covariance(), rtol=1e-9, atol=1e-12)


def numbered(rows, dim=2):
    return torch.arange(rows, dtype=torch.float32)[:, None].expand(rows, dim)


@given(sizes=st.lists(st.integers(0, 12), min_size=1, max_size=6), capacity=st.integers(1, 15))
def test_a_sample_depends_on_the_rows_and_the_seed_and_not_on_the_batches(sizes, capacity):
    rows = numbered(sum(sizes))
    whole, parts = RowSample(capacity, seed=3), RowSample(capacity, seed=3)
    whole.update(rows)
    for piece in rows.split(sizes):
        parts.update(piece)
    assert torch.equal(whole.rows[0], parts.rows[0])
    assert len(whole.rows[0]) == min(capacity, sum(sizes)) == len(whole.rows[0].unique(dim=0))
    assert whole.seen == parts.seen == sum(sizes)


def test_every_row_of_a_stream_is_equally_likely_to_stay():
    kept = torch.zeros(40)
    for seed in range(1000):
        sample = RowSample(10, seed=seed)
        for piece in numbered(40).split(8):
            sample.update(piece)
        kept[sample.rows[0][:, 0].long()] += 1
    # Each count is binomial(1000, 1/4): standard deviation 13.7.
    assert (kept - 250).abs().max() < 4.5 * 13.7


def test_the_views_of_a_row_stay_together():
    sample = RowSample(5)
    for start in range(0, 60, 6):
        rows = numbered(60, 3)[start : start + 6]
        sample.update(rows, -rows[:, :1])
    a, b = sample.rows
    assert a.shape == (5, 3) and b.shape == (5, 1)
    assert torch.equal(a[:, 0], -b[:, 0])


def test_a_sample_keeps_its_own_copy_of_rows_and_no_graph():
    rows = torch.ones(4, 2, requires_grad=True)
    sample = RowSample(8)
    sample.update(rows)
    with torch.no_grad():
        rows.zero_()
    assert sample.rows[0].sum() == 8 and not sample.rows[0].requires_grad


def test_a_sample_says_what_does_not_fit():
    assert RowSample(3).rows == ()
    with pytest.raises(DataError, match="same number of rows"):
        RowSample(3).update(torch.ones(2, 2), torch.ones(3, 2))
    sample = RowSample(3)
    sample.update(torch.ones(2, 2))
    with pytest.raises(DataError, match=r"widths \[2\]"):
        sample.update(torch.ones(2, 3))
    with pytest.raises(ConfigError, match="capacity"):
        RowSample(0)
