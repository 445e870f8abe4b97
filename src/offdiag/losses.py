"""The objective: normalise both sides, pull the prediction to the target, stop one gradient.

Pure functions of (prediction, target). Both forms are one squared distance,
0.5 * |normalise(prediction) - stop(normalise(target))|^2, so they share a scale:
0 when the two agree, 1 when they are unrelated, 2 when they are opposite.
"""

from collections.abc import Callable, Mapping

import torch.nn.functional as F

from offdiag._types import Embeddings, Scalar
from offdiag.batchnorm import normalise_over_processes, processes

Normaliser = Callable[[Embeddings], Embeddings]


def batch_normalise(embeddings: Embeddings) -> Embeddings:
    """Each coordinate to mean 0 and variance 1 over the batch, then divided by sqrt(dim).

    BatchNorm without affine (Wen & Li 2022, section 2) and without running
    statistics; the variance divides by n and has 1e-5 added, so a coordinate
    that is constant over the batch becomes 0. The factor 1/sqrt(dim) makes the
    mean squared norm of a row 1 at every width, as with l2 normalisation.
    Statistics are per view, and over the rows of all processes where
    torch.distributed has been set up: all of them must then call this together.
    """
    if processes() > 1:
        normal = normalise_over_processes(embeddings)
    else:
        normal = F.batch_norm(embeddings, None, None, training=True)
    return normal / embeddings.shape[1] ** 0.5


def l2_normalise(embeddings: Embeddings) -> Embeddings:
    """Each row to length 1 (BYOL, SimSiam); a row of zeros stays zero."""
    return F.normalize(embeddings, dim=1)


def no_normaliser(embeddings: Embeddings) -> Embeddings:
    """The rows as they are: the ablation, under which the trivial solution attracts."""
    return embeddings


NORMALISERS: Mapping[str, Normaliser] = {
    "bn": batch_normalise,
    "l2": l2_normalise,
    "none": no_normaliser,
}

STOP_GRADIENTS = ("target", "none", "online")
"""On which side the gradient is stopped: `target` is the method, the others are ablations."""


def alignment_loss(
    prediction: Embeddings,
    target: Embeddings,
    *,
    normalise: Normaliser = batch_normalise,
    stop_gradient: str = "target",
) -> Scalar:
    """Half the mean squared distance between normalised prediction and target, in [0, 2].

    With `batch_normalise` this is the paper's loss divided by dim, and equals
    1 - the mean over coordinates of the correlation between the two sides; with
    `l2_normalise` it is 1 - cosine: SimSiam's loss plus 1, half of BYOL's. With
    `no_normaliser` the range is [0, inf). A collapsed representation reaches the
    minimum too: the value says nothing about collapse.

    No gradient reaches `target` (`stop_gradient="target"`); with "online" none
    reaches `prediction`, with "none" both sides get it.
    """
    if stop_gradient == "target":
        target = target.detach()
    elif stop_gradient == "online":
        prediction = prediction.detach()
    p, z = normalise(prediction), normalise(target)
    return 0.5 * (p - z).square().sum(1).mean()
