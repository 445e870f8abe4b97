"""What is read of a representation and of a head at one moment: plain values, by name.

The formulas, their conventions and sources are in `offdiag.diagnostics`; a value that was
not measured, or has no meaning for the input, is nan.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

NAN = math.nan


@dataclass(frozen=True, kw_only=True)
class Readings:
    """Readings of one part's output.

    `dim` is the output's width, `rows` how many outputs were read (0 if that was not
    recorded). `spectrum` holds the eigenvalues of the centred covariance, each as a share
    of their sum, descending, at most the first 256. `alignment` and `lidar` need two views
    of the same images.
    """

    dim: int
    rows: int = 0
    effective_rank: float = NAN
    rankme: float = NAN
    participation_ratio: float = NAN
    nesum: float = NAN
    stable_rank: float = NAN
    numerical_rank: float = NAN
    condition_number: float = NAN
    alpha_req: float = NAN
    matrix_entropy: float = NAN
    singular_value_auc: float = NAN
    isoscore: float = NAN
    top_share: float = NAN
    std: float = NAN
    mean_share: float = NAN
    mean_cosine: float = NAN
    alignment: float = NAN
    uniformity: float = NAN
    lidar: float = NAN
    spectrum: tuple[float, ...] = ()


@dataclass(frozen=True, kw_only=True)
class HeadReadings:
    """Readings of a prediction head: of its matrix where it is one, and of what it does.

    `off_diagonal_share` is the share of the prediction that comes through the off-diagonal
    entries; `eigenspace_alignment` and `commutator` compare the head with the correlation of
    the embeddings that it is given.
    """

    off_diagonal_norm: float = NAN
    asymmetry: float = NAN
    identity_distance: float = NAN
    rank: float = NAN
    polar_distance: float = NAN
    eigenspace_alignment: float = NAN
    commutator: float = NAN
    off_diagonal_share: float = NAN


def numbers(readings: Readings | HeadReadings) -> dict[str, float]:
    """Every reading that is one number, by name; nan where it was not measured."""
    values = {field.name: getattr(readings, field.name) for field in fields(readings)}
    return {name: value for name, value in values.items() if isinstance(value, float)}


def restored(plain: Mapping[str, Any]) -> dict[str, Any]:
    """What JSON kept of readings: null stands for nan, lists for tuples."""
    return {key: _restored(value) for key, value in plain.items()}


def _restored(value: Any) -> Any:
    if isinstance(value, list | tuple):
        return tuple(_restored(item) for item in value)
    return NAN if value is None else value
