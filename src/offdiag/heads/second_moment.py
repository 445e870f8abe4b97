"""A head that is set from the second moment of the projection: closed forms, no gradient."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from offdiag._checks import at_least, within
from offdiag._types import Covariance, Embeddings
from offdiag.diagnostics.spectrum import second_moment

Rule = Callable[[Covariance], Covariance]
"""From a second moment, in float64, to the matrix of the head."""


class SecondMomentHead(nn.Module):
    """prediction = projection @ rule(F), F the moving average of the projection's second moment.

    F is over all views and not centred; the first batch sets it, before that the head is the
    identity. Every `every` steps the head is set anew. A gradient passes through to the
    projection, none reaches the head. With `memory` 0 F is that of the last batch.
    """

    weight: Tensor
    moment: Tensor
    fitted: Tensor

    def __init__(self, dim: int, rule: Rule, *, memory: float, every: int = 1) -> None:
        super().__init__()
        at_least("the head's width", dim, 1)
        within("the memory of the moving average", memory, 0, 1)
        at_least("the number of steps between settings", every, 1)
        self.dim, self.rule, self.memory, self.every = dim, rule, memory, every
        self.register_buffer("weight", torch.eye(dim))
        self.register_buffer("moment", torch.zeros(dim, dim))
        self.register_buffer("fitted", torch.zeros((), dtype=torch.bool))

    def forward(self, projection: Embeddings) -> Embeddings:
        return projection @ self.weight.to(projection.dtype).T

    @torch.no_grad()
    def refit(self, views: tuple[Embeddings, ...], *, step: int) -> None:
        """Move the average by this batch, and set the head from it every so often."""
        batch = torch.stack([second_moment(view) for view in views]).mean(0).float()
        keep = torch.where(self.fitted, self.memory, 0.0)
        self.moment.mul_(keep).add_((1 - keep) * batch)
        self.fitted.fill_(True)
        if step % self.every == 0:
            self.weight.copy_(self.rule(self.moment.double()).T)
