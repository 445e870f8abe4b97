"""Gaussian noise as a yardstick: what a reading says of rows that carry nothing."""

import numpy as np
import torch
from scipy.linalg import eigvalsh_tridiagonal

from offdiag._types import Eigenvalues


def wishart_eigenvalues(rows: int, dim: int, *, seed: int) -> Eigenvalues:
    """Eigenvalues of Z^T Z, descending, for Z of shape (rows, dim) with standard normal entries.

    Drawn exactly, without Z: Householder reflections bring Z to a bidiagonal matrix whose
    entries are independent chi variables (Dumitriu & Edelman 2002). Memory min(rows, dim),
    time its square, however many rows there are.
    """
    short, long = sorted((rows, dim))
    if short == 0:
        return torch.zeros(dim, dtype=torch.float64)
    draw = np.random.default_rng(seed)
    diagonal = draw.chisquare(np.arange(long, long - short, -1))
    above = draw.chisquare(np.arange(short - 1, 0, -1))
    # The tridiagonal matrix is B^T B for the bidiagonal B, from the squares of its entries.
    squares = diagonal + np.concatenate(([0.0], above))
    values = np.zeros(dim)
    values[:short] = eigvalsh_tridiagonal(squares, np.sqrt(diagonal[:-1] * above))[::-1]
    return torch.from_numpy(values).clamp_min(0)
