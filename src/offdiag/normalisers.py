"""What prediction and target go through before they are compared: pure functions of a batch."""

from collections.abc import Callable

import torch.nn.functional as F

from offdiag._distributed import processes
from offdiag._types import Embeddings
from offdiag.batchnorm import normalise_over_processes

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
