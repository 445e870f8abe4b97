"""A student that follows an EMA teacher by an objective of its own: SimDINO, Matrix-SSL."""

from typing import Annotated

from torch import nn

from offdiag.methods.predictive import Predictive
from offdiag.methods.regularised import Regulariser
from offdiag.objectives.matrix_ssl import MatrixSSLObjective
from offdiag.objectives.simdino import SimDINOObjective
from offdiag.targets.ema import EMATarget


class SimDINO(Predictive):
    """SimDINO (Wu et al. 2025): cosine to an EMA teacher, and the coding rate of the student."""

    def __init__(
        self,
        encoder: nn.Module,
        projector: nn.Module,
        *,
        head: nn.Module,
        eps: Annotated[float, "distortion of the coding rate, above 0"] = 0.5,
        weight: Annotated[float, "weight of the coding rate"] = 1.0,
        momentum: Annotated[float, "momentum of the teacher at the start, in [0, 1]"] = 0.99,
        transform: nn.Module | None = None,
        regulariser: Regulariser | None = None,
    ) -> None:
        super().__init__(
            encoder,
            projector,
            head=head,
            target=EMATarget(momentum=momentum),
            objective=SimDINOObjective(eps=eps, weight=weight),
            transform=transform,
            regulariser=regulariser,
        )


class MatrixSSL(Predictive):
    """Matrix-SSL (Zhang et al. 2024): matrix cross-entropies with an EMA target and an MLP head."""

    def __init__(
        self,
        encoder: nn.Module,
        projector: nn.Module,
        *,
        head: nn.Module,
        alignment: Annotated[float, "weight of the second cross-entropy"] = 1.0,
        ridge: Annotated[float, "share of the identity in each matrix, in [0, 1]"] = 0.5,
        momentum: Annotated[float, "momentum of the target at the start, in [0, 1]"] = 0.99,
        transform: nn.Module | None = None,
        regulariser: Regulariser | None = None,
    ) -> None:
        super().__init__(
            encoder,
            projector,
            head=head,
            target=EMATarget(momentum=momentum),
            objective=MatrixSSLObjective(alignment=alignment, ridge=ridge),
            transform=transform,
            regulariser=regulariser,
        )
