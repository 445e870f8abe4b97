"""Whitening: linear maps that give a batch the identity as covariance."""

from typing import Annotated

import torch
from torch import nn

from offdiag._checks import at_least, choice, within
from offdiag._types import Embeddings
from offdiag.diagnostics.spectrum import covariance


def zca_whitened(rows: Embeddings, *, ridge: float = 0.0) -> Embeddings:
    """Centred rows times Sigma^(-1/2), divided by n: of all whitenings the nearest to the rows.

    A share `ridge` of the covariance is replaced by its mean variance times the identity.
    """
    values, U = torch.linalg.eigh(_covariance(rows, ridge=ridge))
    floor = values[-1].clamp_min(1e-12) * len(values) * torch.finfo(torch.float64).eps
    scale = values.clamp_min(floor).rsqrt()
    return (rows - rows.mean(0)) @ ((U * scale) @ U.T).to(rows.dtype)


def cholesky_whitened(rows: Embeddings, *, ridge: float = 0.0) -> Embeddings:
    """Centred rows times L^(-T), Sigma = L L^T divided by n - 1.

    A share `ridge` of the covariance is replaced by the identity. Without it, fewer rows than
    coordinates, or equal rows, have no Cholesky factor: torch's LinAlgError.
    """
    centred = rows - rows.mean(0)
    eye = torch.eye(rows.shape[1], dtype=torch.float64, device=rows.device)
    sigma = centred.double().T @ centred.double() / max(1, len(rows) - 1)
    L = torch.linalg.cholesky((1 - ridge) * sigma + ridge * eye)
    whitened = torch.linalg.solve_triangular(L, centred.double().T, upper=False).T
    return whitened.to(rows.dtype)


def iteratively_whitened(rows: Embeddings, *, iterations: int = 4) -> Embeddings:
    """Centred rows times P / sqrt(tr Sigma), P from Newton steps P <- 1.5 P - .5 P^3 Sigma / tr.

    IterNorm (Huang et al. 2019). Not white after few steps: see INTL.
    """
    centred = rows - rows.mean(0)
    sigma = centred.T @ centred / len(rows)
    trace = sigma.trace() + 1e-6
    normal = sigma / trace
    P = torch.eye(len(sigma), dtype=rows.dtype, device=rows.device)
    for _ in range(iterations):
        P = 1.5 * P - 0.5 * P @ P @ P @ normal
    return centred @ P / trace.sqrt()


WHITENINGS = ("zca", "cholesky", "iterative")


class Whiten(nn.Module):
    """Whiten each view of the target by its own batch; no gradient passes.

    `kind` is zca, cholesky or iterative. A share `ridge` of the identity keeps it defined where
    there are fewer rows than coordinates.
    """

    def __init__(
        self,
        *,
        kind: str = "zca",
        ridge: Annotated[float, "share of the identity in the covariance"] = 1e-3,
        iterations: Annotated[int, "Newton steps, for the iterative kind"] = 4,
    ) -> None:
        super().__init__()
        within("the share of the identity", ridge, 0, 1)
        at_least("the number of Newton steps", iterations, 1)
        self.kind = choice("whitening", kind, WHITENINGS)
        self.ridge, self.iterations = ridge, iterations

    @torch.no_grad()
    def forward(self, target: Embeddings) -> Embeddings:
        rows = target if target.dtype.itemsize >= 4 else target.float()
        if self.kind == "zca":
            return zca_whitened(rows, ridge=self.ridge)
        if self.kind == "cholesky":
            return cholesky_whitened(rows, ridge=self.ridge)
        return iteratively_whitened(rows, iterations=self.iterations)


def _covariance(rows: Embeddings, *, ridge: float) -> torch.Tensor:
    sigma = covariance(rows)
    eye = torch.eye(len(sigma), dtype=sigma.dtype, device=sigma.device)
    return (1 - ridge) * sigma + ridge * sigma.diagonal().mean() * eye
