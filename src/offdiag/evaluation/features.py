"""Embeddings of whole, unaugmented samples by a frozen network."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from offdiag._types import Labels
from offdiag.data.dataset import Source, in_order
from offdiag.methods.method import AbstractMethod


@dataclass(frozen=True, kw_only=True)
class Features:
    """Outputs of the three parts for the same samples, and their labels where there are any."""

    features: Float[Tensor, "batch features"]
    projection: Float[Tensor, "batch proj"]
    prediction: Float[Tensor, "batch proj"]
    labels: Labels | None


@torch.no_grad()
def extract(
    method: AbstractMethod,
    source: Source,
    *,
    whole: Callable[[Any], Any],
    batch_size: int = 512,
) -> Features:
    """Embed every sample of `source` once, in its order, without augmentation.

    `whole` makes of a batch what the encoder takes: of images the normalised ones. BatchNorm
    uses its running statistics; the mode of `method` is put back afterwards.
    """
    training = method.training
    method.eval()
    embedded, labels = [], []
    for samples, classes in in_order(source, batch_size=batch_size):
        embedded.append(method.embed(whole(samples)))
        if classes is not None:
            labels.append(classes)
    method.train(training)
    features, projection, prediction = (torch.cat(parts) for parts in zip(*embedded, strict=True))
    return Features(
        features=features,
        projection=projection,
        prediction=prediction,
        labels=torch.cat(labels) if labels else None,
    )
