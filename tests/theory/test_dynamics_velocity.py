"""Every velocity is minus the sampled gradient of the loss that it is said to come from.

One reference a row of `DYNAMICS`: it draws a state, computes the loss on samples with `detach`
where a gradient is stopped, and differentiates it. Where a loss depends on second moments only,
the samples are matched to them exactly and the agreement is that of rounding.
"""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from offdiag.theory.augmentation_graph import AugmentationGraph
from offdiag.theory.cosine import Cosine
from offdiag.theory.deep_linear import DeepLinear
from offdiag.theory.direct_set import DirectSet
from offdiag.theory.dynamics import DYNAMICS
from offdiag.theory.isoloss import IsoLoss
from offdiag.theory.linear_byol import LinearBYOL, LinearBYOLModes
from offdiag.theory.problem import Problem
from offdiag.theory.rank_differential import RankDifferential
from offdiag.theory.self_predictive import SelfPredictive
from offdiag.theory.sgd import draw_samples, draw_view, place, standardise
from offdiag.theory.state import State as Network
from offdiag.theory.stepwise_barlow import StepwiseBarlow
from offdiag.theory.wen_li import WenLi

EXACT = 1e-9


def matched(*sizes: int) -> list[Tensor]:
    """Samples of independent blocks whose second moments are exactly the identity."""
    draws = np.random.default_rng(5).standard_normal((4 * sum(sizes), sum(sizes)))
    orthonormal = np.linalg.qr(draws)[0] * len(draws) ** 0.5
    return list(torch.tensor(orthonormal).split(sizes, dim=1))


def tensors(state) -> list[Tensor]:
    return [torch.tensor(np.array(one), requires_grad=True) for one in state.values()]


def minus_gradient(loss: Tensor, parts: list[Tensor]) -> list[np.ndarray]:
    return [-one.numpy() for one in torch.autograd.grad(loss, parts)]


def power_of(matrix: Tensor, power: float) -> Tensor:
    """A power of a positive definite matrix that no gradient passes through."""
    values, vectors = torch.linalg.eigh(matrix.detach())
    return vectors @ torch.diag(values**power) @ vectors.T


def half_square(difference: Tensor) -> Tensor:
    return 0.5 * difference.square().sum(1).mean()


def two_views(size: int, noise_variance) -> tuple[Tensor, Tensor]:
    x, first, second = matched(size, size, size)
    scale = torch.as_tensor(noise_variance, dtype=torch.float64).sqrt()
    return x + scale * first, x + scale * second


def linear_byol(dynamics: LinearBYOL, generator):
    state = dict(dynamics.start(generator))
    if dynamics.ema_rate:
        state["target"] = state["target"] + generator.standard_normal(state["target"].shape)
    W, P, *rest = tensors(state)
    W_a = (rest[0] if rest else W).detach()
    x_1, x_2 = two_views(dynamics.inputs, dynamics.noise_variance)
    loss = half_square(x_1 @ W.T @ P.T - x_2 @ W_a.T)
    encoder, head = minus_gradient(loss, [W, P])
    head = dynamics.head_lr_ratio * head - dynamics.weight_decay * state["head"]
    sampled = {
        "encoder": encoder - dynamics.weight_decay * state["encoder"],
        "head": (head + head.T) / 2 if dynamics.symmetric_head else head,
    }
    if dynamics.ema_rate:
        sampled["target"] = dynamics.ema_rate * (state["encoder"] - state["target"])
    return state, sampled, EXACT


def linear_byol_modes(dynamics: LinearBYOLModes, generator):
    n = dynamics.modes
    state = {"head": generator.uniform(0.1, 1, n), "encoder": generator.uniform(0.1, 1, n)}
    U, V = (torch.tensor(np.linalg.qr(generator.standard_normal((n, n)))[0]) for _ in range(2))
    p, s = (torch.tensor(one) for one in state.values())
    W = (U @ torch.diag(s.sqrt()) @ V).requires_grad_()
    P = (U @ torch.diag(p) @ U.T).requires_grad_()
    x_1, x_2 = two_views(n, dynamics.noise_variance)
    loss = half_square(x_1 @ W.T @ P.T - dynamics.target_scale * x_2 @ W.detach().T)
    encoder, head = minus_gradient(loss, [W, P])
    singular = np.diag(U.numpy().T @ encoder @ V.numpy().T)
    eta = dynamics.weight_decay
    sampled = {
        "head": dynamics.head_lr_ratio * np.diag(U.numpy().T @ head @ U.numpy())
        - eta * state["head"],
        "encoder": 2 * np.sqrt(state["encoder"]) * singular - 2 * eta * state["encoder"],
    }
    return state, sampled, EXACT


def direct_set(dynamics: DirectSet, generator):
    n = len(dynamics.noise_variances)
    state = {"encoder": generator.standard_normal((n, n))}
    (W,) = tensors(state)
    x_1, x_2 = two_views(n, dynamics.noise_variances)
    P = power_of(W @ W.T, dynamics.power)
    (slope,) = minus_gradient(half_square(x_1 @ W.T @ P - (x_2 @ W.T).detach()), [W])
    return state, {"encoder": slope - dynamics.weight_decay * state["encoder"]}, EXACT


