"""The predictive method: a head predicts, from each view, the target of every other view."""

from itertools import permutations
from typing import Any

import torch
from torch import nn

from offdiag._types import Embeddings
from offdiag.methods.method import AbstractMethod, Embedded, Output, exact, refit
from offdiag.methods.regularised import Regulariser, regularised
from offdiag.objectives.objective import Loss, PairObjective
from offdiag.targets.target import Target


class Predictive(AbstractMethod):
    """L = mean over ordered pairs of different views (i, j) of D(p_i, T(t_j)), plus regularisers.

    p_i is the head's prediction from view i, t_j the target's projection of view j, T the
    target's `transform`, D the `objective`. `target` says which network gives t_j: the online
    network itself, or one that follows it. With two views this is (D(p_a, t_b) + D(p_b, t_a)) / 2.
    All BatchNorm statistics are per view (see `embed_views`).
    """

    def __init__(
        self,
        encoder: nn.Module,
        projector: nn.Module,
        *,
        head: nn.Module,
        target: Target,
        objective: PairObjective,
        transform: nn.Module | None = None,
        regulariser: Regulariser | None = None,
    ) -> None:
        super().__init__()
        self.encoder = encoder
        self.projector = projector
        self.head: nn.Module = head
        self.target = target
        self.target_encoder = target.copy_of(encoder)
        self.target_projector = target.copy_of(projector)
        self.objective = objective
        self.transform = transform
        self.regulariser = regulariser

    def forward(self, *views: Any) -> Output:
        features, projection, prediction = zip(*self.embed_views(*views), strict=True)
        target = projection if self.target_encoder is None else self._targets(views)
        embedded = Embedded(features, projection, prediction, target)
        with exact(prediction) as predicted, exact(target) as compared:
            if self.transform is not None:
                compared = tuple(self.transform(t) for t in compared)
            loss = _mean([self.objective(predicted[i], compared[j]) for i, j in pairs(len(views))])
            return regularised(loss, embedded, self.regulariser)

    @torch.no_grad()
    def _targets(self, views: tuple[Any, ...]) -> tuple[Embeddings, ...]:
        assert self.target_encoder is not None and self.target_projector is not None
        return tuple(self.target_projector(self.target_encoder(view)) for view in views)

    @torch.no_grad()
    def after_step(self, embedded: Embedded, *, step: int, steps: int) -> None:
        refit(self.head, embedded.projection, step=step)
        refit(self.projector, embedded.projection, step=step)
        if embedded.target is not None:
            refit(self.transform, embedded.target, step=step)
        for copy, online in (
            (self.target_encoder, self.encoder),
            (self.target_projector, self.projector),
        ):
            if copy is not None:
                self.target.follow(copy, online, progress=(step + 1) / steps)


def pairs(views: int) -> list[tuple[int, int]]:
    """Every ordered pair of different views."""
    return list(permutations(range(views), 2))


def _mean(losses: list[Loss]) -> Loss:
    share = 1 / len(losses)
    total = share * losses[0].total
    for loss in losses[1:]:
        total = total + share * loss.total
    names = losses[0].terms
    terms = {name: torch.stack([loss.terms[name] for loss in losses]).mean() for name in names}
    return Loss(total=total, terms=terms)
