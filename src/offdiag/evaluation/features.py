"""Embeddings of whole, unaugmented images by a frozen network."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from offdiag._types import Labels
from offdiag.data.dataset import Source, in_order
from offdiag.data.views import Normalisation
from offdiag.methods.method import AbstractMethod


@dataclass(frozen=True, kw_only=True)
class Features:
    """Outputs of the three parts for the same images, and their labels where there are any."""

    features: Float[Tensor, "batch features"]
    projection: Float[Tensor, "batch proj"]
    prediction: Float[Tensor, "batch proj"]
    labels: Labels | None


@torch.no_grad()
def extract(
    method: AbstractMethod,
    source: Source,
    *,
    normalisation: Normalisation,
    batch_size: int = 512,
) -> Features:
    """Embed every image of `source` once, in its order, without augmentation.

    BatchNorm uses its running statistics; the mode of `method` is put back afterwards.
    """
    training = method.training
    method.eval()
    embedded = [
        method.embed(normalisation(images)) for images, _ in in_order(source, batch_size=batch_size)
    ]
    method.train(training)
    features, projection, prediction = (torch.cat(parts) for parts in zip(*embedded, strict=True))
    labels = None if source.labels is None else source.labels.to(features.device)
    return Features(features=features, projection=projection, prediction=prediction, labels=labels)
