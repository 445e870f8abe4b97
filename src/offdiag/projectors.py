"""Projectors: from the encoder's features to the projection."""

from collections.abc import Sequence
from typing import Annotated

import torch
from jaxtyping import Float
from torch import Tensor, nn

from offdiag._checks import ConfigError, at_least, within
from offdiag.transforms.fsq import FSQ


def projector(widths: Sequence[int]) -> nn.Sequential:
    """Linear, BatchNorm, ReLU, ..., Linear through `widths`; the first is the encoder's.

    The last layer has neither BatchNorm nor ReLU: the objective normalises.
    """
    if len(widths) < 2 or min(widths) < 1:
        raise ConfigError(
            "a projector needs the encoder's width and at least one more, all positive; "
            f"got {list(widths)}."
        )
    layers: list[nn.Module] = []
    for before, after in zip(widths[:-2], widths[1:-1], strict=True):
        layers += [
            nn.Linear(before, after, bias=False),
            nn.BatchNorm1d(after),
            nn.ReLU(inplace=True),
        ]
    return nn.Sequential(*layers, nn.Linear(widths[-2], widths[-1]))


Features = Float[Tensor, "batch features"]
Projection = Float[Tensor, "batch proj"]
Code = Float[Tensor, "batch atoms"]


class Projector(nn.Module):
    """A projector followed by one more layer that changes what the loss sees."""

    def __init__(self, body: nn.Module, last: nn.Module) -> None:
        super().__init__()
        self.body, self.last = body, last

    def forward(self, features: Features) -> Projection:
        output: Projection = self.last(self.body(features))
        return output


def discrete_projector(
    widths: Sequence[int],
    *,
    levels: Annotated[int, "values of each coordinate, at least 2"] = 8,
) -> Projector:
    """The MLP projector with its outputs on a grid (Ouyang et al. 2025, discrete projector)."""
    return Projector(projector(widths), FSQ(levels=levels))


def sparse_projector(
    widths: Sequence[int],
    *,
    atoms: Annotated[int, "width of the sparse code"] = 1024,
    active: Annotated[int, "largest entries of the code that are kept"] = 32,
) -> Projector:
    """The MLP projector through a sparse autoencoder (Ouyang et al. 2025)."""
    return Projector(projector(widths), SparseAutoencoder(widths[-1], atoms=atoms, active=active))


class SparseAutoencoder(nn.Module):
    """W_d topk(relu(W_e (h - b))) + b: at most `active` atoms for each row."""

    def __init__(self, dim: int, *, atoms: int, active: int) -> None:
        super().__init__()
        at_least("the width of the sparse code", atoms, 1)
        within("the number of active atoms", active, 1, atoms)
        self.active = active
        self.shift = nn.Parameter(torch.zeros(dim))
        self.encode = nn.Linear(dim, atoms, bias=False)
        self.decode = nn.Linear(atoms, dim, bias=False)

    def code(self, rows: Projection) -> Code:
        """The sparse code of each row, with at most `active` entries above 0."""
        entries = self.encode(rows - self.shift).relu()
        largest, where = entries.topk(self.active, dim=1)
        return torch.zeros_like(entries).scatter(1, where, largest)

    def forward(self, rows: Projection) -> Projection:
        output: Projection = self.decode(self.code(rows)) + self.shift
        return output


def reweighting_projector(
    widths: Sequence[int],
    *,
    kappa: Annotated[float, "base of the weights kappa^-i, at least 1"] = 1.05,
) -> Projector:
    """A linear map whose outputs are weighted by kappa^-i, fixed (Xue et al. 2024).

    kappa 1 is the linear map alone; the weights reach 1 / e after 1 / ln(kappa) coordinates.
    """
    at_least("kappa", kappa, 1)
    return Projector(nn.Linear(widths[0], widths[-1]), Reweighting(widths[-1], kappa=kappa))


class Reweighting(nn.Module):
    """h_i kappa^-i: no parameters."""

    weights: Tensor

    def __init__(self, dim: int, *, kappa: float) -> None:
        super().__init__()
        powers = float(kappa) ** -torch.arange(dim, dtype=torch.float64)
        self.register_buffer("weights", powers.float(), persistent=False)

    def forward(self, rows: Projection) -> Projection:
        return rows * self.weights


def slice_projector(widths: Sequence[int]) -> "Slice":
    """The first coordinates of the features and nothing trained (DirectCLR, Jing et al. 2022).

    No gradient of the loss reaches the last layer's other coordinates directly.
    """
    if widths[-1] > widths[0]:
        raise ConfigError(
            f"the slice cannot be wider than the features: {widths[0]}; got {widths[-1]}."
        )
    return Slice(widths[-1])


class Slice(nn.Module):
    """The first `dim` coordinates."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.dim = dim

    def forward(self, rows: Features) -> Projection:
        return rows[:, : self.dim]


def linear_projector(widths: Sequence[int]) -> nn.Linear:
    """One linear map from the features to the last width."""
    return nn.Linear(widths[0], widths[-1])
