"""Readings of where embeddings lie on the sphere and of what two views of an image share."""

import torch
from jaxtyping import Float
from torch import Tensor

from offdiag._types import Embeddings, Scalar
from offdiag.diagnostics.spectrum import eigenvalues

PAIRS_AT_ONCE = 1024


def alignment(view_a: Embeddings, view_b: Embeddings) -> Scalar:
    """Mean squared distance of the l2-normalised views of an image, in [0, 4].

    0: both views of every image point the same way (also at complete collapse); 2: unrelated;
    4: opposite. 2 - 2 cos(a, b), averaged (Wang & Isola 2020, alpha = 2). Row i of both views is
    the same image. A row of zeros has no direction and stays zero.
    """
    a = torch.nn.functional.normalize(view_a.double(), dim=1)
    b = torch.nn.functional.normalize(view_b.double(), dim=1)
    return (a - b).square().sum(1).mean()


def mean_cosine(embeddings: Embeddings) -> Scalar:
    """Mean cosine of two different rows, in [-1/(rows - 1), 1].

    0: rows point in all directions alike; 1: all point the same way, which is complete collapse
    or a common mean that a subtraction takes off. Also called anisotropy (Ethayarajh 2019). Two
    different rows lie at a mean squared distance of 2 (1 - mean cosine) on the sphere. Fewer than
    two rows give nan.
    """
    z = torch.nn.functional.normalize(embeddings.double(), dim=1)
    rows = len(z)
    # |sum of rows|^2 holds every ordered pair and each row with itself.
    pairs = z.sum(0).square().sum() - z.square().sum()
    return pairs / (rows * (rows - 1)) if rows > 1 else pairs / 0


def uniformity(embeddings: Embeddings, *, t: float = 2.0) -> Scalar:
    """log of the mean of exp(-t |x - y|^2) over pairs of l2-normalised rows, in [-4t, 0].

    0: all rows point the same way; near -2t, and not much below for many rows: spread over a
    sphere of many dimensions (Wang & Isola 2020). Each pair i < j counts once, no row with
    itself. Time and memory go with the square of the rows and with the rows: give a sample.
    Fewer than two rows give nan.
    """
    z = torch.nn.functional.normalize(embeddings.double(), dim=1)
    norms = z.square().sum(1)
    total = z.new_zeros(())
    for start in range(0, len(z), PAIRS_AT_ONCE):
        block = slice(start, start + PAIRS_AT_ONCE)
        squared = norms[block, None] + norms[None, start:] - 2 * z[block] @ z[start:].T
        total += (-t * squared.clamp_min(0)).exp().triu(1).sum()
    pairs = len(z) * (len(z) - 1) / 2
    return (total / pairs).log()


def lidar(
    views: Float[Tensor, "objects views dim"], *, delta: float = 1e-4, epsilon: float = 1e-8
) -> Scalar:
    """LiDAR (Thilak et al. 2023), in [1, min(objects - 1, dim)] up to epsilon.

    The rank of a discriminant analysis in which each image is a class and its views are the
    members: the exponential of the entropy of p_k = l_k / sum(l) + epsilon, with l the
    eigenvalues (not their roots, unlike RankMe) of Sw^-1/2 Sb Sw^-1/2. Sb is the covariance of
    the images' means (divided by objects - 1), Sw the covariance within images (divided by
    objects * (views - 1)) plus delta times the identity. 1: the images differ in one direction
    only; large: in many, measured against what augmentation changes. Where
    objects * (views - 1) < dim, delta stands for the directions in which no change was seen, and
    they weigh most. Blind to rotation and shift, but not to scale: delta is absolute.

    `views[i, j]` is view j of image i. Rows stacked view by view, as most code has them,
    must be grouped first: `torch.stack((view_a, view_b), 1)`. Fewer than two images
    or views, or equal means, give nan; so do embeddings that are not finite.
    """
    objects, q, dim = views.shape
    z = views.double()
    if objects < 2 or q < 2 or not z.isfinite().all():
        return z.new_tensor(torch.nan)
    z = z - z[0, 0]
    means = z.mean(1)
    within = (z - means[:, None]).reshape(-1, dim)
    between = means - means.mean(0)
    if dim > 2 * len(within):
        # A basis of what the rows span: outside it Sb is zero, so nothing is lost.
        basis, _ = torch.linalg.qr(torch.cat((within, between)).T)
        within, between = within @ basis, between @ basis
    Sw = within.T @ within / (objects * (q - 1))
    # Large embeddings can push delta below rounding, where the factorisation would fail.
    Sw.diagonal().add_(delta + dim * torch.finfo(Sw.dtype).eps * Sw.diagonal().max())
    whitened = torch.linalg.solve_triangular(torch.linalg.cholesky(Sw), between.T, upper=False)
    gram = whitened @ whitened.T if len(Sw) <= objects else whitened.T @ whitened
    found = eigenvalues(gram)[: objects - 1]
    return torch.special.entr(found / found.sum() + epsilon).sum().exp()
