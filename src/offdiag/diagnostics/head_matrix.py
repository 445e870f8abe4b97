"""The one rule by which a head is one matrix."""

from jaxtyping import Float
from torch import Tensor, nn


def head_matrix(head: nn.Module) -> Float[Tensor, "dim dim"] | None:
    """A detached copy of the matrix that `head` applies, or None if it is not one square matrix.

    A head is one matrix if it, or the only layer of a Sequential that it is, has a square
    `weight`: nn.Linear, every head of the library that is a matrix, a closed form. A bias is
    left out. A matrix of half precision comes back in float32.
    """
    while isinstance(head, nn.Sequential) and len(head) == 1:
        head = head[0]
    weight = getattr(head, "weight", None)
    if isinstance(weight, Tensor) and weight.ndim == 2 and weight.shape[0] == weight.shape[1]:
        matrix = weight.detach().clone()
        return matrix if matrix.dtype.itemsize >= 4 else matrix.float()
    return None
