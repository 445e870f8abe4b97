"""One array of embeddings to its readings, in one pass and bounded memory, with what is odd in it.

The rows are read once; sums are kept of all of them and the rows themselves of a sample.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from offdiag._checks import DataError
from offdiag._types import Embeddings
from offdiag.diagnostics.moments import Moments
from offdiag.diagnostics.readings import read_part, readings_of
from offdiag.diagnostics.sample import RowSample
from offdiag.embeddings.reader import EmbeddingArray, rows_for
from offdiag.results.readings import NAN, Readings

SAMPLE_ROWS, SAMPLE_BYTES = 10_000, 2**28
"""Rows kept for what needs rows (std, uniformity, alignment, LiDAR, neighbours), for each view."""
LEAST_SAMPLE = 1_024
MOST_DIM = 8_192
"""Widest covariance that is kept: 0.5 GiB in float64, and its spectrum takes minutes."""
MOST_VALUES = 2**26
"""Most numbers that are read as a whole, where there are fewer rows than dimensions: about 2 GiB
with the copies in float64."""
POSITION_REMARK, POSITION_ONLY = 0.5, 0.99
"""Shares of the tokens' variance between positions: worth a remark, and no token depends on the
image."""
WIDTHS = (32, 128)
"""Widths of networks are multiples of the first; numbers of images seldom are of the second."""
DUPLICATES = 0.01
"""Duplicate rows are worth a remark from this share on."""


@dataclass(frozen=True, kw_only=True)
class ReadArray:
    """One array's readings, and the rows that were kept of it with their places.

    `by_position` is the share of the variance of tokens that lies between their positions, in
    [0, 1]; nan where a row is an image.
    """

    readings: Readings
    rows: Embeddings
    places: Int[Tensor, " rows"]
    notes: tuple[str, ...]
    by_position: float = NAN


def read_array(array: EmbeddingArray, other: EmbeddingArray | None = None) -> ReadArray:
    """The readings of an array and of its second view, if there is one; DataError if too wide."""
    if array.rows <= array.dim:
        return _read_few(array, other)
    if array.dim > MOST_DIM:
        raise DataError(
            f"{array.where} is {array.dim:,} wide, and its covariance is kept up to {MOST_DIM:,}: "
            "give a random choice of its columns, or pool it."
        )
    capacity = min(max(SAMPLE_BYTES // (4 * array.dim), LEAST_SAMPLE), SAMPLE_ROWS)
    moments, sample = Moments(array.dim), RowSample(capacity)
    places = RowSample(capacity)  # the same seed: the places of the rows that `sample` keeps
    positions = _Positions(array)
    first, zeros = 0, 0
    rows = rows_for(array.dim)
    streams = [one.chunks(rows) for one in (array, other) if one is not None]
    for pieces in zip(*streams, strict=True):
        piece = pieces[0]
        moments.update(piece)
        sample.update(*pieces)
        positions.update(piece, first)
        numbers = torch.arange(first, first + len(piece), dtype=torch.float64)
        places.update(numbers[:, None])
        zeros += int((piece == 0).all(1).sum())
        first += len(piece)
    variances = moments.covariance().diagonal()
    by_position = positions.share(moments.mean, variances)
    kept = sample.rows[0]
    return ReadArray(
        readings=readings_of(moments, *sample.rows),
        rows=kept,
        places=places.rows[0][:, 0].long(),
        notes=(*_notes(array, variances, zeros, kept), *_position_note(array, by_position)),
        by_position=by_position,
    )


def _read_few(array: EmbeddingArray, other: EmbeddingArray | None) -> ReadArray:
    """Fewer rows than dimensions: all of them at once, by the products of rows with rows."""
    if array.rows * array.dim > MOST_VALUES or array.rows > MOST_DIM:
        raise DataError(
            f"{array.where} has {array.rows:,} rows of width {array.dim:,}, too much to read at "
            "once, which fewer rows than columns need: give a random choice of its columns."
        )
    both = [
        torch.cat(list(one.chunks(rows_for(array.dim))))
        for one in (array, other)
        if one is not None
    ]
    z = both[0]
    readings = read_part(*both)
    variances = z.double().var(0, correction=0)
    positions = _Positions(array)
    positions.update(z, 0)
    by_position = positions.share(z.double().mean(0), variances)
    return ReadArray(
        readings=readings,
        rows=z,
        places=torch.arange(len(z)),
        notes=(
            *rank_bound(array.where, readings),
            *_notes(
                array,
                (z.double() - z[0].double()).square().sum(0),
                int((z == 0).all(1).sum()),
                z,
            ),
            *_position_note(array, by_position),
        ),
        by_position=by_position,
    )


def rank_bound(what: str, readings: Readings) -> tuple[str, ...]:
    """The note that so few rows span few directions, where they are fewer than the dimensions."""
    rows, dim = readings.rows, readings.dim
    if not 0 < rows <= dim:
        return ()
    return (
        f"{what}: {rows:,} rows of width {dim:,} span at most {rows - 1:,} directions, so no rank "
        f"can exceed that, and every rank is too low: give at least {10 * dim:,} rows.",
    )


class _Positions:
    """Sums of the tokens at each position, where a row is a token."""

    def __init__(self, array: EmbeddingArray) -> None:
        self.tokens = array.tokens
        self._sums = torch.zeros(array.tokens, array.dim, dtype=torch.float64)
        self._counts = torch.zeros(array.tokens, dtype=torch.float64)

    def update(self, rows: Embeddings, first: int) -> None:
        if self.tokens < 2:
            return
        places = torch.arange(first, first + len(rows)) % self.tokens
        self._sums.index_add_(0, places, rows.double())
        self._counts += places.bincount(minlength=self.tokens)

    def share(self, mean: Float[Tensor, " dim"], variances: Float[Tensor, " dim"]) -> float:
        """Variance between the positions' means over the variance of all tokens, in [0, 1]."""
        total = float(variances.sum())
        if self.tokens < 2 or not total > 0:
            return NAN
        weights = self._counts / self._counts.sum()
        means = self._sums / self._counts[:, None]
        between = (weights[:, None] * (means - mean).square()).sum()
        return min(float(between) / total, 1.0)


