"""Self-distillation through prototypes: DINO (Caron et al. 2021) and SwAV (Caron et al. 2020)."""

from typing import Annotated, Any

import torch
from torch import Tensor, nn

from offdiag._checks import above_zero, at_least, within
from offdiag._distributed import whole_batch
from offdiag._types import Embeddings
from offdiag.methods.method import AbstractMethod, Embedded, Output, exact
from offdiag.methods.predictive import pairs
from offdiag.methods.regularised import Regulariser, regularised
from offdiag.objectives.assignment import (
    Assignment,
    Prototypes,
    cross_entropy,
    entropy_of_mean,
    mean_entropy,
    sinkhorn,
)
from offdiag.objectives.objective import Loss, detached
from offdiag.targets.ema import EMATarget, frozen_copy


class DINO(AbstractMethod):
    """mean over pairs of different views of -sum t log s, t the teacher's assignment of view i.

    s = softmax(cosines / student_temperature); t = softmax((cosines - c) / temperature) of the
    teacher, an EMA of encoder, projector and prototypes, with c the moving average of its
    cosines, updated after use. Without the centre (`memory` 1) one prototype takes all; without
    sharpening the assignment becomes uniform. No gradient reaches the teacher.
    """

    centre: Tensor

    def __init__(
        self,
        encoder: nn.Module,
        projector: nn.Module,
        *,
        dim: int,
        prototypes: Annotated[int, "number of prototypes"] = 256,
        momentum: Annotated[float, "momentum of the teacher at the start, in [0, 1]"] = 0.99,
        temperature: Annotated[float, "of the teacher's assignments, above 0"] = 0.04,
        student_temperature: Annotated[float, "of the student's assignments, above 0"] = 0.1,
        memory: Annotated[float, "share of the centre kept at a step; 1 is no centring"] = 0.9,
        regulariser: Regulariser | None = None,
    ) -> None:
        super().__init__()
        at_least("the number of prototypes", prototypes, 2)
        within("the memory of the centre", memory, 0, 1)
        above_zero("the teacher's temperature", temperature)
        above_zero("the student's temperature", student_temperature)
        self.encoder, self.projector = encoder, projector
        self.prototypes = Prototypes(dim, prototypes)
        self.target = EMATarget(momentum=momentum)
        self.target_encoder = frozen_copy(encoder)
        self.target_projector = frozen_copy(projector)
        self.target_prototypes = frozen_copy(self.prototypes)
        self.temperature, self.student_temperature = temperature, student_temperature
        self.memory = memory
        self.regulariser = regulariser
        self.register_buffer("centre", torch.zeros(prototypes))

    def forward(self, *views: Any) -> Output:
        features, projection, _ = zip(*self.embed_views(*views), strict=True)
        with torch.no_grad():
            target = tuple(self.target_projector(self.target_encoder(view)) for view in views)
        with exact(projection) as rows, exact(target) as aims:
            taught = [self._assignment(aim) for aim in aims]
            logits = [self.prototypes(z) / self.student_temperature for z in rows]
            return regularised(
                _matched(taught, logits),
                Embedded(features, projection, None, target),
                self.regulariser,
            )

    @torch.no_grad()
    def _assignment(self, rows: Embeddings) -> Assignment:
        return ((self.target_prototypes(rows) - self.centre) / self.temperature).softmax(1)

    @torch.no_grad()
    def after_step(self, embedded: Embedded, *, step: int, steps: int) -> None:
        super().after_step(embedded, step=step, steps=steps)
        assert embedded.target is not None
        logits = torch.cat([self.target_prototypes(whole_batch(t)) for t in embedded.target])
        self.centre.mul_(self.memory).add_((1 - self.memory) * logits.mean(0))
        for copy, online in (
            (self.target_encoder, self.encoder),
            (self.target_projector, self.projector),
            (self.target_prototypes, self.prototypes),
        ):
            self.target.follow(copy, online, progress=(step + 1) / steps)


class SwAV(AbstractMethod):
    """mean over pairs of different views of -sum q log p, q the Sinkhorn assignment of view i.

    p = softmax(cosines / temperature) with trainable prototypes; q spreads each view's batch
    evenly over the prototypes and gets no gradient. Weights are shared.
    """

    def __init__(
        self,
        encoder: nn.Module,
        projector: nn.Module,
        *,
        dim: int,
        prototypes: Annotated[int, "number of prototypes"] = 128,
        temperature: Annotated[float, "of the assignments that are trained, above 0"] = 0.1,
        eps: Annotated[float, "smoothness of the Sinkhorn assignment, above 0"] = 0.05,
        iterations: Annotated[int, "Sinkhorn iterations; three leave some imbalance"] = 3,
        regulariser: Regulariser | None = None,
    ) -> None:
        super().__init__()
        at_least("the number of prototypes", prototypes, 2)
        at_least("the number of Sinkhorn iterations", iterations, 1)
        above_zero("the temperature", temperature)
        above_zero("the smoothness", eps)
        self.encoder, self.projector = encoder, projector
        self.prototypes = Prototypes(dim, prototypes)
        self.temperature, self.eps, self.iterations = temperature, eps, iterations
        self.regulariser = regulariser

    def forward(self, *views: Any) -> Output:
        features, projection, _ = zip(*self.embed_views(*views), strict=True)
        with exact(projection) as rows:
            scores = [self.prototypes(z) for z in rows]
            spread = [
                sinkhorn(s.detach(), eps=self.eps, iterations=self.iterations) for s in scores
            ]
            loss = _matched(spread, [s / self.temperature for s in scores])
            return regularised(loss, Embedded(features, projection), self.regulariser)


def _matched(assignments: list[Tensor], logits: list[Tensor]) -> Loss:
    losses = [cross_entropy(assignments[i], logits[j]) for i, j in pairs(len(logits))]
    terms = detached(
        entropy=torch.stack([mean_entropy(t) for t in assignments]).mean(),
        entropy_of_mean=torch.stack([entropy_of_mean(t) for t in assignments]).mean(),
    )
    return Loss(total=torch.stack(losses).mean(), terms=terms)
