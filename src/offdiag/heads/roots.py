"""Heads that are a root of the second moment, by Newton-Schulz or by Visser's iteration.

Richemond et al. 2023. Few iterations leave weak directions below their root: a soft cut.
"""

from collections.abc import Callable
from functools import partial
from typing import Annotated, Literal

import torch

from offdiag._checks import at_least, choice
from offdiag._types import Covariance
from offdiag.heads.second_moment import Rule, SecondMomentHead

RULES = ("root", "fourth-root", "visser", "polar")


def root_head(
    dim: int,
    *,
    rule: str = "root",
    iterations: Annotated[int, "steps of the iteration; few are a soft cut of weak modes"] = 9,
    ridge: Annotated[float, "multiple of the identity that is added to the head"] = 0.3,
    memory: Annotated[float, "share of the moving average that is kept at a step"] = 0.0,
    norm: Annotated[
        Literal["spectral", "none"], "norm that the projection's moment is divided by first"
    ] = "spectral",
) -> SecondMomentHead:
    """R + ridge I, R an iterated root of F = Z^T Z / n: F^(1/2), F^(1/4), or a polar factor.

    The ridge is absolute while F scales with the projection, so by default F is divided by its
    largest eigenvalue first; `norm="none"` is the published form.
    """
    choice("root", rule, RULES)
    at_least("the number of iterations", iterations, 1)
    at_least("the ridge", ridge, 0)
    chosen: Callable[..., Covariance] = {
        "root": newton_schulz_root,
        "fourth-root": newton_schulz_fourth_root,
        "visser": visser_root,
        "polar": stiefel_factor,
    }[rule]
    return SecondMomentHead(
        dim,
        partial(_with_ridge, rule=partial(chosen, iterations=iterations), ridge=ridge, norm=norm),
        memory=memory,
    )


def newton_schulz(matrix: Covariance, *, iterations: int) -> tuple[Covariance, Covariance]:
    """(A, B) towards ((M / |M|_F)^(1/2), (M / |M|_F)^(-1/2)) by A <- A (3 I - B A) / 2 and alike.

    An eigenvalue q of M / |M|_F needs about log_2.25(1 / q) + 4 steps: after nine those above
    3e-3 are within 1 % of the root, and one of 1e-4 has reached 37 % of it.
    """
    A = matrix / matrix.norm().clamp_min(torch.finfo(matrix.dtype).tiny)
    eye = torch.eye(len(A), dtype=A.dtype, device=A.device)
    B = eye
    for _ in range(iterations):
        T = (3 * eye - B @ A) / 2
        A, B = A @ T, T @ B
    return A, B


def newton_schulz_root(moment: Covariance, *, iterations: int) -> Covariance:
    """F^(1/2), as far as the iteration has come."""
    return newton_schulz(moment, iterations=iterations)[0] * moment.norm().sqrt()


def newton_schulz_fourth_root(moment: Covariance, *, iterations: int) -> Covariance:
    """F^(1/4): the root of the root."""
    return newton_schulz_root(
        newton_schulz_root(moment, iterations=iterations), iterations=iterations
    )


def visser_root(moment: Covariance, *, iterations: int, rate: float = 0.5) -> Covariance:
    """F^(1/2) by P <- P + rate (F - P^2) from I / (2 rate), for eigenvalues of F up to 1 / rate^2.

    The error falls as one over the number of steps on weak directions.
    """
    P = torch.eye(len(moment), dtype=moment.dtype, device=moment.device) / (2 * rate)
    for _ in range(iterations):
        P = P + rate * (moment - P @ P)
    return P


def stiefel_factor(moment: Covariance, *, iterations: int) -> Covariance:
    """F times the iterated inverse root of F^2, over |F|_F: a soft projector on strong directions.

    Exact, it is a multiple of the identity for every F of full rank; after nine steps its
    eigenvalues are equal for those of F above a twentieth of the largest, and fall below.
    """
    inverse_root = newton_schulz(moment @ moment, iterations=iterations)[1]
    return inverse_root @ moment / moment.norm().clamp_min(torch.finfo(moment.dtype).tiny)


def _with_ridge(moment: Covariance, *, rule: Rule, ridge: float, norm: str) -> Covariance:
    if norm == "spectral":
        moment = moment / torch.linalg.matrix_norm(moment, 2).clamp_min(1e-30)
    eye = torch.eye(len(moment), dtype=moment.dtype, device=moment.device)
    return rule(moment) + ridge * eye
