"""Coding rate: TCR (Yu et al. 2020), MEC (Liu et al. 2022) and EMP-SSL (Tong et al. 2023)."""

from typing import Annotated

import torch
import torch.nn.functional as F
from torch import nn

from offdiag._checks import above_zero, at_least
from offdiag._types import Embeddings, Scalar
from offdiag.objectives.objective import Loss, detached, full_precision


def coding_rate(rows: Embeddings, *, gain: float) -> Scalar:
    """log det(I + gain * Z^T Z), of the smaller side; in [0, dim log(1 + gain n / dim)].

    For rows of length 1. log(1 + gain n) where all rows are equal; the maximum for a tight frame.
    """
    n, dim = rows.shape
    gram = rows.T @ rows if dim <= n else rows @ rows.T
    eye = torch.eye(len(gram), dtype=gram.dtype, device=gram.device)
    return torch.linalg.slogdet(eye + gain * gram).logabsdet


class TotalCodingRate(nn.Module):
    """-mean cos(z_a, z_b) - weight * mean over views of log det(I + gain / dim * Z^T Z).

    Rows of length 1. The coding rate is log(1 + gain n / dim) where all outputs are equal and at
    most dim log(1 + gain n / dim^2), reached by a tight frame.
    """

    def __init__(
        self,
        *,
        weight: Annotated[float, "weight of the coding rate"] = 1e-2,
        gain: Annotated[float, "mu of the coding rate, above 0"] = 1.0,
    ) -> None:
        super().__init__()
        at_least("the weight of the coding rate", weight, 0)
        above_zero("the gain of the coding rate", gain)
        self.weight, self.gain = weight, gain

    def forward(self, z_a: Embeddings, z_b: Embeddings) -> Loss:
        z_a, z_b = (F.normalize(full_precision(z), dim=1) for z in (z_a, z_b))
        invariance = 1 - (z_a * z_b).sum(1).mean()
        gain = self.gain / z_a.shape[1]
        rate = (coding_rate(z_a, gain=gain) + coding_rate(z_b, gain=gain)) / 2
        return Loss(
            total=invariance - self.weight * rate,
            terms=detached(invariance=invariance, coding_rate=rate),
        )


class EMPSSL(nn.Module):
    """-mean over views of half log det(I + dim / (n eps) Z^T Z) - invariance * mean cos(z_v, mean).

    The mean is over the views of a sample; any number of views. Rows of length 1. The coding rate
    is subtracted, so that spread outputs have the lower loss.
    """

    def __init__(
        self,
        *,
        eps: Annotated[float, "distortion of the coding rate, above 0"] = 0.2,
        invariance: Annotated[float, "weight of the similarity to the mean of the views"] = 200.0,
    ) -> None:
        super().__init__()
        above_zero("the distortion", eps)
        at_least("the weight of the invariance", invariance, 0)
        self.eps, self.invariance = eps, invariance

    def forward(self, *projections: Embeddings) -> Loss:
        views = [F.normalize(full_precision(z), dim=1) for z in projections]
        n, dim = views[0].shape
        gain = dim / (n * self.eps)
        rate = 0.5 * torch.stack([coding_rate(z, gain=gain) for z in views]).mean()
        centre = torch.stack(views).mean(0)
        similarity = torch.stack([F.cosine_similarity(z, centre).mean() for z in views]).mean()
        return Loss(
            total=-rate - self.invariance * similarity,
            terms=detached(coding_rate=rate, invariance=1 - similarity),
        )


class MEC(nn.Module):
    """Maximum entropy coding: -log det(I + gain Z_a Z_b^T) / (gain n), symmetrised.

    gain = dim / (n eps^2), rows of length 1; the log det is by its Taylor series of `order`, as
    published, or exact with order 0. Order 1 is -mean cos(z_a, z_b). The series is valid where
    gain * |Z_a Z_b^T| < 1: at collapse that norm is gain * n, so eps^2 must exceed dim for it.
    """

    def __init__(
        self,
        *,
        eps_squared: Annotated[float, "distortion eps^2, above 0; large is nearer to -cos"] = 64.0,
        order: Annotated[int, "terms of the series; 0 for the exact log det"] = 4,
    ) -> None:
        super().__init__()
        above_zero("the distortion", eps_squared)
        at_least("the order of the series", order, 0)
        self.eps_squared, self.order = eps_squared, order

    def forward(self, z_a: Embeddings, z_b: Embeddings) -> Loss:
        z_a, z_b = (F.normalize(full_precision(z), dim=1) for z in (z_a, z_b))
        n, dim = z_a.shape
        gain = dim / (n * self.eps_squared)
        total = -(self._log_det(z_a, z_b, gain) + self._log_det(z_b, z_a, gain)) / (2 * gain * n)
        return Loss(total=total, terms=detached(invariance=1 - (z_a * z_b).sum(1).mean()))

    def _log_det(self, z_a: Embeddings, z_b: Embeddings, gain: float) -> Scalar:
        C = gain * (z_a.T @ z_b if z_a.shape[1] <= len(z_a) else z_a @ z_b.T)
        eye = torch.eye(len(C), device=C.device)
        if self.order == 0:
            return torch.linalg.slogdet(eye + C).logabsdet
        power, total = C, C.trace()
        for k in range(2, self.order + 1):
            power = power @ C
            total = total + (-1) ** (k + 1) * power.trace() / k
        return total
