"""What every method is: views in, a loss and its embeddings out, and a hook after the step."""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, NamedTuple, Protocol, runtime_checkable

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase

from offdiag._distributed import whole_batch
from offdiag._types import Embeddings, Scalar

Views = tuple[Embeddings, ...]
"""One tensor of shape (batch, dim) for each view, sample by sample in the same order."""


class Embedded(NamedTuple):
    """What a method saw of a batch, one entry a view.

    `prediction` is None where a method has no head, `target` where it has no target. The target
    is the projection that the loss was compared with, before the target's transform.
    """

    features: Views
    projection: Views
    prediction: Views | None = None
    target: Views | None = None

    def detached(self) -> "Embedded":
        """The same without a gradient."""
        return Embedded(
            features=_detached(self.features),
            projection=_detached(self.projection),
            prediction=None if self.prediction is None else _detached(self.prediction),
            target=None if self.target is None else _detached(self.target),
        )


class Output(NamedTuple):
    """One step's loss with gradient, its terms without, and the embeddings that it was made of.

    `terms` are unweighted and detached; they are logged and drawn as loss/<name>.
    """

    loss: Scalar
    terms: Mapping[str, Scalar]
    embedded: Embedded

    @property
    def features(self) -> Views:
        return self.embedded.features

    @property
    def projection(self) -> Views:
        return self.embedded.projection

    @property
    def prediction(self) -> Views | None:
        return self.embedded.prediction


@runtime_checkable
class Refits(Protocol):
    """A part that no gradient trains: it is set from the embeddings after each step.

    Closed-form heads get the projections of all views, a target's transform the target's. What
    is needed later lies in the part's buffers, so that checkpoints hold it.
    """

    def refit(self, views: Views, *, step: int) -> None: ...


class AbstractMethod(nn.Module, ABC):
    """A method owns `encoder`, `projector` and perhaps a `head`, and makes a loss with them.

    Implement `forward`; override `after_step` if something moves besides the optimiser and
    `refit`. Weights that the optimiser must not see have requires_grad False.
    """

    encoder: nn.Module
    projector: nn.Module
    head: nn.Module | None

    def __init__(self) -> None:
        super().__init__()
        self.head = None

    @abstractmethod
    def forward(self, *views: Any) -> Output:
        """The loss of the views of one batch of samples."""

    @torch.no_grad()
    def after_step(self, embedded: Embedded, *, step: int, steps: int) -> None:
        """Called after optimiser step `step`, counted from 0, of `steps`.

        `embedded` is what `forward` saw at this step, detached. By default every part below
        this method that has `refit` is refitted on the projections.
        """
        for part in self.children():
            refit(part, embedded.projection, step=step)

    def describe(self) -> dict[str, Any]:
        """The method, its parts and its settings in words, for pages and commands."""
        parts = {
            name: type(part).__name__
            for name, part in self.named_children()
            if not name.startswith("target_")
        }
        return {"method": type(self).__name__, **parts}

    def embed(self, images: Any) -> tuple[Tensor, Tensor, Tensor]:
        """(features, projection, prediction) of one view, in the module's present mode.

        Without a head the prediction is the projection.
        """
        features = self.encoder(images)
        projection = self.projector(features)
        return features, projection, projection if self.head is None else self.head(projection)

    def embed_views(self, *views: Any) -> tuple[tuple[Tensor, Tensor, Tensor], ...]:
        """`embed` of each view.

        One view after the other, so that every BatchNorm normalises each view by its own
        statistics. An encoder without BatchNorm (a ViT, a net with GroupNorm) gives each
        sample the same features whatever else is in the batch, and takes all views at once. A
        layer of your own that mixes the samples of a batch says so: `mixes_images = True`.
        """
        shapes = {view.shape if isinstance(view, Tensor) else None for view in views}
        if len(shapes) > 1 or None in shapes or _mixes_images(self.encoder):
            return tuple(self.embed(view) for view in views)
        features = self.encoder(torch.cat(views)).chunk(len(views))
        projections = [self.projector(h) for h in features]
        return tuple(
            (h, z, z if self.head is None else self.head(z))
            for h, z in zip(features, projections, strict=True)
        )


@contextmanager
def exact(views: Views) -> Iterator[tuple[Tensor, ...]]:
    """The rows of all processes in float32 or more, outside autocast: where losses are computed."""
    with torch.autocast(views[0].device.type, enabled=False):
        yield tuple(_at_least_float32(whole_batch(view)) for view in views)


def _at_least_float32(rows: Tensor) -> Tensor:
    return rows if rows.dtype.itemsize >= 4 else rows.float()


def refit(part: nn.Module | None, views: Views, *, step: int) -> None:
    """Refit a part, if it has `refit`, on the rows of all processes."""
    if isinstance(part, Refits):
        part.refit(tuple(whole_batch(view) for view in views), step=step)


def _detached(views: Views) -> Views:
    return tuple(view.detach() for view in views)


def _mixes_images(part: nn.Module) -> bool:
    return any(
        isinstance(module, _NormBase) or getattr(module, "mixes_images", False)
        for module in part.modules()
    )
