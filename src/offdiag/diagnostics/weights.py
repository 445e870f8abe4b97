"""Readings of a prediction head that is one matrix: prediction = weight @ embedding.

`second_moment` is E z z^T of the embeddings z that the head is given, not centred: the
correlation matrix of Tian et al. 2021. How far the online branch lags in rank behind its target
(Zhuo et al. 2023) needs no formula here: it is the difference of two readings.
"""

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


def rank(weight: Covariance, *, tolerance: float = 1e-2) -> Scalar:
    """How many singular values exceed `tolerance` times the largest, 0 to dim; 0: a zero matrix."""
    singular = torch.linalg.svdvals(weight.double())
    return (singular > tolerance * singular[0]).sum().double()


def polar_distance(weight: Covariance) -> Scalar:
    """|E - U|_F, with U the orthogonal factor of the polar decomposition E = U P, 0 or more.

    0: the head is a rotation (Richemond et al. 2023 show that a linear head is drawn to one).
    U is the nearest orthogonal matrix, so the distance is the root of sum (s_k - 1)^2 over the
    singular values, and never more than `identity_distance`; sqrt(dim): a zero matrix.
    """
    return (torch.linalg.svdvals(weight.double()) - 1).square().sum().sqrt()


def eigenspace_alignment(weight: Covariance, second_moment: Covariance) -> Scalar:
    """Mean |cos| between E v and v over the eigenvectors v of the second moment, in [0, 1].

    1: the head only stretches the directions in which its input is correlated, each by itself
    (Tian et al. 2021, section 3); near 0: it turns each away. Every direction that has energy
    counts the same, however little it has. Zhuo et al. 2023 put the correlation of the
    predictions, E C E^T, where we put E. Where eigenvalues are equal the eigenvectors, and with
    them the reading, are one choice of many. A v that the head maps to zero counts 0; a
    zero second moment, or anything not finite, gives nan.
    """
    E, C = weight.double(), second_moment.double()
    if not (E.isfinite().all() and C.isfinite().all()):
        return E.new_tensor(torch.nan)
    values, V = torch.linalg.eigh(C)
    V = V[:, values > len(C) * torch.finfo(second_moment.dtype).eps * values[-1]]
    return torch.nn.functional.cosine_similarity(E @ V, V, dim=0).abs().mean()


def commutator(weight: Covariance, second_moment: Covariance) -> Scalar:
    """|E C - C E|_F / (|E|_F |C|_F), with C the second moment, in [0, sqrt(2)].

    0: head and correlation commute; if the head is symmetric they then share their eigenvectors.
    The bound is that of Boettcher & Wenzel 2008. A zero head or second moment gives nan.
    """
    E, C = weight.double(), second_moment.double()
    return torch.linalg.norm(E @ C - C @ E) / (torch.linalg.norm(E) * torch.linalg.norm(C))


def off_diagonal_share(weight: Covariance, second_moment: Covariance) -> Scalar:
    """Share of the prediction's energy that comes through the off-diagonal entries, in [0, 1].

    E|O z|^2 / (E|D z|^2 + E|O z|^2), with D the diagonal of the head and O the rest: the
    substitution of Wen & Li 2022, in a real network. 0: each coordinate predicts itself; 1:
    only the others do. The cross term 2 E<D z, O z> belongs to neither and is left out of
    both, so that the two shares add to 1. A prediction of zero gives nan.
    """
    E, C = weight.double(), second_moment.double()
    rest = off_diagonal(E)
    lent = torch.einsum("ij,jk,ik->", rest, C, rest)
    own = (E.diagonal().square() * C.diagonal()).sum()
    # C has no negative energy; rounding can leave some.
    return (lent / (own + lent)).clamp(0, 1)
