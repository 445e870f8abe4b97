"""W-MSE (Ermolov et al. 2021): whiten each view, then compare."""

from typing import Annotated

import torch.nn.functional as F
from torch import nn

from offdiag._checks import within
from offdiag._types import Embeddings
from offdiag.objectives.objective import Loss, full_precision
from offdiag.transforms.whiten import cholesky_whitened


class WMSE(nn.Module):
    """mean |w_a - w_b|^2 / 2 of the whitened views, each row of length 1: 1 - cos, in [0, 2].

    Each view is whitened by its own batch (Cholesky, n - 1), a share `ridge` of the covariance
    being replaced by the identity: the published form has 0, and then a batch with fewer rows
    than coordinates has no whitening. The whole batch is whitened at once, where the published
    one takes random sub-batches of twice as many rows as coordinates. No stop-gradient: outputs
    that are all equal cannot be whitened, and that is what prevents collapse.
    """

    def __init__(
        self, *, ridge: Annotated[float, "share of the identity in the covariance"] = 1e-3
    ) -> None:
        super().__init__()
        within("the share of the identity", ridge, 0, 1)
        self.ridge = ridge

    def forward(self, z_a: Embeddings, z_b: Embeddings) -> Loss:
        w_a, w_b = (
            F.normalize(cholesky_whitened(full_precision(z), ridge=self.ridge), dim=1)
            for z in (z_a, z_b)
        )
        return Loss(total=1 - (w_a * w_b).sum(1).mean())
