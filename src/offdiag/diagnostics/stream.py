"""What the parts of a model give during one reading, and the readings of it."""

from collections.abc import Mapping
from dataclasses import replace

import torch

from offdiag._types import Covariance, Embeddings
from offdiag.diagnostics.moments import Moments
from offdiag.diagnostics.readings import read_head, read_part, readings_of
from offdiag.diagnostics.sample import RowSample
from offdiag.results.readings import HeadReadings, Readings


class Stream:
    """What one part gives: sums, a bounded sample of rows, and the views at hand."""

    def __init__(self, rows: Embeddings, *, capacity: int, seed: int) -> None:
        # Metal has no float64.
        device = torch.device("cpu") if rows.device.type == "mps" else rows.device
        self.moments = Moments(rows.shape[1], device=device)
        self.sample = RowSample(capacity, seed=seed)
        self.bytes = 0
        self._batch = -1
        self._views: list[Embeddings] = []

    def see(self, rows: Embeddings, batch: int) -> None:
        """The next call's rows. A width other than the first one's is not this part's output."""
        if batch != self._batch:
            self.close()
            self._batch = batch
        if len(self._views) < 2 and rows.shape[1] == self.moments.dim:
            self._views.append(rows)

    def close(self) -> None:
        """Move the views at hand into the sums; what is not a pair where pairs were is left out."""
        views, self._views = self._views, []
        if len(views) == 2 and len(views[0]) != len(views[1]):
            views = views[:1]
        before = len(self.sample.rows)
        if not views or len(views) < before:
            return
        views = views[: before or 2]
        for view in views:
            self.moments.update(view)
        self.sample.update(*views)
        held = 4 * self.moments.dim * (sum(len(rows) for rows in (*views, *self.sample.rows)))
        self.bytes = max(self.bytes, held + 24 * self.moments.dim**2)


def read_stream(moments: Moments, views: tuple[Embeddings, ...]) -> Readings:
    """The readings of a stream; the same in a tenth of the time where all of few rows are kept."""
    whole = torch.cat(views)
    if not len(whole) == moments.count < moments.dim or not whole.isfinite().all():
        return readings_of(moments, *views)
    paired = read_part(*views)
    return replace(
        read_part(whole),
        std=paired.std,
        uniformity=paired.uniformity,
        alignment=paired.alignment,
        lidar=paired.lidar,
    )


def read_predictor(head: Covariance, moments: Mapping[str, Moments]) -> HeadReadings:
    """The head is given the projection, or the features where there is no projector."""
    given = moments.get("projector", moments.get("encoder"))
    if given is None or given.dim != len(head):
        return read_head(head.double())
    return read_head(head.double(), given.second_moment())