def isoloss(dynamics: IsoLoss, generator):
    state = dynamics.start(generator)
    (W,) = tensors(state)
    x_1, x_2 = two_views(len(W), dynamics.noise_variance)
    P = power_of(W @ W.T, dynamics.power)
    z, target = x_1 @ W.T, x_2 @ W.T
    if not dynamics.stop_gradient:
        loss = half_square(z @ P - target)
    elif dynamics.equalised:
        loss = half_square(z - (target + z - z @ P).detach())
    else:
        loss = half_square(z @ P - target.detach())
    return state, {"encoder": minus_gradient(loss, [W])[0]}, EXACT


def cosine(dynamics: Cosine, generator):
    many = replace(dynamics, modes=160, scale=1.0, weight_decay=0.0)
    state = many.start(generator)
    p, s = (torch.tensor(one) for one in state.values())
    P = torch.diag(p).requires_grad_()
    Phi = torch.diag(s.sqrt()).requires_grad_()
    draws = torch.Generator().manual_seed(1)
    x, first, second = torch.randn(3, 8_000, many.modes, generator=draws, dtype=torch.float64)
    sigma = many.noise_variance**0.5
    prediction = (x + sigma * first) @ Phi.T @ P.T
    target = ((x + sigma * second) @ Phi.T).detach()
    loss = -torch.cosine_similarity(prediction, target).mean()
    features, head = minus_gradient(loss, [Phi, P])
    sampled = {
        "head": np.diag(head).copy(),
        "features": 2 * np.sqrt(state["features"]) * np.diag(features),
    }
    return state, sampled, 0.08, many


def self_predictive(dynamics: SelfPredictive, generator):
    state = dict(dynamics.start(generator))
    state["representation"] = generator.standard_normal(state["representation"].shape)
    Phi, *rest = tensors(state)
    T = torch.tensor(np.array(dynamics.chain))
    target = T @ Phi
    P = rest[0] if rest else torch.linalg.lstsq(Phi, target).solution.detach()
    if dynamics.stop_gradient:
        target = target.detach()
    loss = 0.5 * (Phi @ P - target).square().sum()
    slopes = minus_gradient(loss, [Phi, *rest])
    eta = dynamics.weight_decay
    sampled = {"representation": slopes[0] - eta * state["representation"]}
    if rest:
        sampled["head"] = dynamics.head_lr_ratio * slopes[1] - eta * state["head"]
    return state, sampled, EXACT


def stepwise_barlow(dynamics: StepwiseBarlow, generator):
    gamma = torch.tensor(dynamics.eigenvalues, dtype=torch.float64)
    n = len(gamma)
    state = {"encoder": generator.standard_normal((dynamics.width, n))}
    (W,) = tensors(state)
    u, first, second = matched(n, n, n)
    z_1 = (gamma.abs().sqrt() * u + first) @ W.T
    z_2 = (gamma.sign() * gamma.abs().sqrt() * u + second) @ W.T
    C = (z_1.T @ z_2 + z_2.T @ z_1) / (2 * len(u))
    loss = (C - torch.eye(dynamics.width)).square().sum()
    return state, {"encoder": minus_gradient(loss, [W])[0]}, EXACT


def deep_linear(dynamics: DeepLinear, generator):
    n = len(dynamics.covariances)
    state = {
        "layers": generator.standard_normal((dynamics.depth, n, n)),
        "decoder": generator.standard_normal((n, n)),
    }
    layers, V = tensors(state)
    covariance, influence = (
        torch.tensor(one, dtype=torch.float64)
        for one in (dynamics.covariances, dynamics.influences)
    )
    u, e = matched(n, n)
    x = (covariance / influence).sqrt() * u
    y = influence * x + 0.3 * e

    def encode(inputs: Tensor) -> Tensor:
        for layer in layers:
            inputs = inputs @ layer.T
        return inputs

    target = y if dynamics.reconstruct else encode(y).detach()
    moved, decoder = minus_gradient(half_square(encode(x) @ V.T - target), [layers, V])
    return state, {"layers": moved, "decoder": decoder}, EXACT


def rank_differential(dynamics: RankDifferential, generator):
    state = dynamics.start(generator)
    (W,) = tensors(state)
    F = (W @ W.T).detach()
    F = F / F.diagonal().mean()
    online, target = power_of(F, dynamics.online_power / 2), power_of(F, dynamics.target_power / 2)
    x_1, x_2 = two_views(dynamics.modes, dynamics.noise_variance)
    loss = half_square(x_1 @ W.T @ online - (x_2 @ W.T @ target).detach())
    return state, {"encoder": minus_gradient(loss, [W])[0]}, EXACT


