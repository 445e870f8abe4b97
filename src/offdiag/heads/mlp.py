"""The head of BYOL and SimSiam."""

from typing import Annotated

from torch import Tensor, nn

from offdiag._checks import at_least
from offdiag._types import Embeddings


class MLPHead(nn.Module):
    """Linear, BatchNorm, ReLU, Linear: the head of BYOL and SimSiam.

    `hidden` is the width between; None takes dim. SimSiam uses a bottleneck of
    dim/4, BYOL a widening (256 -> 4096 -> 256). BatchNorm's statistics are those
    of the batch it is called on, one view at a time.
    """

    def __init__(
        self,
        dim: int,
        *,
        hidden: Annotated[int | None, "width between the two layers; None takes dim"] = None,
    ) -> None:
        super().__init__()
        at_least("the head's width", dim, 1)
        width = dim if hidden is None else hidden
        at_least("the head's hidden width", width, 1)
        self.dim = dim
        self.net = nn.Sequential(
            nn.Linear(dim, width, bias=False),
            nn.BatchNorm1d(width),
            nn.ReLU(inplace=True),
            nn.Linear(width, dim),
        )

    def forward(self, projection: Embeddings) -> Embeddings:
        output: Tensor = self.net(projection)
        return output
