"""Readings of embeddings and of their covariance spectrum: how many directions are in use.

Everything is computed in float64: small eigenvalues are the ones that matter. What takes a
`covariance` takes as well the eigenvalues that are at hand already, in any order and scale, so
that one decomposition serves all; and a second moment (not centred) where a caller wants the
mean to count as a direction.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from offdiag._types import Covariance, Eigenvalues, Embeddings, Scalar


def covariance(embeddings: Embeddings) -> Covariance:
    """Centred covariance of the rows, divided by n, in float64."""
    z = embeddings.double()
    # Centre before multiplying: subtracting the mean's outer product afterwards
    # cancels the digits of small eigenvalues when the mean is large. The first row
    # goes off first, so that constant features leave zero and not rounding.
    z = z - z[0]
    z = z - z.mean(0)
    return z.T @ z / len(z)


def second_moment(embeddings: Embeddings) -> Covariance:
    """Mean outer product of the rows as they are, not centred, divided by n, in float64."""
    z = embeddings.double()
    return z.T @ z / len(z)


def eigenvalues(covariance: Covariance) -> Eigenvalues:
    """Eigenvalues, descending, in float64; those within rounding of zero are zero.

    Rounding: dim times the machine epsilon of the matrix's dtype, relative to the largest.
    All nan for a matrix that is not finite.
    """
    if not covariance.isfinite().all():
        return torch.full_like(covariance[0], torch.nan, dtype=torch.float64)
    values = torch.linalg.eigvalsh(covariance.double()).flip(0)
    rounding = len(covariance) * torch.finfo(covariance.dtype).eps
    return torch.where(values > rounding * values[0], values, 0.0)


def spectrum(covariance: Covariance | Eigenvalues) -> Eigenvalues:
    """Eigenvalues as shares of their sum, descending, in [0, 1].

    All nan for a covariance that is zero or not finite.
    """
    if covariance.ndim == 2:
        values = eigenvalues(covariance)
    else:
        values = covariance.double().sort(descending=True).values
    return values / values.sum()


def effective_rank(covariance: Covariance | Eigenvalues) -> Scalar:
    """Exponential of the entropy of the normalised singular values, in [1, dim].

    1: every embedding on one line (dimensional collapse); dim: a flat spectrum.
    Unchanged by rescaling, rotation and shift. A zero covariance gives nan. This is
    the effective rank of Roy & Vetterli 2007 of the centred embeddings, whose
    singular values are the square roots of the covariance's eigenvalues. (With the
    eigenvalues themselves in their place, exp(`matrix_entropy`), the same formula gives
    smaller numbers; papers use both, so compare with care.)
    """
    return _entropy_rank(spectrum(covariance).sqrt())


def effective_rank_of_shares(shares: Eigenvalues) -> Scalar:
    """`effective_rank` from a `spectrum` that is at hand already."""
    return effective_rank(shares)


def _entropy_rank(weights: Float[Tensor, " dim"]) -> Scalar:
    return torch.special.entr(weights / weights.sum()).sum().exp()


def rankme(embeddings: Embeddings, *, epsilon: float = 1e-7) -> Scalar:
    """RankMe (Garrido et al. 2023, eq. 1), in [1, min(batch, dim)] up to epsilon.

    Exponential of the entropy of p_k = s_k / sum(s) + epsilon, with s the singular
    values of the embeddings as they are, not centred. 1: one direction, or one
    point away from the origin. Embeddings that are all zero, or not finite, give nan.
    """
    z = embeddings.double()
    gram = z.T @ z if z.shape[0] >= z.shape[1] else z @ z.T
    return rankme_of_eigenvalues(eigenvalues(gram), rows=len(z), epsilon=epsilon)


def rankme_of_eigenvalues(eigenvalues: Eigenvalues, *, rows: int, epsilon: float = 1e-7) -> Scalar:
    """`rankme` from the eigenvalues, descending, of the second moment of `rows` embeddings.

    The rows set how many singular values there are: min(rows, dim), each with its epsilon.
    """
    singular = eigenvalues[: min(rows, len(eigenvalues))].sqrt()
    return torch.special.entr(singular / singular.sum() + epsilon).sum().exp()


def participation_ratio(covariance: Covariance | Eigenvalues) -> Scalar:
    """(sum of eigenvalues)^2 / sum of their squares, in [1, dim].

    1: every embedding on one line; dim: a flat spectrum; r equal eigenvalues give r. Harder on
    a long tail than `effective_rank`. A zero covariance gives nan. Physics' inverse
    participation ratio; for neural data see Gao et al. 2017.
    """
    return 1 / spectrum(covariance).square().sum()


def nesum(covariance: Covariance | Eigenvalues) -> Scalar:
    """Normalised eigenvalue sum: eigenvalues over the largest, summed, in [1, dim].

    1: one direction has all the variance; dim: a flat spectrum. Of the centred covariance
    (He & Ozay 2022). It is 1 / `top_share`. A zero covariance gives nan.
    """
    return 1 / spectrum(covariance)[0]


def stable_rank(second_moment: Covariance | Eigenvalues) -> Scalar:
    """|Z|_F^2 / |Z|_2^2 of the matrix Z of embeddings as they are, in [1, dim].

    From the second moment, not centred: a mean that dwarfs the spread gives 1, as does one
    direction; dim: a flat spectrum and no mean (Rudelson & Vershynin 2007). Of the centred
    embeddings the same ratio is `nesum`. A zero second moment gives nan.
    """
    return 1 / spectrum(second_moment)[0]


def numerical_rank(covariance: Covariance | Eigenvalues, *, tolerance: float = 1e-2) -> Scalar:
    """How many singular values of the embeddings exceed `tolerance` times the largest; 1 to dim.

    Singular values are square roots of the covariance's eigenvalues: at the default, a direction
    counts if its variance is above 1e-4 of the largest. A zero covariance gives nan.
    """
    shares = spectrum(covariance)
    count = (shares.sqrt() > tolerance * shares[0].sqrt()).sum().double()
    return torch.where(shares[0].isnan(), shares[0], count)


def condition_number(covariance: Covariance | Eigenvalues) -> Scalar:
    """Largest over smallest singular value of the embeddings, in [1, inf].

    1: a flat spectrum; inf: some direction has no variance beyond rounding, as always where
    there are no more rows than dimensions. Square it for the covariance's own condition number.
    In float64 values above about 1e7 are inf. A zero covariance gives nan.
    """
    shares = spectrum(covariance)
    return (shares[0] / shares[-1]).sqrt()


def alpha_req(covariance: Covariance | Eigenvalues, *, first: int = 11, last: int = 50) -> Scalar:
    """Decay alpha of a power law, eigenvalue_j ~ j^-alpha (Agrawal et al. 2022), 0 or more.

    0: a flat spectrum; near 1: what the paper finds to go with good features; large: few
    directions hold everything. The slope of log eigenvalue against log j, least squares with
    weights 1/j, over j from `first` to `last`, counted from 1. Where fewer than `last`
    eigenvalues are positive, the window shrinks in proportion. Fewer than three
    points give nan. The paper's range depends on its setting: ours is a convention.
    """
    shares = spectrum(covariance)
    positive = int((shares > 0).sum())
    if positive < last:
        first, last = max(1, round(first * positive / last)), positive
    if last - first < 2:
        return shares.new_tensor(torch.nan)
    j = torch.arange(first, last + 1, dtype=shares.dtype, device=shares.device)
    x, y, w = j.log(), shares[first - 1 : last].log(), 1 / j
    x, y = x - (w * x).sum() / w.sum(), y - (w * y).sum() / w.sum()
    return -(w * x * y).sum() / (w * x * x).sum()


def matrix_entropy(kernel: Covariance | Eigenvalues) -> Scalar:
    """Von Neumann entropy of a kernel scaled to trace one, in nats, in [0, log dim].

    0: one direction; log dim: a flat spectrum. Our readings take it of the centred covariance.
    Tan et al. 2023 and Skean et al. 2023 take it of the kernel of l2-normalised rows, not
    centred: for that, give `second_moment` of the normalised rows, which has the same positive
    eigenvalues. A zero kernel gives nan.
    """
    return torch.special.entr(spectrum(kernel)).sum()


def singular_value_auc(covariance: Covariance | Eigenvalues) -> Scalar:
    """Area under the cumulative explained variance of the singular values, in [(dim+1)/(2 dim), 1].

    (1/dim) * sum_j (s_1 + ... + s_j) / (s_1 + ... + s_dim), s the singular values of the centred
    embeddings, descending (Li et al. 2022, section 4). 1: one direction; near 1/2: a flat
    spectrum. Singular values, not their squares, in spite of the name; the authors can
    l2-normalise the rows first, we do not. A zero covariance gives nan.
    """
    s = spectrum(covariance).sqrt()
    return (s.cumsum(0) / s.sum()).mean()


def isoscore(covariance: Covariance | Eigenvalues) -> Scalar:
    """IsoScore (Rudman et al. 2022, definition 4.1), in [0, 1]; 0: one direction, 1: flat.

    (D phi - 1) / (D - 1), with phi the share of directions in use. The paper's phi, from the
    distance of the spectrum to a flat one, is `participation_ratio` / D, so that the score puts
    embeddings of different widths on one scale: k of D equal eigenvalues give (k - 1) / (D - 1).
    A zero covariance, and one dimension, give nan.
    """
    return (participation_ratio(covariance) - 1) / (len(covariance) - 1)


def top_share(covariance: Covariance | Eigenvalues) -> Scalar:
    """Largest eigenvalue over the sum of all, in [1/dim, 1]; 1: every embedding on one line."""
    return spectrum(covariance)[0]


def mean_share(mean: Eigenvalues, covariance: Covariance | Eigenvalues) -> Scalar:
    """Energy of the mean, |mean|^2 / E|z|^2, in [0, 1], from the mean and the centred covariance.

    1: every embedding is the same point away from the origin (complete collapse without a
    centring layer); 0: centred, as after BatchNorm without shift. All-zero embeddings give nan.
    """
    energy = mean.double().square().sum()
    spread = covariance.diagonal() if covariance.ndim == 2 else covariance
    return energy / (energy + spread.double().sum())


def normalised_std(embeddings: Embeddings) -> Scalar:
    """Standard deviation of the l2-normalised rows, mean over coordinates, in [0, 1/sqrt(dim)].

    0: all rows point the same way (complete collapse); 1/sqrt(dim): centred and
    spread (Chen & He 2021, section 4.1). Blind to dimensional collapse: rows on one
    line, both signs equally often, can still reach the upper end. Divides by n.
    """
    z = torch.nn.functional.normalize(embeddings.double(), dim=1)
    return z.std(0, correction=0).mean()
