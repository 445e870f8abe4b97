"""A head that filters the batch's own spectrum (Zhuo et al. 2023, rank differential mechanism)."""

from typing import Annotated, Literal

import torch
from torch import nn

from offdiag._distributed import mean_over_processes
from offdiag._types import Embeddings


class SpectralFilter(nn.Module):
    """p = U diag(s g(s)) V^T of the batch z = U diag(s) V^T, not centred, with g detached.

    g(s) = s^power, log s, log(1 + s) or log(1 + s^2), of singular values divided by sqrt(n). As
    an online head with power above 0 it lowers the rank of what is compared below the target's,
    which raises the projection's; power 0 is the identity; as a target's transform the power is
    below 0, and -1 whitens. Scaling z changes nothing under a cosine with a power, but it does
    with a logarithm. No learned weight. In training the batch is that of all processes.
    """

    def __init__(
        self,
        *,
        form: Annotated[Literal["power", "log", "log1p", "log1p-square"], "what g is"] = "power",
        power: Annotated[float, "exponent of g for form power"] = 1.0,
    ) -> None:
        super().__init__()
        self.form, self.power = form, power

    def forward(self, rows: Embeddings) -> Embeddings:
        if len(rows) == 1:
            return rows
        with torch.no_grad():
            exact = rows.double()
            moment = exact.T @ exact / len(rows)
            if self.training:  # one process alone may evaluate
                moment = mean_over_processes(moment)
            values, V = torch.linalg.eigh(moment)
            s = values.clamp_min(0).sqrt()
            g = torch.where(s > s[-1] * 1e-6, spectral_gain(s, self.form, self.power), 0.0)
            P = ((V * g) @ V.T).to(rows.dtype)
        return rows @ P


def spectral_gain(s: torch.Tensor, form: str, power: float) -> torch.Tensor:
    """g of the singular values, all above 0."""
    s = s.clamp_min(torch.finfo(s.dtype).tiny)
    if form == "power":
        return s**power
    return {"log": s.log(), "log1p": s.log1p(), "log1p-square": s.square().log1p()}[form]
