"""The readings of a part or a head, gathered from the formulas beside this file."""

import math
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

from offdiag._checks import DataError
from offdiag._types import Covariance, Eigenvalues, Embeddings
from offdiag.diagnostics import spectrum as spectral
from offdiag.diagnostics.catalogue import Of, Pairs, Rows, Spectrum, measured
from offdiag.diagnostics.moments import Moments
from offdiag.diagnostics.noise import wishart_eigenvalues
from offdiag.diagnostics.sample import SAMPLE_ROWS, RowSample
from offdiag.results.readings import HeadReadings, Readings

KEPT_EIGENVALUES = 256
ROWS_AT_ONCE = 8192
NAMED_ROWS = 5


@torch.no_grad()
def read_part(view_a: Tensor, view_b: Tensor | None = None) -> Readings:
    """All readings of one part's output, embeddings of shape (batch, dim), any float type.

    `view_b` holds the same images in the same order under another augmentation; without it
    alignment and LiDAR are nan. All else is read from `view_a`. Uniformity and LiDAR take
    at most 1,024 rows, drawn with a fixed seed. Constant embeddings, or a single row, have no
    spectrum: what needs one is nan. Fewer rows than dimensions leave directions without
    variance. DataError if the embeddings are not a float matrix or not finite. Takes the memory
    of about two float64 copies: for more rows than that, use `readings_of`.

    >>> line = torch.randn(100, 1, generator=torch.Generator().manual_seed(0)) * torch.ones(8)
    >>> readings = read_part(line)
    >>> round(readings.effective_rank, 3), readings.condition_number, readings.lidar
    (1.0, inf, nan)
    """
    z = checked(view_a, "the embeddings")
    if view_b is not None and checked(view_b, "the second view").shape != z.shape:
        raise DataError(
            f"two views need the same shape; got {tuple(z.shape)} and {tuple(view_b.shape)}."
        )
    rows, dim = z.shape
    if rows < dim:
        centred, whole, mean = _eigenvalues_of_few(z)
    else:
        moments = Moments(dim, device=z.device)
        for start in range(0, rows, ROWS_AT_ONCE):
            moments.update(z[start : start + ROWS_AT_ONCE])
        centred, whole, mean = _eigenvalues(moments)
    return Readings(
        dim=dim,
        rows=rows,
        **_spectral(centred, whole, mean, rows=rows),
        **_of_rows(z, view_b, few=_few(z, view_b)),
    )


@torch.no_grad()
def readings_of(
    moments: Moments, sample_a: Embeddings | None = None, sample_b: Embeddings | None = None
) -> Readings:
    """Readings of a stream: of the spectrum and the mean from `moments`, the rest from a sample.

    `sample_a` and `sample_b` are two views of the same images, as `RowSample.rows` gives them:
    without them std and uniformity, or alignment and LiDAR, are nan. What is not finite reads
    as nan and raises nothing: a training run goes on.
    """
    centred, whole, mean = _eigenvalues(moments)
    sampled = {}
    if sample_a is not None:
        # A sample's rows are in the order of their keys, so that its first rows are the sample that
        # `read_part` draws: a file and a function agree.
        few = tuple(one[:SAMPLE_ROWS] for one in (sample_a, sample_b) if one is not None)
        sampled = _of_rows(sample_a, sample_b, few=few)
    return Readings(
        dim=moments.dim,
        rows=moments.count,
        **_spectral(centred, whole, mean, rows=moments.count),
        **sampled,
    )


@lru_cache(maxsize=128)
@torch.no_grad()
def noise_readings(rows: int, dim: int, *, views: int = 1, seed: int = 0) -> Readings:
    """Readings of independent standard Gaussian noise of shape (rows, dim); kept once computed.

    The spectra are drawn exactly, from the Wishart distribution and without the rows, so a
    million rows cost what dim of them do; the centred one, the uncentred one and the mean are
    separate draws. Std, uniformity and, with two views (independent of each other: they share
    nothing), alignment and LiDAR come from at most 1,024 rows that are drawn.
    """
    if rows < 1 or dim < 1:
        raise DataError(f"noise needs at least one row and one dimension; got ({rows}, {dim}).")
    centred = wishart_eigenvalues(rows - 1, dim, seed=seed) / rows
    whole = wishart_eigenvalues(rows, dim, seed=seed + 1) / rows
    draw = torch.Generator().manual_seed(seed)
    drawn = [torch.randn(min(rows, SAMPLE_ROWS), dim, generator=draw) for _ in range(views)]
    mean = torch.randn(dim, generator=draw, dtype=torch.float64) / math.sqrt(rows)
    return Readings(
        dim=dim,
        rows=rows,
        **_spectral(centred, whole, mean, rows=rows),
        **_of_rows(drawn[0], drawn[1] if views > 1 else None, few=tuple(drawn)),
    )


