"""Heads that regress one view on the other: exactly (LRP), or to first order (NE).

Richemond et al. 2023.
"""

from typing import Annotated

import torch
from torch import Tensor, nn

from offdiag._checks import at_least, choice, within
from offdiag._types import Covariance, Embeddings

FORMS = ("exact", "neumann")


class RegressionHead(nn.Module):
    """P = (Z_a^T Z_a + ridge s I)^-1 Z_a^T Z_b, or its first-order form 2 C - G C, plus a ridge.

    G = Z_a^T Z_a and C = Z_a^T Z_b are means over both orders of the views and, so that the
    first-order form is valid, divided by the largest eigenvalue s of G; the published form is
    not divided and needs rows scaled to Z^T Z near I. P is a moving average over the steps, from
    the identity. For equal views P is near the identity. No gradient reaches it.
    """

    weight: Tensor
    fitted: Tensor

    def __init__(
        self,
        dim: int,
        *,
        form: str = "exact",
        ridge: Annotated[float, "exact: of the regression; first order: added to the head"] = 0.1,
        memory: Annotated[float, "share of the head that is kept at a step"] = 0.0,
    ) -> None:
        super().__init__()
        at_least("the head's width", dim, 1)
        at_least("the ridge", ridge, 0)
        within("the memory of the head", memory, 0, 1)
        self.dim, self.ridge, self.memory = dim, ridge, memory
        self.form = choice("form of the regression", form, FORMS)
        self.register_buffer("weight", torch.eye(dim))
        self.register_buffer("fitted", torch.zeros((), dtype=torch.bool))

    def forward(self, projection: Embeddings) -> Embeddings:
        return projection @ self.weight.to(projection.dtype).T

    @torch.no_grad()
    def refit(self, views: tuple[Embeddings, ...], *, step: int) -> None:
        """Set the head from the first two views of this batch."""
        a, b = (view.double() for view in views[:2])
        gram, cross = (a.T @ a + b.T @ b) / 2, (a.T @ b + b.T @ a) / 2
        solve = regression if self.form == "exact" else neumann
        P = solve(gram, cross, ridge=self.ridge).to(self.weight.dtype)
        keep = torch.where(self.fitted, self.memory, 0.0)
        self.weight.mul_(keep).add_((1 - keep) * P.T)
        self.fitted.fill_(True)


def regression(gram: Covariance, cross: Covariance, *, ridge: float) -> Covariance:
    """The P that minimises |Z_b - Z_a P|^2 + ridge s |P|^2, s the largest eigenvalue of G."""
    scale = torch.linalg.matrix_norm(gram, 2).clamp_min(torch.finfo(gram.dtype).tiny)
    eye = torch.eye(len(gram), dtype=gram.dtype, device=gram.device)
    # the least-squares solution where the ridge is 0 and some direction holds nothing
    return torch.linalg.pinv(gram + ridge * scale * eye, hermitian=True) @ cross


def neumann(gram: Covariance, cross: Covariance, *, ridge: float) -> Covariance:
    """2 C - G C + ridge I of G and C over the largest eigenvalue of G: G^-1 C to first order.

    The error is at most |I - G|^2 |C|, in the spectral norm and after the division.
    """
    scale = torch.linalg.matrix_norm(gram, 2).clamp_min(torch.finfo(gram.dtype).tiny)
    G, C = gram / scale, cross / scale
    eye = torch.eye(len(G), dtype=G.dtype, device=G.device)
    return 2 * C - G @ C + ridge * eye
