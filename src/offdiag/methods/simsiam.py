"""SimSiam (Chen & He 2021): both branches share weights, a stop-gradient tells them apart.

With the off-diagonal head and output BatchNorm this is the system of Wen & Li 2022.
"""

from typing import Annotated, Literal

from torch import nn

from offdiag.methods.predictive import Predictive
from offdiag.methods.regularised import Regulariser
from offdiag.normalisers import Normaliser, batch_normalise
from offdiag.objectives.prediction import PredictionObjective
from offdiag.targets.shared import SharedWeights


class SimSiam(Predictive):
    """Predict each view's projection from the other's: L = (D(p_a, z_b) + D(p_b, z_a)) / 2.

    D is `prediction_loss`: half the squared distance after `normalise`, with the gradient
    stopped at z.
    """

    def __init__(
        self,
        encoder: nn.Module,
        projector: nn.Module,
        *,
        head: nn.Module,
        normalise: Normaliser = batch_normalise,
        stop_gradient: Annotated[
            Literal["target", "none", "online"],
            "the side that gets no gradient; other than target is an ablation",
        ] = "target",
        transform: nn.Module | None = None,
        regulariser: Regulariser | None = None,
    ) -> None:
        super().__init__(
            encoder,
            projector,
            head=head,
            target=SharedWeights(),
            objective=PredictionObjective(normalise=normalise, stop_gradient=stop_gradient),
            transform=transform,
            regulariser=regulariser,
        )
        self.normalise = normalise
        self.stop_gradient = stop_gradient
