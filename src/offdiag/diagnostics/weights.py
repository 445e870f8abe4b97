"""Readings of a prediction head that is one matrix."""

import torch

from offdiag._types import Covariance, Scalar


def off_diagonal(weight: Covariance) -> Covariance:
    """The matrix with its diagonal set to 0."""
    return weight - weight.diagonal().diag()


def off_diagonal_norm(weight: Covariance) -> Scalar:
    """Frobenius norm of the off-diagonal part; 0: no coordinate lends to another."""
    return torch.linalg.norm(off_diagonal(weight))


def asymmetry(weight: Covariance) -> Scalar:
    """|E - E^T|_F / |offdiag E|_F, in [0, 2] (Wen & Li 2022, the figure of section 4).

    0: symmetric; sqrt(2): entries (i, j) and (j, i) unrelated, or a triangular
    matrix; 2: antisymmetric. A diagonal matrix has no such ratio and gives nan.
    """
    return torch.linalg.norm(weight - weight.T) / off_diagonal_norm(weight)


def identity_distance(weight: Covariance) -> Scalar:
    """|E - I|_F; 0: the head does nothing."""
    eye = torch.eye(len(weight), dtype=weight.dtype, device=weight.device)
    return torch.linalg.norm(weight - eye)
