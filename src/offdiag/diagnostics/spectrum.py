"""Readings of embeddings and of their covariance spectrum: how many directions are in use.

Everything is computed in float64: small eigenvalues are the ones that matter.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from offdiag._types import Covariance, Eigenvalues, Embeddings, Scalar


def covariance(embeddings: Embeddings) -> Covariance:
    """Centred covariance of the rows, divided by n, in float64."""
    z = embeddings.double()
    # Centre before multiplying: subtracting the mean's outer product afterwards
    # cancels the digits of small eigenvalues when the mean is large.
    z = z - z.mean(0)
    return z.T @ z / len(z)


def spectrum(covariance: Covariance) -> Eigenvalues:
    """Eigenvalues as shares of their sum, descending, in [0, 1].

    All nan for a covariance that is zero or not finite.
    """
    if not covariance.isfinite().all():
        return torch.full_like(covariance[0], torch.nan, dtype=torch.float64)
    eigenvalues = torch.linalg.eigvalsh(covariance.double()).flip(0).clamp_min(0)
    return eigenvalues / eigenvalues.sum()


def effective_rank(covariance: Covariance) -> Scalar:
    """Exponential of the entropy of the normalised singular values, in [1, dim].

    1: every embedding on one line (dimensional collapse); dim: a flat spectrum.
    Unchanged by rescaling, rotation and shift. A zero covariance gives nan. This is
    the effective rank of Roy & Vetterli 2007 of the centred embeddings, whose
    singular values are the square roots of the covariance's eigenvalues. (With the
    eigenvalues themselves in their place the same formula gives smaller numbers;
    papers use both, so compare with care.)
    """
    return effective_rank_of_shares(spectrum(covariance))


def effective_rank_of_shares(shares: Eigenvalues) -> Scalar:
    """`effective_rank` from a `spectrum` that is at hand already."""
    return _entropy_rank(shares.sqrt())


def _entropy_rank(weights: Float[Tensor, " dim"]) -> Scalar:
    return torch.special.entr(weights / weights.sum()).sum().exp()


def rankme(embeddings: Embeddings, *, epsilon: float = 1e-7) -> Scalar:
    """RankMe (Garrido et al. 2023, eq. 1), in [1, min(batch, dim)] up to epsilon.

    Exponential of the entropy of p_k = s_k / sum(s) + epsilon, with s the singular
    values of the embeddings as they are, not centred. 1: one direction, or one
    point away from the origin. Embeddings that are all zero, or not finite, give nan.
    """
    z = embeddings.double()
    if not z.isfinite().all():
        return z.new_tensor(torch.nan)
    gram = z.T @ z if z.shape[0] >= z.shape[1] else z @ z.T
    singular = torch.linalg.eigvalsh(gram).clamp_min(0).sqrt()
    return torch.special.entr(singular / singular.sum() + epsilon).sum().exp()


def normalised_std(embeddings: Embeddings) -> Scalar:
    """Standard deviation of the l2-normalised rows, mean over coordinates, in [0, 1/sqrt(dim)].

    0: all rows point the same way (complete collapse); 1/sqrt(dim): centred and
    spread (Chen & He 2021, section 4.1). Blind to dimensional collapse: rows on one
    line, both signs equally often, can still reach the upper end.
    """
    z = torch.nn.functional.normalize(embeddings.double(), dim=1)
    return z.std(0, correction=0).mean()


def top_share(covariance: Covariance) -> Scalar:
    """Largest eigenvalue over the sum of all, in [1/dim, 1]; 1: every embedding on one line."""
    return spectrum(covariance)[0]
