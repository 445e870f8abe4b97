"""The joint-embedding method: an objective on the projections of all views, and no head."""

from typing import Any

import torch
from torch import nn

from offdiag.methods.method import AbstractMethod, Embedded, Output, exact, refit
from offdiag.methods.regularised import Regulariser, regularised
from offdiag.objectives.objective import Objective


class JointEmbedding(AbstractMethod):
    """L = objective(z_a, z_b, ...) of the projections of the whole batch, of all processes.

    Both branches get the gradient: no stop-gradient, no target network, no head. What keeps the
    representation from collapse is the objective alone.
    """

    def __init__(
        self,
        encoder: nn.Module,
        projector: nn.Module,
        *,
        objective: Objective,
        regulariser: Regulariser | None = None,
    ) -> None:
        super().__init__()
        self.encoder = encoder
        self.projector = projector
        self.objective = objective
        self.regulariser = regulariser

    def forward(self, *views: Any) -> Output:
        features, projection, _ = zip(*self.embed_views(*views), strict=True)
        with exact(projection) as rows:
            loss = self.objective(*rows)
            return regularised(loss, Embedded(features, projection), self.regulariser)

    @torch.no_grad()
    def after_step(self, embedded: Embedded, *, step: int, steps: int) -> None:
        for part in (self.projector, self.objective, self.regulariser):
            if isinstance(part, nn.Module):
                refit(part, embedded.projection, step=step)
