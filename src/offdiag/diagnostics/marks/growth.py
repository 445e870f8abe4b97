"""Growth rates of the directions of an output along a change of the weights.

For outputs z(w) on one batch, with covariance eigenvectors u_i of variance v_i, and a change dw of
which dz = J dw is the first-order effect,

    r_i = 2 cov(u_i z, u_i dz) / v_i - sum_j 2 cov(u_j z, u_j dz) / sum_j v_j

is the growth of log v_i relative to the whole. It is linear in dw, so that a step splits exactly
into decay and gradient, parts, and terms of the loss. A Jacobian-vector product is used and not a
finite step, whose noise adds variance to weak directions.
"""

import warnings
from collections.abc import Callable, Mapping

import torch
from jaxtyping import Float
from torch import Tensor, nn

from offdiag.results.readings import NAN


@torch.no_grad()
def growth_rates(
    outputs: Float[Tensor, "batch dim"], change: Float[Tensor, "batch dim"]
) -> Float[Tensor, " dim"]:
    """Relative growth of each covariance direction, strongest first, per unit of the change.

    0 for a change that only rescales or shifts all outputs. Directions without variance give nan.
    """
    z = outputs.double() - outputs.double().mean(0)
    dz = change.double() - change.double().mean(0)
    variance, axes = torch.linalg.eigh(z.T @ z / len(z))
    variance, axes = variance.flip(0), axes.flip(1)
    crossed = ((z @ axes) * (dz @ axes)).mean(0)
    rates = 2 * crossed / variance - 2 * crossed.sum() / variance.sum()
    return torch.where(variance > 1e-12 * variance[0], rates, torch.full_like(rates, NAN))


def output_change(
    embed: Callable[[], Tensor], modules: nn.Module, direction: Mapping[str, Tensor]
) -> tuple[Tensor, Tensor]:
    """Outputs and their first-order change along `direction`, by parameter name of `modules`.

    `embed` computes the outputs from the modules as they are. Parameters that `direction` lacks
    do not change. Buffers, modes, gradients and random numbers are left as they were.
    """
    parameters = dict(modules.named_parameters())
    buffers = {name: buffer.detach().clone() for name, buffer in modules.named_buffers()}
    fixed = {name: p.detach() for name, p in parameters.items()}
    primal = {name: fixed[name] for name in direction}
    tangent = {name: direction[name].to(fixed[name]) for name in direction}

    holder = _Called(modules, embed)

    def outputs(moving: dict[str, Tensor]) -> Tensor:
        names = {f"inside.{name}": value for name, value in {**fixed, **moving}.items()}
        states = {f"inside.{name}": value.clone() for name, value in buffers.items()}
        return torch.func.functional_call(holder, {**names, **states}, ())

    with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # torch.func still scripts at its first use
        made, change, *_ = torch.func.jvp(outputs, (primal,), (tangent,))
        return made, change


class _Called(nn.Module):
    """Gives `embed` the name forward, so that functional_call puts other weights under it."""

    def __init__(self, inside: nn.Module, embed: Callable[[], Tensor]) -> None:
        super().__init__()
        self.inside = inside
        self._embed = embed

    def forward(self) -> Tensor:
        return self._embed()


def weak_rate(rates: Float[Tensor, " dim"], share: float = 0.75) -> float:
    """The mean rate of the weakest directions, `share` of all; nan where none has variance."""
    weak = rates[int(len(rates) * (1 - share)) :]
    weak = weak[weak.isfinite()]
    return float(weak.mean()) if len(weak) else NAN
