"""Samples of any kind as values: tensors in memory, a torch Dataset, the nodes of a graph."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset
from torch.utils.data import Dataset as TorchDataset

from offdiag._checks import DataError
from offdiag._types import Labels
from offdiag.data import nest
from offdiag.data.dataset import Rows, Source


class Samples(Source):
    """Samples in memory: a tensor of any shape, or tuples and dicts of tensors.

    The first axis counts the samples: signals (samples, channels, time), tokens (samples,
    tokens, dim), images of any depth, (observation, action, next observation). Arrays of NumPy
    become tensors. `labels` are counted from 0; without them there is no evaluation.
    """

    def __init__(
        self,
        values: Any,
        *,
        labels: Any = None,
        classes: Sequence[str] = (),
        name: str = "samples",
    ) -> None:
        self.values = nest.tensors(values)
        self.name = name
        self.labels = checked_labels(labels, nest.count(self.values))
        self.classes = named_classes(self.labels, classes)
        self.skipped: tuple[str, ...] = ()

    @property
    def shape(self) -> Any:
        """The shape of one sample."""
        return nest.shapes(self.values)

    def __len__(self) -> int:
        return nest.count(self.values)

    def to(self, device: torch.device | str) -> "Samples":
        labels = None if self.labels is None else self.labels.to(device)
        return self._like(nest.moved(self.values, device), labels)

    def subset(self, rows: Rows) -> "Samples":
        ((values, labels),) = self.read([rows])
        return self._like(values, labels)

    def read(self, batches: Iterable[Rows]) -> Iterator[tuple[Any, Labels | None]]:
        for rows in batches:
            yield self._chosen(self.values, rows), self._chosen(self.labels, rows)

    def _chosen(self, values: Any, rows: Rows) -> Any:
        return nest.mapped(
            lambda leaf: None if leaf is None else leaf[rows.to(leaf.device, non_blocking=True)],
            values,
        )

    def _like(self, values: Any, labels: Labels | None) -> "Samples":
        return Samples(values, labels=labels, classes=self.classes, name=self.name)


class GraphBatch(NamedTuple):
    """A whole graph and the nodes that are this batch's samples: an encoder gives a row for each.

    `edges` are pairs (from, to) of node numbers, one a column.
    """

    nodes: Float[Tensor, "nodes inputs"]
    edges: Int[Tensor, "2 edges"]
    rows: Rows

    def part(self, rows: slice) -> "GraphBatch":
        """The same graph with a part of the samples."""
        return self._replace(rows=self.rows[rows])


@dataclass(frozen=True, kw_only=True)
class Graph(Source):
    """The nodes of one graph as samples; every batch is the whole graph with some of its nodes.

    `rows` are the nodes that this source is about, by default all; `labels` are those of `rows`.
    With a batch size of `len(graph)` each step sees all of them.
    """

    nodes: Float[Tensor, "nodes inputs"]
    edges: Int[Tensor, "2 edges"]
    rows: Rows | None = None
    labels: Labels | None = None
    classes: tuple[str, ...] = ()
    name: str = "graph"
    skipped: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.edges.numel() and int(self.edges.max()) >= len(self.nodes):
            raise DataError(
                f"an edge leads to node {int(self.edges.max())}, and there are {len(self.nodes)}: "
                "count the nodes from 0."
            )
        labels = checked_labels(self.labels, len(self))
        object.__setattr__(self, "labels", labels)
        object.__setattr__(self, "classes", named_classes(labels, self.classes))

    @property
    def shape(self) -> Any:
        """The shape of one node's input."""
        return tuple(self.nodes.shape[1:])

    def __len__(self) -> int:
        return len(self.nodes) if self.rows is None else len(self.rows)

    def to(self, device: torch.device | str) -> "Graph":
        return replace(
            self,
            nodes=self.nodes.to(device),
            edges=self.edges.to(device),
            rows=None if self.rows is None else self.rows.to(device),
            labels=None if self.labels is None else self.labels.to(device),
        )

    def subset(self, rows: Rows) -> "Graph":
        ((batch, labels),) = self.read([rows])
        return replace(self, rows=batch.rows, labels=labels)

    def read(self, batches: Iterable[Rows]) -> Iterator[tuple[GraphBatch, Labels | None]]:
        for rows in batches:
            rows = rows.to(self.nodes.device)
            labels = None if self.labels is None else self.labels[rows]
            own = rows if self.rows is None else self.rows[rows]
            yield GraphBatch(self.nodes, self.edges, own), labels