def augmentation_graph(dynamics: AugmentationGraph, generator):
    table = torch.tensor(np.array(dynamics.augmentations))
    pairs = torch.einsum("xa,xb->ab", table, table) / len(table)
    weight = table.mean(0)
    state = {"features": generator.standard_normal((len(weight), dynamics.width))}
    (F,) = tensors(state)
    f = F / weight.sqrt()[:, None]
    inner = f @ f.T
    loss = -2 * (pairs * inner).sum() + (torch.outer(weight, weight) * inner.square()).sum()
    return state, {"features": minus_gradient(loss, [F])[0]}, EXACT


def wen_li(dynamics: WenLi, generator):
    problem = dynamics.problem
    state = dict(dynamics.start(generator))
    state["inner_products"] = np.array([[1.0, 0.3], [-0.2, 0.9]])
    state["noise_parts"] = np.array([[0.3, 0.0], [0.1, 0.4]])
    state["head"] = np.array([[1.0, 0.3], [-0.2, 1.0]])
    draws = torch.Generator().manual_seed(2)
    patches = draw_samples(problem, 200_000, draws)
    view = draw_view(problem, 200_000, draws)[..., None]
    W = place(problem, Network(**state)).requires_grad_()
    E = torch.tensor(state["head"], requires_grad=True)
    active = (patches @ W.T) ** problem.power
    F, G = (active * view).sum(1) @ E.T, (active * ~view).sum(1).detach()
    loss = half_square(standardise(F) - standardise(G))
    neurons, head = minus_gradient(loss, [W, E])
    k, m = problem.features, problem.neurons
    sampled = {
        "inner_products": neurons[:, :k],
        "noise_parts": neurons[:, k : k + m],
        "head": problem.head_lr_ratio * head * problem.trains,
    }
    return state, sampled, 0.08


REFERENCES = {
    "wen-li": wen_li,
    "linear-byol": linear_byol,
    "linear-byol-modes": linear_byol_modes,
    "direct-set": direct_set,
    "isoloss": isoloss,
    "cosine": cosine,
    "self-predictive": self_predictive,
    "stepwise-barlow": stepwise_barlow,
    "deep-linear": deep_linear,
    "rank-differential": rank_differential,
    "augmentation-graph": augmentation_graph,
}

CASES = [
    ("wen-li", WenLi(problem=Problem(dim=6, strengths=(1.5, 1.0), patches=4))),
    ("linear-byol", LinearBYOL(head_lr_ratio=3.0)),
    ("linear-byol", LinearBYOL(inputs=3, outputs=5, symmetric_head=True, ema_rate=0.3)),
    ("linear-byol-modes", LinearBYOLModes(head_lr_ratio=2.0, target_scale=0.8)),
    ("direct-set", DirectSet()),
    ("direct-set", DirectSet(power=0.5)),
    ("isoloss", IsoLoss(noise_variance=0.2)),
    ("isoloss", IsoLoss(noise_variance=0.2, equalised=False)),
    ("isoloss", IsoLoss(noise_variance=0.2, equalised=False, stop_gradient=False)),
    ("cosine", Cosine()),
    ("self-predictive", SelfPredictive(head_lr_ratio=0.3, weight_decay=0.1)),
    ("self-predictive", SelfPredictive(head_lr_ratio=np.inf, symmetric_chain=False)),
    ("self-predictive", SelfPredictive(stop_gradient=False, symmetric_chain=False)),
    ("stepwise-barlow", StepwiseBarlow(eigenvalues=(1.0, 0.5, 0.2, -0.3))),
    ("deep-linear", DeepLinear(depth=3)),
    ("deep-linear", DeepLinear(depth=3, reconstruct=True)),
    ("rank-differential", RankDifferential(noise_variance=0.1)),
    ("rank-differential", RankDifferential(online_power=0.0, target_power=-1.0)),
    ("augmentation-graph", AugmentationGraph()),
]


def test_every_dynamics_has_a_reference_and_a_case():
    assert set(REFERENCES) == set(DYNAMICS) == {name for name, _ in CASES}


@pytest.mark.parametrize(
    ("name", "dynamics"), CASES, ids=[f"{n}-{i}" for i, (n, _) in enumerate(CASES)]
)
def test_velocity_is_minus_the_sampled_gradient(name, dynamics):
    state, sampled, tolerance, *other = REFERENCES[name](dynamics, np.random.default_rng(3))
    velocity = (other[0] if other else dynamics).velocity(0.0, state)
    assert list(velocity) == list(state)
    for part, slope in velocity.items():
        error = np.linalg.norm(slope - sampled[part]) / np.linalg.norm(sampled[part])
        assert error < tolerance, f"{part}: {error:.2e}"


def test_the_sixth_order_term_does_not_agree_with_sampled_gradients():
    state, sampled, tolerance, many = cosine(Cosine(), np.random.default_rng(3))
    velocity = replace(many, order="paper").velocity(0.0, state)
    error = np.linalg.norm(velocity["head"] - sampled["head"]) / np.linalg.norm(sampled["head"])
    assert error > 1.3 * tolerance
