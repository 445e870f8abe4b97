"""A linear head from a random start."""

from torch import Tensor, nn

from offdiag._checks import at_least
from offdiag._types import Covariance, Embeddings


class LinearHead(nn.Module):
    """Linear head without bias from a random start, uniform in +-1/sqrt(dim) (torch's default)."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        at_least("the head's width", dim, 1)
        self.dim = dim
        self.linear = nn.Linear(dim, dim, bias=False)

    @property
    def weight(self) -> Covariance:
        """The matrix applied, shape (dim, dim)."""
        return self.linear.weight

    def forward(self, projection: Embeddings) -> Embeddings:
        output: Tensor = self.linear(projection)
        return output
