"""The readings of a run while it trains, on samples that stay the same throughout."""

from dataclasses import dataclass

import torch

from offdiag._checks import TrainingError
from offdiag._types import Covariance
from offdiag.data.data import Data
from offdiag.data.dataset import Dataset, Source, in_order
from offdiag.data.nest import joined
from offdiag.data.samples import Graph, Samples
from offdiag.diagnostics.head_matrix import head_matrix
from offdiag.diagnostics.readings import read_head, read_part
from offdiag.diagnostics.spectrum import second_moment
from offdiag.diagnostics.weights import off_diagonal_norm
from offdiag.evaluation.features import extract
from offdiag.evaluation.protocol import knn_accuracies
from offdiag.methods.method import AbstractMethod
from offdiag.results.history import HeadMatrices, Row
from offdiag.runs.memory import peak_memory_gib
from offdiag.training.fit import LoopMetrics

PROBE_IMAGES = 2_048
KNN_STORED = 10_000
KNN_QUERIES = 2_000
IN_MEMORY = (Dataset, Samples, Graph)


class Observer:
    """Reads a method on up to 2,048 unaugmented training samples, spread evenly over the set.

    kNN, where there are labels, stores up to 10,000 and asks up to 2,000 of the
    evaluation samples, spread likewise: a reading, not the final evaluation. The
    network is in evaluation mode and in full precision.
    """

    def __init__(self, data: Data) -> None:
        self.whole = data.whole
        self.probe = spread_sample(data.pretrain, PROBE_IMAGES)
        self.stored = self.queries = None
        if data.train is not None and data.test is not None:
            self.stored = spread_sample(data.train, KNN_STORED)
            self.queries = spread_sample(data.test, KNN_QUERIES)

    def read(self, method: AbstractMethod, metrics: LoopMetrics, *, images_per_step: int) -> Row:
        """One row of the run's history; TrainingError if the embeddings are not finite."""
        probe = extract(method, self.probe, whole=self.whole)
        if not (probe.features.isfinite().all() and probe.prediction.isfinite().all()):
            raise TrainingError(
                f"the embeddings are not finite at step {metrics.step}: try a smaller learning "
                "rate or a longer warm-up. The last good checkpoint is kept."
            )
        knn = None
        if self.stored is not None and self.queries is not None:
            stored = extract(method, self.stored, whole=self.whole)
            queries = extract(method, self.queries, whole=self.whole)
            knn = knn_accuracies(stored, queries)
        matrix = None if method.head is None else head_matrix(method.head)
        return Row(
            step=metrics.step,
            epoch=metrics.epoch,
            seconds=metrics.seconds,
            loss=metrics.loss,
            learning_rate=metrics.learning_rate,
            head_learning_rate=metrics.head_learning_rate,
            images_per_second=metrics.steps_per_second * images_per_step,
            waiting_share=metrics.waiting_share,
            terms=metrics.terms,
            peak_memory_gib=peak_memory_gib(probe.projection.device),
            features=read_part(probe.features),
            projection=read_part(probe.projection),
            prediction=None if method.head is None else read_part(probe.prediction),
            head=None
            if matrix is None
            else read_head(matrix, second_moment(probe.projection.to(matrix.device))),
            knn=knn,
        )


@dataclass
class HeadSnapshots:
    """The head's matrix at the start, at its largest off-diagonal norm so far, and now."""

    start: Covariance
    peak: Covariance
    end: Covariance
    peak_epoch: float = 0.0
    end_epoch: float = 0.0

    @classmethod
    def of(cls, matrix: Covariance) -> "HeadSnapshots":
        """All three are the matrix at the start."""
        matrix = matrix.cpu()
        return cls(start=matrix, peak=matrix, end=matrix)

    def take(self, matrix: Covariance, *, epoch: float) -> None:
        """Move the end, and the peak if this is higher."""
        self.end, self.end_epoch = matrix.cpu(), epoch
        if off_diagonal_norm(self.end) > off_diagonal_norm(self.peak):
            self.peak, self.peak_epoch = self.end, epoch

    def result(self) -> HeadMatrices:
        return HeadMatrices(
            start=self.start.numpy(),
            peak=self.peak.numpy(),
            end=self.end.numpy(),
            peak_epoch=self.peak_epoch,
            end_epoch=self.end_epoch,
        )


def spread_sample(source: Source, most: int) -> Source:
    """At most `most` samples, spread evenly over the source, held in memory."""
    rows = torch.linspace(0, len(source) - 1, min(most, len(source))).round().long()
    part = source.subset(rows)
    if isinstance(part, IN_MEMORY):
        return part
    pieces = list(in_order(part))
    labels = [classes for _, classes in pieces if classes is not None]
    return Samples(
        joined([samples for samples, _ in pieces]),
        labels=torch.cat(labels) if labels else None,
        classes=source.classes,
        name=source.name,
    )
