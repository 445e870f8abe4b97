"""BYOL (Grill et al. 2020): the online network predicts a slowly moving target network."""

import torch
from torch import nn

from offdiag._checks import within
from offdiag._types import View
from offdiag.encoders import Encoder
from offdiag.losses import Normaliser, alignment_loss, batch_normalise
from offdiag.methods.ema import cosine_momentum, frozen_copy, move_towards
from offdiag.methods.method import AbstractMethod, Output


class BYOL(AbstractMethod):
    """Predict the target's projection of each view from the other view's online projection.

    L = (D(p_a, z'_b) + D(p_b, z'_a)) / 2 with D = `alignment_loss`. After each step
    the target's parameters move towards the online ones, with a momentum that
    rises from `momentum` to 1 along a cosine. BatchNorm in the target uses the
    statistics of its own batch, and its running statistics are its own: they are
    not averaged. The target is never trained, so the gradient has only one side
    to take; ablate the stop-gradient with SimSiam.
    """

    def __init__(
        self,
        encoder: Encoder,
        projector: nn.Module,
        *,
        head: nn.Module,
        normalise: Normaliser = batch_normalise,
        momentum: float = 0.99,
    ) -> None:
        super().__init__()
        within("the target's momentum", momentum, 0, 1)
        self.encoder = encoder
        self.projector = projector
        self.head = head
        self.target_encoder = frozen_copy(encoder)
        self.target_projector = frozen_copy(projector)
        self.normalise = normalise
        self.momentum = momentum

    def forward(self, view_a: View, view_b: View) -> Output:
        (h_a, z_a, p_a), (h_b, z_b, p_b) = self.embed_views(view_a, view_b)
        with torch.no_grad():
            t_a = self.target_projector(self.target_encoder(view_a))
            t_b = self.target_projector(self.target_encoder(view_b))
        loss = 0.5 * (
            alignment_loss(p_a, t_b, normalise=self.normalise)
            + alignment_loss(p_b, t_a, normalise=self.normalise)
        )
        return Output(loss=loss, features=(h_a, h_b), projection=(z_a, z_b), prediction=(p_a, p_b))

    def after_step(self, progress: float) -> None:
        momentum = cosine_momentum(self.momentum, progress)
        move_towards(self.target_encoder, self.encoder, momentum=momentum)
        move_towards(self.target_projector, self.projector, momentum=momentum)