def _position_note(array: EmbeddingArray, share: float) -> tuple[str, ...]:
    if not share > POSITION_REMARK:
        return ()
    return (
        f"{array.where}: {100 * share:.0f}\u00a0% of the tokens' variance lies between positions, "
        "and variance over positions is not variance over images: use the mean over tokens, or "
        "subtract each position's mean.",
    )


def _notes(
    array: EmbeddingArray, variances: Float[Tensor, " dim"], zeros: int, kept: Embeddings
) -> tuple[str, ...]:
    constant = int((variances == 0).sum())
    if constant == array.dim:
        kind = "zero" if zeros == array.rows else "the same"
        return (
            f"{array.where}: all {array.rows:,} rows are {kind}. If the network is not to blame, "
            "see whether the file was ever filled.",
        )
    notes = []
    if constant:
        notes.append(
            f"{array.where}: {constant:,} of {array.dim:,} columns are constant and hold nothing."
        )
    if zeros:
        notes.append(
            f"{array.where}: {zeros:,} of {array.rows:,} rows are all zero: dead units, or rows "
            "that were never filled."
        )
    repeated = len(kept) - len({row.tobytes() for row in kept.numpy()})
    if repeated > max(DUPLICATES * len(kept), zeros):
        of = "rows" if len(kept) == array.rows else "sampled rows"
        notes.append(
            f"{array.where}: {repeated:,} of {len(kept):,} {of} are duplicates of another: the "
            "same images twice, or a loader that repeats them."
        )
    if array.dim > 2 * array.rows and array.rows % WIDTHS[0] == 0 and array.dim % WIDTHS[1]:
        notes.append(
            f"{array.where} is wider than it is long, ({array.rows:,} x {array.dim:,}): if each "
            "column is an image, transpose it."
        )
    return tuple(notes)