class TorchSource(Source):
    """A torch Dataset whose items are samples, or pairs (sample, label) with `labelled`.

    An item must be the same at each reading: random augmentation belongs into the views of the
    data, which are drawn from seed and step. A DataLoader lends its Dataset, its `collate_fn`
    and its workers; the order is ours. The labels are read once, at the start.
    """

    def __init__(
        self,
        dataset: Any,
        *,
        labelled: bool = False,
        classes: Sequence[str] = (),
        name: str = "samples",
        device: torch.device | str = "cpu",
    ) -> None:
        loader = dataset if isinstance(dataset, DataLoader) else None
        self.dataset: Any = dataset if loader is None else loader.dataset
        if isinstance(self.dataset, IterableDataset):
            raise DataError(
                "an IterableDataset cannot be asked for a sample by its number, which a run that "
                "can be resumed needs: give a Dataset with __getitem__, or use offdiag.fit."
            )
        self.collate = None if loader is None else loader.collate_fn
        self.workers = 0 if loader is None else loader.num_workers
        self.labelled, self.name, self.device = labelled, name, torch.device(device)
        self.skipped: tuple[str, ...] = ()
        self.labels: Labels | None = None
        if labelled:
            every = torch.split(torch.arange(len(self)), 512)
            found = [batch[1] for batch in self._batches(every)]
            self.labels = checked_labels(torch.cat(found), len(self))
        self.classes = named_classes(self.labels, classes)

    @property
    def shape(self) -> Any:
        """The shape of one sample."""
        ((values, _),) = self.read([torch.zeros(1, dtype=torch.long)])
        return nest.shapes(values)

    def __len__(self) -> int:
        return len(self.dataset)

    def to(self, device: torch.device | str) -> "TorchSource":
        return self._like(self.dataset, self.labels, device)

    def subset(self, rows: Rows) -> "TorchSource":
        labels = None if self.labels is None else self.labels[rows.cpu()]
        part = torch.utils.data.Subset(self.dataset, rows.tolist())
        return self._like(part, labels, self.device)

    def read(self, batches: Iterable[Rows]) -> Iterator[tuple[Any, Labels | None]]:
        for batch in self._batches(batches):
            values, labels = batch if self.labelled else (batch, None)
            yield nest.moved(nest.tensors(values), self.device), nest.moved(labels, self.device)

    def _batches(self, batches: Iterable[Rows]) -> Iterator[Any]:
        return iter(
            DataLoader(
                self.dataset,
                batch_sampler=_Asked(batches),
                collate_fn=self.collate,
                num_workers=self.workers,
            )
        )

    def _like(
        self, dataset: TorchDataset[Any], labels: Labels | None, device: torch.device | str
    ) -> "TorchSource":
        other = TorchSource(dataset, classes=self.classes, name=self.name, device=device)
        other.collate, other.workers = self.collate, self.workers
        other.labelled, other.labels, other.classes = self.labelled, labels, self.classes
        return other


class _Asked:
    """The rows that are asked for, as torch's loader takes them."""

    def __init__(self, batches: Iterable[Rows]) -> None:
        self.batches = batches

    def __iter__(self) -> Iterator[list[int]]:
        return (rows.tolist() for rows in self.batches)


def checked_labels(labels: Any, samples: int) -> Labels | None:
    """Labels as int64, one a sample; DataError otherwise."""
    if labels is None:
        return None
    found = torch.as_tensor(labels)
    if found.ndim != 1 or len(found) != samples or found.is_floating_point():
        raise DataError(
            f"labels must be {samples} whole numbers, one a sample; got {found.dtype} of shape "
            f"{tuple(found.shape)}."
        )
    found = found.long()
    if len(found) and int(found.min()) < 0:
        raise DataError("labels must be counted from 0; got a negative one.")
    return found


def named_classes(labels: Labels | None, names: Sequence[str]) -> tuple[str, ...]:
    """The names of the classes; numbers where none are given."""
    if labels is None or not len(labels):
        return tuple(names)
    classes = int(labels.max()) + 1
    if names and len(names) < classes:
        raise DataError(f"the labels are of {classes} classes, and {len(names)} names are given.")
    return tuple(names) or tuple(map(str, range(classes)))
