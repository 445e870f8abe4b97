"""The objective of BYOL and SimSiam: pull the prediction to the target, stop one gradient."""

from torch import nn

from offdiag._checks import choice
from offdiag._types import Embeddings, Scalar
from offdiag.normalisers import Normaliser, batch_normalise
from offdiag.objectives.objective import Loss
from offdiag.registry import STOP_GRADIENTS


def prediction_loss(
    prediction: Embeddings,
    target: Embeddings,
    *,
    normalise: Normaliser = batch_normalise,
    stop_gradient: str = "target",
) -> Scalar:
    """Half the mean squared distance between normalised prediction and target, in [0, 2].

    With `batch_normalise` this is the paper's loss divided by dim, and equals
    1 - the mean over coordinates of the correlation between the two sides; with
    `l2_normalise` it is 1 - cosine: SimSiam's loss plus 1, half of BYOL's. With
    `no_normaliser` the range is [0, inf). A collapsed representation reaches the
    minimum too: the value says nothing about collapse.

    No gradient reaches `target` (`stop_gradient="target"`); with "online" none
    reaches `prediction`, with "none" both sides get it.
    """
    if stop_gradient == "target":
        target = target.detach()
    elif stop_gradient == "online":
        prediction = prediction.detach()
    p, z = normalise(prediction), normalise(target)
    return 0.5 * (p - z).square().sum(1).mean()


class PredictionObjective(nn.Module):
    """`prediction_loss` of one prediction and one target, as a part of a method."""

    def __init__(
        self, *, normalise: Normaliser = batch_normalise, stop_gradient: str = "target"
    ) -> None:
        super().__init__()
        self.normalise = normalise
        self.stop_gradient = choice("side for the stop-gradient", stop_gradient, STOP_GRADIENTS)

    def forward(self, prediction: Embeddings, target: Embeddings) -> Loss:
        loss = prediction_loss(
            prediction, target, normalise=self.normalise, stop_gradient=self.stop_gradient
        )
        return Loss(total=loss)
