"""DirectPred (Tian et al. 2021): the head is set from the spectrum of the projection."""

from typing import Annotated

import torch
from torch import Tensor, nn

from offdiag._checks import at_least, within
from offdiag._types import Covariance, Embeddings
from offdiag.diagnostics.spectrum import second_moment


class DirectPredHead(nn.Module):
    """P = U diag(p) U^T with p = sqrt(s) + floor, s the eigenvalues of F over the largest.

    F = U S U^T is the moving average of the projection's second moment over both views, not
    centred; the first batch sets it, before that P is the identity. Eigenvalues of P lie in
    [floor, 1 + floor]. The head commutes with F and is unchanged when the projection is scaled.
    No gradient trains it; one passes through to the projection.
    """

    weight: Tensor
    moment: Tensor
    fitted: Tensor

    def __init__(
        self,
        dim: int,
        *,
        memory: Annotated[float, "share of the moving average that is kept at a step"] = 0.3,
        floor: Annotated[float, "added to each eigenvalue of the head"] = 0.01,
        every: Annotated[int, "steps between two settings of the head"] = 1,
    ) -> None:
        super().__init__()
        at_least("the head's width", dim, 1)
        within("the memory of the moving average", memory, 0, 1)
        at_least("the floor of the head's eigenvalues", floor, 0)
        at_least("the number of steps between settings", every, 1)
        self.dim, self.memory, self.floor, self.every = dim, memory, floor, every
        self.register_buffer("weight", torch.eye(dim))
        self.register_buffer("moment", torch.zeros(dim, dim))
        self.register_buffer("fitted", torch.zeros((), dtype=torch.bool))

    def forward(self, projection: Embeddings) -> Embeddings:
        return projection @ self.weight.to(projection.dtype).T

    @torch.no_grad()
    def refit(self, views: tuple[Embeddings, ...], *, step: int) -> None:
        """Move the average by this batch, and set the head from it every so often."""
        batch = sum(second_moment(view.float()) for view in views) / len(views)
        keep = torch.where(self.fitted, self.memory, 0.0)
        self.moment.mul_(keep).add_((1 - keep) * batch)
        self.fitted.fill_(True)
        if step % self.every == 0:
            self.weight.copy_(direct_pred(self.moment, floor=self.floor))


def direct_pred(moment: Covariance, *, floor: float) -> Covariance:
    """The head of a second moment: U diag(sqrt(s) + floor) U^T, s = eigenvalues over the largest.

    A moment of zeros gives floor * I.
    """
    values, U = torch.linalg.eigh(moment.double())
    s = values.clamp_min(0) / values[-1].clamp_min(torch.finfo(torch.float64).tiny)
    p = s.sqrt() + floor
    return ((U * p) @ U.T).to(moment.dtype)
