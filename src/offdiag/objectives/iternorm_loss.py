"""INTL (Weng et al. 2024): iterative whitening with a trace term that makes it whiten."""

from typing import Annotated

from torch import nn

from offdiag._checks import at_least
from offdiag._types import Embeddings, Scalar
from offdiag.objectives.objective import Loss, detached, full_precision
from offdiag.transforms.whiten import iteratively_whitened


class INTL(nn.Module):
    """mean |w_a - w_b|^2 over samples, divided by dim, + trade_off * mean (var_j - 1)^2 of views.

    w is each view whitened by `iterations` Newton steps, which leaves the variance of wide
    batches below 1 (.33 at 64 isotropic dimensions after 4): the second term makes up for it.
    """

    def __init__(
        self,
        *,
        iterations: Annotated[int, "Newton steps of the whitening"] = 4,
        trade_off: Annotated[float, "weight of the trace term"] = 0.05,
    ) -> None:
        super().__init__()
        at_least("the number of Newton steps", iterations, 1)
        at_least("the weight of the trace term", trade_off, 0)
        self.iterations, self.trade_off = iterations, trade_off

    def forward(self, z_a: Embeddings, z_b: Embeddings) -> Loss:
        w_a, w_b = (
            iteratively_whitened(full_precision(z), iterations=self.iterations) for z in (z_a, z_b)
        )
        invariance = (w_a - w_b).square().mean()
        trace = (_variance_gap(w_a) + _variance_gap(w_b)) / 2
        return Loss(
            total=invariance + self.trade_off * w_a.shape[1] * trace,
            terms=detached(invariance=invariance, trace=trace),
        )


def _variance_gap(w: Embeddings) -> Scalar:
    return (w.var(0, correction=0) - 1).square().mean()
