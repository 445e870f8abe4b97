"""Marks of prototype and code assignments: entropies, and what the loss does to the teacher."""

import math
from collections.abc import Iterable
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from offdiag.results.readings import NAN

STUDENT_TEMPERATURE = 0.1
"""DINO's (Caron et al. 2021, arXiv 2104.14294), where the loss does not say."""
PROTOTYPES = ("prototype", "last_layer")


@torch.no_grad()
def entropies(probabilities: Float[Tensor, "batch codes"]) -> tuple[float, float]:
    """(mean entropy of a row, entropy of the mean), each over the log of the number of codes.

    Both in [0, 1], the first never above the second. First 1: every row is uniform, nothing is
    assigned. Second 0: all rows take one code.
    """
    p = probabilities.float()
    most = math.log(p.shape[1]) if p.shape[1] > 1 else NAN
    return (
        float(torch.special.entr(p).sum(1).mean()) / most,
        float(torch.special.entr(p.mean(0)).sum()) / most,
    )


@torch.no_grad()
def assignment_marks(who: str, probabilities: Float[Tensor, "batch codes"]) -> dict[str, float]:
    """The entropies of one network's assignments, and the share of codes in use.

    A code is in use if its mean share is above a tenth of the uniform one; of fewer rows than
    codes at most the rows can be, so that the share is of whichever is less.
    """
    each, mean = entropies(probabilities)
    rows, codes = probabilities.shape
    used = (probabilities.float().mean(0) * codes > 0.1).sum()
    return {
        f"assign/{who}_entropy": each,
        f"assign/{who}_mean_entropy": mean,
        f"assign/{who}_used": float(used) / min(rows, codes),
    }


def prototype_loss(modules: Iterable[nn.Module]) -> nn.Module | None:
    """A loss that compares assignments at temperatures: lightly's and DINO's have these names."""
    for module in modules:
        if hasattr(module, "student_temp") and not isinstance(module.student_temp, nn.Module):
            return module
    return None


def has_prototypes(module: nn.Module) -> bool:
    """Does a head end in prototypes, by the names of its layers?"""
    names = [name for name, _ in module.named_modules()]
    return any(word in name for name in names for word in PROTOTYPES)


@torch.no_grad()
def loss_marks(loss: Any) -> dict[str, float]:
    """Of a loss with temperatures and a centre: sharpening, and the centre's size.

    Sharpening is the student's temperature over the teacher's: 1 or below does not sharpen.
    """
    marks = {}
    teacher, student = _number(getattr(loss, "teacher_temp", None)), _number(loss.student_temp)
    if teacher is not None and student is not None and teacher > 0:
        marks["assign/sharpening"] = student / teacher
    centre = getattr(loss, "center", None)
    centre = getattr(centre, "value", centre)
    if isinstance(centre, Tensor):
        marks["assign/centre"] = float(centre.float().norm())
    return marks


def _number(value: Any) -> float | None:
    return float(value) if isinstance(value, int | float) else None
