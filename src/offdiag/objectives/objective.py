"""What an objective returns, and the two forms that objectives have."""

from collections.abc import Mapping
from typing import NamedTuple, Protocol, runtime_checkable

from offdiag._types import Embeddings, Scalar


class Loss(NamedTuple):
    """A loss with gradient, and its terms.

    `terms` are detached and without their weights: they are logged and drawn as loss/<name>.
    Empty where the loss is one term.
    """

    total: Scalar
    terms: Mapping[str, Scalar] = {}


@runtime_checkable
class Objective(Protocol):
    """A loss of the projections of all views: a method without a head is one of these.

    It is called with the rows of the whole batch, of all processes, one tensor of shape
    (batch, dim) a view, sample by sample in the same order.
    """

    def __call__(self, *projections: Embeddings) -> Loss: ...


@runtime_checkable
class PairObjective(Protocol):
    """A loss of one prediction and one target, both of shape (batch, dim).

    A predictive method averages it over all ordered pairs of different views.
    """

    def __call__(self, prediction: Embeddings, target: Embeddings) -> Loss: ...


def full_precision(rows: Embeddings) -> Embeddings:
    """The rows in float32 or more: determinants and spectra have no half precision."""
    return rows if rows.dtype.itemsize >= 4 else rows.float()


def detached(**terms: Scalar) -> dict[str, Scalar]:
    """The terms as `Loss` wants them: without a gradient."""
    return {name: term.detach() for name, term in terms.items()}
