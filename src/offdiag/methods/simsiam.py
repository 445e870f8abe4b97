"""SimSiam (Chen & He 2021): both branches share weights, a stop-gradient tells them apart.

With the off-diagonal head and output BatchNorm this is the system of Wen & Li 2022.
"""

from functools import partial

from torch import nn

from offdiag._checks import choice
from offdiag._types import View
from offdiag.encoders import Encoder
from offdiag.losses import STOP_GRADIENTS, Normaliser, alignment_loss, batch_normalise
from offdiag.methods.method import AbstractMethod, Output


class SimSiam(AbstractMethod):
    """Predict each view's projection from the other's: L = (D(p_a, z_b) + D(p_b, z_a)) / 2.

    D is `alignment_loss`. All BatchNorm statistics are per view (see `embed_views`).
    """

    def __init__(
        self,
        encoder: Encoder,
        projector: nn.Module,
        *,
        head: nn.Module,
        normalise: Normaliser = batch_normalise,
        stop_gradient: str = "target",
    ) -> None:
        super().__init__()
        self.encoder = encoder
        self.projector = projector
        self.head = head
        self.normalise = normalise
        self.stop_gradient = choice("side for the stop-gradient", stop_gradient, STOP_GRADIENTS)

    def forward(self, view_a: View, view_b: View) -> Output:
        (h_a, z_a, p_a), (h_b, z_b, p_b) = self.embed_views(view_a, view_b)
        distance = partial(
            alignment_loss, normalise=self.normalise, stop_gradient=self.stop_gradient
        )
        loss = 0.5 * (distance(p_a, z_b) + distance(p_b, z_a))
        return Output(loss=loss, features=(h_a, h_b), projection=(z_a, z_b), prediction=(p_a, p_b))
