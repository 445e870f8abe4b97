"""The names of the first version, when normalisers and the loss were one file."""

import warnings
from typing import Any

from offdiag.normalisers import Normaliser, batch_normalise, l2_normalise, no_normaliser
from offdiag.objectives.prediction import prediction_loss
from offdiag.registry import STOP_GRADIENTS

__all__ = [
    "NORMALISERS",
    "STOP_GRADIENTS",
    "Normaliser",
    "batch_normalise",
    "l2_normalise",
    "no_normaliser",
]

NORMALISERS = {"bn": batch_normalise, "l2": l2_normalise, "none": no_normaliser}


def __getattr__(name: str) -> Any:
    if name == "alignment_loss":
        warnings.warn(
            "offdiag.losses.alignment_loss is now offdiag.prediction_loss "
            "(alignment is Wang & Isola's quantity, which it is not).",
            DeprecationWarning,
            stacklevel=2,
        )
        return prediction_loss
    raise AttributeError(f"module 'offdiag.losses' has no attribute {name!r}")
