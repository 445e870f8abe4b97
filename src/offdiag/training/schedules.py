"""Learning-rate schedules: a multiplier in [0, 1] for each step, a pure function of the step."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from torch.optim import Optimizer

from offdiag._checks import at_least, choice
from offdiag.registry import SCHEDULES as SHAPES

__all__ = ["SHAPES", "Schedule"]


@dataclass(frozen=True, kw_only=True)
class Schedule:
    """Linear warm-up over `warmup` steps, then the named shape to the end of `steps`.

    cosine: from 1 to 0. steps: times `factor` at each of `milestones`, given as
    shares of training in (0, 1). constant: 1. `decay_head=False` leaves the head at
    its full rate after the warm-up, as SimSiam's recipe does.
    """

    steps: int
    shape: str = "cosine"
    warmup: int = 0
    milestones: Sequence[float] = (0.75, 0.875)
    factor: float = 0.2
    decay_head: bool = True

    def __post_init__(self) -> None:
        choice("schedule", self.shape, SHAPES)
        at_least("the number of steps", self.steps, 1)
        at_least("the number of warm-up steps", self.warmup, 0)

    def rise(self, step: int) -> float:
        """The warm-up's part: (step + 1) / warmup, at most 1."""
        return min(1.0, (step + 1) / self.warmup) if self.warmup else 1.0

    def fall(self, step: int) -> float:
        """The shape's part, 1 until the warm-up is over."""
        if self.shape == "cosine":
            progress = max(0, step - self.warmup) / max(1, self.steps - self.warmup)
            return 0.5 * (1 + math.cos(math.pi * min(1.0, progress)))
        if self.shape == "steps":
            return self.factor ** sum(step >= share * self.steps for share in self.milestones)
        return 1.0

    def apply(self, optimizer: Optimizer, step: int) -> None:
        """Set each group's rate for `step`, counted from 0, from its `base_lr`."""
        for group in optimizer.param_groups:
            fixed = not self.decay_head and group["name"].startswith("head")
            fall = 1.0 if fixed else self.fall(step)
            group["lr"] = group["base_lr"] * self.rise(step) * fall
