"""A term that is added to a method's loss."""

from typing import Protocol, runtime_checkable

from offdiag.methods.method import Embedded, Output
from offdiag.objectives.objective import Loss


@runtime_checkable
class Regulariser(Protocol):
    """A weighted term of the embeddings of all views, added to the loss of any method."""

    def __call__(self, embedded: Embedded) -> Loss: ...


def regularised(loss: Loss, embedded: Embedded, regulariser: Regulariser | None) -> Output:
    """The output of a method whose own loss is `loss`, with the regulariser's added."""
    if regulariser is None:
        return Output(loss=loss.total, terms=loss.terms, embedded=embedded)
    extra = regulariser(embedded)
    main = dict(loss.terms) or {"objective": loss.total.detach()}
    return Output(loss=loss.total + extra.total, terms={**main, **extra.terms}, embedded=embedded)
