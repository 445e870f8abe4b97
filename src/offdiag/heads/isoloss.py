"""IsoLoss (Halvagal et al. 2023): every direction of the projection learns at the same speed."""

from typing import Annotated, Any

import torch
from torch import Tensor

from offdiag._types import Covariance, Embeddings
from offdiag.heads.direct_pred import direct_pred_head
from offdiag.heads.second_moment import SecondMomentHead


class IsoHead(torch.nn.Module):
    """DirectPred's head P whose gradient to the projection is multiplied by P^-1.

    The value is that of DirectPred; the gradient is the one of the loss named IsoLoss, exactly,
    for the cosine and for the squared distance. P = I gives BYOL. The published setting has the
    floor inside the root and 0; a floor above 0 keeps P^-1 bounded by 1 / floor.
    """

    def __init__(
        self,
        dim: int,
        *,
        memory: Annotated[float, "share of the moving average that is kept at a step"] = 0.5,
        floor: Annotated[float, "added to each eigenvalue of the head, above 0"] = 0.1,
        every: Annotated[int, "steps between two settings of the head"] = 1,
    ) -> None:
        super().__init__()
        self.fit: SecondMomentHead = direct_pred_head(dim, memory=memory, floor=floor, every=every)

    @property
    def weight(self) -> Covariance:
        """The matrix applied, shape (dim, dim)."""
        return self.fit.weight

    def forward(self, projection: Embeddings) -> Embeddings:
        weight = self.fit.weight.to(projection.dtype)
        output: Tensor = _PreconditionedGradient.apply(projection, weight)
        return output

    def refit(self, views: tuple[Embeddings, ...], *, step: int) -> None:
        """Set the head as DirectPred does."""
        self.fit.refit(views, step=step)


class _PreconditionedGradient(torch.autograd.Function):
    """Forward z P^T; the gradient that would pass to z is g P, and P^-1 of that is g."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor, weight: Tensor) -> Tensor:
        return rows @ weight.T

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        return gradient, None
