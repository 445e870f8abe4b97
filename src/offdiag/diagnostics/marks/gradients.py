"""Marks of gradients: whether one reaches the target, and whether the loss only pulls together."""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import normalize
from torch.utils.hooks import RemovableHandle

from offdiag.results.readings import NAN

MOST_NODES = 5_000
"""Nodes of the graph that are looked through for the ones that a predictor begins with."""
SLIGHT = 1e-12


class Flow:
    """The gradient at a tensor, in all and through one module that takes it.

    Reads with hooks on tensors and on nodes of the graph that autograd has built: nothing is added
    to the graph, so that the sums of training stay in their order.
    """

    def __init__(self, given: Tensor, made: Tensor | None) -> None:
        self.given = given
        self.at = given.detach()
        self.made = None if made is None else made.detach()
        self.total: Tensor | None = None
        self.through: Tensor | None = None
        self.handles: list[RemovableHandle] = []
        if given.requires_grad:
            handle = given.register_hook(self._add_total)  # type: ignore[no-untyped-call]
            self.handles.append(handle)
        if made is not None and given.grad_fn is not None and made.grad_fn is not None:
            for node, place in _consumers(made.grad_fn, given.grad_fn, given.output_nr):
                self.handles.append(node.register_hook(_AddThrough(self, place)))

    def _add_total(self, gradient: Tensor) -> None:
        gradient = gradient.detach()
        self.total = gradient.clone() if self.total is None else self.total + gradient

    def share_elsewhere(self) -> float:
        """|gradient that does not come through the module| / |gradient|, in [0, 2] or so."""
        rest = self.elsewhere()
        if rest is None or self.total is None:
            return NAN
        size = self.total.float().norm()
        return float(rest.norm() / size) if size > 0 else NAN

    def elsewhere(self) -> Tensor | None:
        """The gradient that does not come through the module; None where none came at all."""
        if self.total is None or self.through is None:
            return None
        return self.total.float() - self.through.float()


class _AddThrough:
    def __init__(self, flow: Flow, place: int) -> None:
        self.flow, self.place = flow, place

    def __call__(self, given: tuple[Tensor | None, ...], _: Any) -> None:
        gradient = given[self.place] if self.place < len(given) else None
        if gradient is None:
            return
        gradient = gradient.detach()
        flow = self.flow
        flow.through = gradient.clone() if flow.through is None else flow.through + gradient


def comes_from(made: Tensor, sources: list[Tensor]) -> list[bool]:
    """Which of the sources a tensor was computed from, by the graph of its gradient."""
    wanted = {source.grad_fn for source in sources if source.grad_fn is not None}
    waiting, seen = [made.grad_fn], {made.grad_fn}
    while waiting and len(seen) < MOST_NODES:
        node = waiting.pop()
        if node is None or node in wanted:
            continue  # what lies behind a source is not looked at
        for following, _ in node.next_functions:
            if following is not None and following not in seen:
                seen.add(following)
                waiting.append(following)
    return [source is made or source.grad_fn in seen for source in sources]


def _consumers(top: Any, source: Any, place: int) -> Iterator[tuple[Any, int]]:
    """The nodes between `top` and `source` that take the source's output, and at which input."""
    waiting, seen = [top], {top}
    while waiting and len(seen) < MOST_NODES:
        node = waiting.pop()
        for i, (following, output) in enumerate(node.next_functions):
            if following is None:
                continue
            if following is source and output == place:
                yield node, i
            elif following not in seen and following is not source:
                seen.add(following)
                waiting.append(following)


@torch.no_grad()
def pull(force: Tensor, rows: Tensor, partner: Tensor) -> float:
    """How purely a force draws rows to their partners, in [-1, 1]; 1: it does nothing else.

    `force` is minus the gradient at `rows`. The direction of pure attraction depends on the
    loss: of the squared distance it is partner - row, of the cosine its part that turns the row,
    after batch normalisation that of each column. The mean cosine with each is taken over rows, or
    columns, and the largest counts. A loss with a term that spreads rows out stays below.
    """
    force, rows, partner = force.float(), rows.float(), partner.float()
    if force.shape != rows.shape or rows.shape != partner.shape or len(rows) < 2:
        return NAN
    directions = [partner - rows]
    unit, other = normalize(rows), normalize(partner)
    directions.append(other - (other * unit).sum(1, keepdim=True) * unit)
    found = [_mean_cosine(force, direction, 1) for direction in directions]
    z, p = (_standardised(side) for side in (rows, partner))
    column = p - p.mean(0) - z * (p * z).mean(0)
    found.append(_mean_cosine(force, column, 0))
    finite = [value for value in found if value == value]
    return max(finite) if finite else NAN


@torch.no_grad()
def spreading(force: Tensor, rows: Tensor) -> float:
    """The share of a force that moves rows away from their mean, in [-1, 1]: below 0 it shrinks."""
    centred = rows.float() - rows.float().mean(0)
    force = force.float()
    size = force.norm() * centred.norm()
    return float((force * centred).sum() / size) if size > 0 else NAN


def _standardised(rows: Tensor) -> Tensor:
    return (rows - rows.mean(0)) / rows.std(0, unbiased=False).clamp_min(1e-6)


def _mean_cosine(force: Tensor, direction: Tensor, axis: int) -> float:
    """Weighted by the force, so that rows that feel none do not count."""
    weight, length = force.norm(dim=axis), direction.norm(dim=axis)
    felt = (weight > SLIGHT * weight.max()) & (length > SLIGHT)
    if not felt.any():
        return NAN
    cosine = (force * direction).sum(axis)[felt] / (weight * length)[felt]
    return float((cosine * weight[felt]).sum() / weight[felt].sum())
