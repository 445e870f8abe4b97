"""BYOL (Grill et al. 2020): the online network predicts a slowly moving target network."""

from typing import Annotated

from torch import nn

from offdiag.methods.predictive import Predictive
from offdiag.methods.regularised import Regulariser
from offdiag.normalisers import Normaliser, batch_normalise
from offdiag.objectives.prediction import PredictionObjective
from offdiag.targets.ema import EMATarget


class BYOL(Predictive):
    """Predict the target's projection of each view from the other view's online projection.

    L = (D(p_a, z'_b) + D(p_b, z'_a)) / 2 with D = `prediction_loss`. After each step
    the target's parameters move towards the online ones, with a momentum that
    rises from `momentum` to 1 along a cosine. BatchNorm in the target uses the
    statistics of its own batch, and its running statistics are its own: they are
    not averaged. The target is never trained, so the gradient has only one side
    to take; ablate the stop-gradient with SimSiam.
    """

    def __init__(
        self,
        encoder: nn.Module,
        projector: nn.Module,
        *,
        head: nn.Module,
        normalise: Normaliser = batch_normalise,
        momentum: Annotated[
            float, "momentum of the EMA target at the start, in [0, 1]; it rises to 1"
        ] = 0.99,
        transform: nn.Module | None = None,
        regulariser: Regulariser | None = None,
    ) -> None:
        super().__init__(
            encoder,
            projector,
            head=head,
            target=EMATarget(momentum=momentum),
            objective=PredictionObjective(normalise=normalise),
            transform=transform,
            regulariser=regulariser,
        )
        self.normalise = normalise
        self.momentum = momentum