@torch.no_grad()
def read_head(weight: Covariance, second_moment: Covariance | None = None) -> HeadReadings:
    """All readings of a head's matrix; those that ask what it is given need the second moment.

    `second_moment` is that of the embeddings that enter the head, not centred.
    """
    if not weight.isfinite().all():
        return HeadReadings()
    readings = measured(Of.HEAD, weight)
    if second_moment is not None:
        readings |= measured(Of.HEAD_AND_INPUT, weight, second_moment.to(weight.device))
    return HeadReadings(**readings)


def checked(embeddings: Tensor, what: str) -> Tensor:
    """The embeddings if they are a finite float matrix with rows; otherwise say what they are."""
    if embeddings.ndim != 2 or 0 in embeddings.shape:
        raise DataError(
            f"{what} must have shape (rows, dim), both at least 1; got {tuple(embeddings.shape)}. "
            "Flatten or pool what comes between."
        )
    if not embeddings.is_floating_point():
        raise DataError(
            f"{what} must be floating-point numbers; got {embeddings.dtype}. If they are "
            "embeddings and not labels or codes, convert them with .float()."
        )
    bad = ~embeddings.isfinite()
    if bad.any():
        rows = bad.any(1).nonzero()[:, 0]
        named = ", ".join(str(row) for row in rows[:NAMED_ROWS].tolist())
        more = f" and {len(rows) - NAMED_ROWS} more" if len(rows) > NAMED_ROWS else ""
        raise DataError(
            f"{what} must be finite; {int(bad.sum())} of {bad.numel()} values are nan or inf, in "
            f"rows {named}{more} (counted from 0). Leave those rows out, or find what made them."
        )
    return embeddings


def _eigenvalues(moments: Moments) -> tuple[Eigenvalues, Eigenvalues, Eigenvalues]:
    """Of the centred covariance and of the second moment, and the mean."""
    # Two decompositions, not one: no formula takes the spectrum from centred to uncentred
    # without the eigenvectors, and those cost more than a second set of eigenvalues.
    centred = spectral.eigenvalues(moments.covariance())
    return centred, spectral.eigenvalues(moments.second_moment()), moments.mean


def _eigenvalues_of_few(z: Embeddings) -> tuple[Eigenvalues, Eigenvalues, Eigenvalues]:
    """The same where there are fewer rows than dimensions, from products of rows with rows."""
    z = z.double()
    mean = z[0] + (z - z[0]).mean(0)
    shifted = z - z[0]
    shifted = shifted - shifted.mean(0)
    centred, whole = (
        torch.nn.functional.pad(
            spectral.eigenvalues(rows @ rows.T / len(z)), (0, z.shape[1] - len(z))
        )
        for rows in (shifted, z)
    )
    return centred, whole, mean


def _spectral(
    centred: Eigenvalues, whole: Eigenvalues, mean: Eigenvalues, *, rows: int
) -> dict[str, Any]:
    shares = spectral.spectrum(centred)
    sums = Spectrum(shares=shares, centred=centred, second_moment=whole, mean=mean, rows=rows)
    return measured(Of.SPECTRUM, sums) | {"spectrum": tuple(shares[:KEPT_EIGENVALUES].tolist())}


def _few(view_a: Embeddings, view_b: Embeddings | None) -> tuple[Tensor, ...]:
    """At most 1,024 rows of each view, drawn with a fixed seed."""
    views = (view_a,) if view_b is None else (view_a, view_b)
    if len(view_a) <= SAMPLE_ROWS:
        return views
    sample = RowSample(SAMPLE_ROWS)
    sample.update(*views)
    return sample.rows


def _of_rows(
    view_a: Embeddings, view_b: Embeddings | None, *, few: tuple[Tensor, ...]
) -> dict[str, Any]:
    readings = measured(Of.ROWS, Rows(rows=view_a, few=few[0]))
    if view_b is not None:
        pairs = Pairs(view_a=view_a, view_b=view_b, few=torch.stack(few, 1))
        readings |= measured(Of.PAIRS, pairs)
    return readings
