"""DirectPred (Tian et al. 2021), DirectCopy and DirectSet (Wang et al. 2021)."""

from functools import partial
from typing import Annotated, Literal

import torch

from offdiag._checks import at_least
from offdiag._types import Covariance
from offdiag.heads.second_moment import SecondMomentHead


def direct_pred_head(
    dim: int,
    *,
    memory: Annotated[float, "share of the moving average that is kept at a step"] = 0.3,
    floor: Annotated[float, "added to each eigenvalue of the head"] = 0.01,
    every: Annotated[int, "steps between two settings of the head"] = 1,
) -> SecondMomentHead:
    """DirectPred: `direct_set` with alpha 1/2; eigenvalues in [floor, 1 + floor]."""
    at_least("the floor of the head's eigenvalues", floor, 0)
    return SecondMomentHead(
        dim, partial(direct_set, alpha=0.5, floor=floor), memory=memory, every=every
    )


def direct_set_head(
    dim: int,
    *,
    alpha: Annotated[float, "power of the eigenvalues; 1 is DirectCopy, 1/2 DirectPred"] = 1.0,
    memory: Annotated[float, "share of the moving average that is kept at a step"] = 0.5,
    floor: Annotated[float, "added to each eigenvalue of the head"] = 0.3,
    norm: Annotated[
        Literal["spectral", "frobenius", "none"], "norm that the second moment is divided by"
    ] = "spectral",
    every: Annotated[int, "steps between two settings of the head"] = 1,
) -> SecondMomentHead:
    """DirectSet(alpha): `direct_set`; alpha 0 is (1 + floor) I.

    The published DirectCopy (alpha 1) divides by nothing: `norm="none"`. Its floor then means
    another thing at another scale of the projection.
    """
    at_least("the power of the eigenvalues", alpha, 0)
    at_least("the floor of the head's eigenvalues", floor, 0)
    rule = partial(direct_set, alpha=alpha, floor=floor, norm=norm)
    return SecondMomentHead(dim, rule, memory=memory, every=every)


def direct_set(
    moment: Covariance, *, alpha: float, floor: float, norm: str = "spectral"
) -> Covariance:
    """(F / |F|)^alpha + floor I of a second moment F.

    Commutes with F; unchanged when F is scaled, unless `norm` is none; (1 + floor) I for a
    multiple of the identity; eigenvalues (1 + floor, floor, ...) for rank 1. floor I for zeros.
    """
    values, U = torch.linalg.eigh(moment)
    values = values.clamp_min(0)
    size = {"spectral": values[-1], "frobenius": values.norm(), "none": values.new_ones(())}[norm]
    p = (values / size.clamp_min(torch.finfo(values.dtype).tiny)) ** alpha + floor
    return (U * p) @ U.T
