"""The spectral contrastive loss (HaoChen et al. 2021) and its whitened form (HaoChen & Ma 2022)."""

from typing import Annotated

import torch
from torch import Tensor, nn

from offdiag._checks import above_zero, at_least
from offdiag._types import Embeddings
from offdiag.objectives.objective import Loss, detached, full_precision


class SpectralContrastive(nn.Module):
    """[-2 mean <z_a, z_b> + mean over i != j of <z_a_i, z_b_j>^2] / mu.

    Rows longer than sqrt(mu) are shortened to it. On a finite augmentation graph the minimum, for
    mu = 1 and enough freedom, is minus the sum of the dim largest squared eigenvalues of the
    normalised adjacency matrix. -1 where all outputs are one vector of length 1 and mu is 1.
    """

    def __init__(self, *, mu: Annotated[float, "square of the longest row, above 0"] = 1.0) -> None:
        super().__init__()
        above_zero("mu", mu)
        self.mu = mu

    def forward(self, z_a: Embeddings, z_b: Embeddings) -> Loss:
        z_a, z_b = (shortened(full_precision(z), self.mu**0.5) for z in (z_a, z_b))
        n = len(z_a)
        products = z_a @ z_b.T
        diagonal = products.diagonal()
        attraction = diagonal.mean()
        repulsion = (products.square().sum() - diagonal.square().sum()) / (n * (n - 1))
        return Loss(
            total=(repulsion - 2 * attraction) / self.mu,
            terms=detached(attraction=attraction, repulsion=repulsion),
        )


class SpectralWhitened(nn.Module):
    """mean |z_a - z_b|^2 + weight * |E z z^T - I|_F^2, the moment over both views, not centred.

    In [0, inf): 0 for two equal views whose second moment is the identity, weight * dim where
    all outputs are 0.
    """

    def __init__(self, *, weight: Annotated[float, "weight of the whiteness term"] = 1.0) -> None:
        super().__init__()
        at_least("the weight of the whiteness term", weight, 0)
        self.weight = weight

    def forward(self, z_a: Embeddings, z_b: Embeddings) -> Loss:
        z_a, z_b = full_precision(z_a), full_precision(z_b)
        invariance = (z_a - z_b).square().sum(1).mean()
        rows = torch.cat((z_a, z_b))
        moment = rows.T @ rows / len(rows)
        eye = torch.eye(len(moment), device=moment.device)
        whiteness = (moment - eye).square().sum()
        return Loss(
            total=invariance + self.weight * whiteness,
            terms=detached(invariance=invariance, whiteness=whiteness),
        )


def shortened(rows: Embeddings, longest: float) -> Tensor:
    """Rows longer than `longest` scaled down to it."""
    length = rows.norm(dim=1, keepdim=True).clamp_min(longest)
    return rows * (longest / length)
