"""What every method is: two views in, a loss and its embeddings out, and a hook after the step."""

from abc import ABC, abstractmethod
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase

from offdiag._types import Embeddings, Scalar, View
from offdiag.encoders import Encoder


class Output(NamedTuple):
    """One step's loss, with gradient, and the embeddings of both views that it was made of.

    Each pair is (view a, view b). `prediction` equals `projection` where a method
    has no head. A tuple, because Fabric and DDP look for tensors in what comes out.
    """

    loss: Scalar
    features: tuple[Embeddings, Embeddings]
    projection: tuple[Embeddings, Embeddings]
    prediction: tuple[Embeddings, Embeddings]


class AbstractMethod(nn.Module, ABC):
    """A method owns `encoder`, `projector` and `head`, and says how they make a loss.

    Implement `forward`; override `after_step` if something moves besides the
    optimiser. Weights that the optimiser must not see have requires_grad False.
    """

    encoder: Encoder
    projector: nn.Module
    head: nn.Module

    @abstractmethod
    def forward(self, view_a: View, view_b: View) -> Output:
        """The symmetrised loss of two views of the same images."""

    def after_step(self, progress: float) -> None:  # noqa: B027 - most methods move nothing
        """Called after each optimiser step; `progress` runs from 0 to 1 over training."""

    def embed_views(
        self, view_a: View, view_b: View
    ) -> tuple[tuple[Tensor, Tensor, Tensor], tuple[Tensor, Tensor, Tensor]]:
        """`embed` of both views.

        One view after the other, so that every BatchNorm normalises each view by its own
        statistics. An encoder without BatchNorm (a ViT, a net with GroupNorm) gives each
        image the same features whatever stands beside it, and takes both views at once. A
        layer of your own that mixes the images of a batch says so: `mixes_images = True`.
        """
        if view_a.shape != view_b.shape or _mixes_images(self.encoder):
            return self.embed(view_a), self.embed(view_b)
        both = self.encoder(torch.cat((view_a, view_b)))
        h_a, h_b = both.split(len(view_a))
        z_a, z_b = self.projector(h_a), self.projector(h_b)
        return (h_a, z_a, self.head(z_a)), (h_b, z_b, self.head(z_b))

    def embed(self, images: View) -> tuple[Tensor, Tensor, Tensor]:
        """(features, projection, prediction) of images, in the module's present mode."""
        features = self.encoder(images)
        projection = self.projector(features)
        return features, projection, self.head(projection)


def _mixes_images(part: nn.Module) -> bool:
    return any(
        isinstance(module, _NormBase) or getattr(module, "mixes_images", False)
        for module in part.modules()
    )
