"""Outputs of any shape to rows, one an image or one a token."""

from collections.abc import Callable

from torch import Tensor

from offdiag._types import Embeddings

Pooling = Callable[[Tensor], Tensor]


def mean_of_tokens(output: Tensor) -> Embeddings:
    """One row an image: (batch, tokens, dim) by the mean over tokens.

    Four dimensions or more are read as (batch, channels, height, width, ...) and averaged
    over all places. (batch, dim) stays as it is.
    """
    if output.ndim == 3:
        return output.mean(1)
    return output.flatten(2).mean(2) if output.ndim > 3 else output


def first_token(output: Tensor) -> Embeddings:
    """One row an image: the first token of (batch, tokens, dim), where the class token is."""
    return output[:, 0] if output.ndim == 3 else mean_of_tokens(output)


def all_tokens(output: Tensor) -> Embeddings:
    """One row a token, (batch * tokens, dim); of (batch, channels, height, ...) one a place.

    Two views pair token by token in order, whatever part of the image each one shows.
    """
    if output.ndim > 3:
        output = output.flatten(2).transpose(1, 2)
    return output.flatten(0, -2)
