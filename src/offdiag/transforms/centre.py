"""Take the moving mean off the target (DINO's centring, without the softmax)."""

from typing import Annotated

import torch
from torch import Tensor, nn

from offdiag._checks import within
from offdiag._types import Embeddings


class Centre(nn.Module):
    """t - c, c the moving average of the target's mean over all views; c is 0 at the start.

    Updated after use. A constant vector that is added to every target is gone once c has
    followed. No gradient passes.
    """

    centre: Tensor

    def __init__(
        self, dim: int, *, memory: Annotated[float, "share of the centre kept at a step"] = 0.9
    ) -> None:
        super().__init__()
        within("the memory of the centre", memory, 0, 1)
        self.memory = memory
        self.register_buffer("centre", torch.zeros(dim))

    @torch.no_grad()
    def forward(self, target: Embeddings) -> Embeddings:
        return target - self.centre.to(target.dtype)

    @torch.no_grad()
    def refit(self, views: tuple[Embeddings, ...], *, step: int) -> None:
        """Move the centre by this batch."""
        mean = torch.cat(views).float().mean(0)
        self.centre.mul_(self.memory).add_((1 - self.memory) * mean)
