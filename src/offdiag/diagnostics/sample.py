"""A bounded, uniform sample of the rows of a stream."""

import torch
from jaxtyping import Float
from torch import Tensor

from offdiag._checks import DataError, at_least

SAMPLE_ROWS = 1024
"""How many rows the readings that compare rows with rows take: uniformity and LiDAR."""


class RowSample:
    """Keeps `capacity` rows of all that went by, each equally likely to be among them.

    Each row draws a random key, and the smallest keys stay: the sample depends on the seed and on
    the order of the rows, not on how they are batched. Memory: capacity * dim numbers a view,
    where and as the rows came. The order of the rows kept is random.

    >>> sample = RowSample(3)
    >>> for start in range(0, 1000, 100):
    ...     view = torch.arange(start, start + 100.0)[:, None]
    ...     sample.update(view, -view)
    >>> a, b = sample.rows
    >>> sample.seen, a.shape, bool((a == -b).all())
    (1000, torch.Size([3, 1]), True)
    """

    def __init__(self, capacity: int = SAMPLE_ROWS, seed: int = 0) -> None:
        at_least("the capacity of a sample of rows", capacity, 1)
        self.capacity = capacity
        self.seen = 0
        self._generator = torch.Generator().manual_seed(seed)
        self._keys = torch.empty(0, dtype=torch.float64)
        self._rows: tuple[Tensor, ...] = ()

    @torch.no_grad()
    def update(self, *views: Float[Tensor, "_ _"]) -> None:
        """Show the next rows, shape (batch, dim); row i of every view is kept, or not, together.

        The views may differ in width.
        """
        shapes = [tuple(view.shape) for view in views]
        if not views or any(shape[0] != shapes[0][0] for shape in shapes):
            raise DataError(
                f"a sample of rows needs views with the same number of rows; got shapes {shapes}."
            )
        if self._rows and [kept.shape[1] for kept in self._rows] != [s[1] for s in shapes]:
            raise DataError(
                f"this sample holds views of widths {[kept.shape[1] for kept in self._rows]}; got "
                f"shapes {shapes}. Use one sample for each part that is read."
            )
        batch, held = shapes[0][0], len(self._keys)
        self.seen += batch
        keys = torch.rand(batch, generator=self._generator, dtype=torch.float64)
        keys, order = torch.cat((self._keys, keys)).sort(stable=True)
        order = order[: self.capacity]
        old, new = order < held, order >= held
        if self._rows and not new.any():
            return
        self._keys = keys[: self.capacity]
        kept = self._rows or tuple(view[:0] for view in views)
        self._rows = tuple(
            _picked(before, view.detach(), order, old, held)
            for before, view in zip(kept, views, strict=True)
        )

    @property
    def rows(self) -> tuple[Tensor, ...]:
        """The rows kept, one tensor (rows, dim) a view; empty before the first update."""
        return self._rows


def _picked(before: Tensor, view: Tensor, order: Tensor, old: Tensor, held: int) -> Tensor:
    rows = view.new_empty(len(order), view.shape[1])
    rows[old.to(view.device)] = before[order[old].to(before.device)].to(view)
    rows[~old.to(view.device)] = view[(order[~old] - held).to(view.device)]
    return rows
