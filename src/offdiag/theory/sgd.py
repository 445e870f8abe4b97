"""Sampled training on real patches in full dimension: what the closed form stands for."""

from time import perf_counter

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from offdiag._checks import ConfigError, at_least
from offdiag.results.trajectory import Trajectory
from offdiag.theory.descent import log_spaced
from offdiag.theory.problem import Problem
from offdiag.theory.state import State, pack


def sgd(
    problem: Problem,
    start: State,
    generator: torch.Generator,
    *,
    learning_rate: float,
    steps: int,
    batch: int | None = None,
    samples: int | None = None,
    points: int = 200,
) -> Trajectory:
    """Train the network on samples, from `start` placed in full dimension.

    With `batch` alone every step draws that many fresh samples. With `samples` a fixed set
    of that many is drawn first, and each step takes a random `batch` of it, or all of it
    where `batch` is None. Views are drawn anew at every step. The features are the first
    coordinates; where the patches stand is immaterial, so feature patches come first.

    Outputs are normalised by the mean and the biased variance of their own view over the
    batch, without an epsilon; gradients pass through those statistics. `loss` is that of
    the batch. Memory is batch x patches x dim doubles.
    """
    if not learning_rate > 0:
        raise ConfigError(f"learning_rate must be positive; got {learning_rate}.")
    at_least("steps", float(steps), 1.0)
    if batch is None and samples is None:
        raise ConfigError("give batch, for fresh samples, or samples, for a fixed set, or both.")
    size = batch if batch is not None else samples
    assert size is not None
    at_least("batch and samples", float(size), 2.0)
    if samples is not None and size > samples:
        raise ConfigError(f"batch must be at most samples = {samples}; got {batch}.")

    pack(problem, start)  # refuses a state of another problem
    began = perf_counter()
    W, E = place(problem, start), torch.tensor(start.head)
    trains = torch.tensor(problem.trains)
    fixed = None if samples is None else draw_samples(problem, samples, generator)
    saved = set(log_spaced(steps, points).tolist())
    times, products, noises, heads, losses = [], [], [], [], []
    failure = None
    for step in range(steps + 1):
        if fixed is None:
            patches = draw_samples(problem, size, generator)
        elif batch is None:
            patches = fixed
        else:
            patches = fixed[torch.randperm(len(fixed), generator=generator)[:batch]]
        W.requires_grad_(True)
        E.requires_grad_(True)
        loss = sampled_loss(problem, W, E, patches, draw_view(problem, size, generator))
        slopes = torch.autograd.grad(loss, (W, E), allow_unused=True, materialize_grads=True)
        W, E = W.detach(), E.detach()
        if not all(slope.isfinite().all() for slope in slopes):
            failure = f"stopped at step {step} of {steps}: the gradient is not finite"
            break
        if step in saved:
            rest = W[:, problem.features :]
            times.append(step * learning_rate)
            products.append(W[:, : problem.features].numpy().copy())
            noises.append((problem.noise**2 * rest @ rest.T).numpy())
            heads.append(E.numpy().copy())
            losses.append(loss.item())
        W = W - learning_rate * slopes[0]
        E = E - learning_rate * problem.head_lr_ratio * trains * slopes[1]
    return Trajectory(
        time=np.array(times),
        inner_products=np.array(products),
        noise=np.array(noises),
        head=np.array(heads),
        loss=np.array(losses),
        problem=problem.to_dict(),
        method={
            "name": "sgd",
            "learning_rate": learning_rate,
            "steps": steps,
            "batch": batch,
            "samples": samples,
        },
        seconds=perf_counter() - began,
        failure=failure,
    )


def place(problem: Problem, start: State) -> Float[Tensor, "neurons dim"]:
    """The neurons of a state in full dimension, double precision.

    The features are the first coordinates and the noise parts take the next ones: the law
    of the noise does not change under rotations, so no generality is lost.
    """
    W = torch.zeros(problem.neurons, problem.dim, dtype=torch.float64)
    W[:, : problem.features] = torch.tensor(start.inner_products)
    W[:, problem.features : problem.features + problem.neurons] = torch.tensor(start.noise_parts)
    return W


def draw_samples(
    problem: Problem, count: int, generator: torch.Generator
) -> Float[Tensor, "samples patches dim"]:
    """`count` samples: the feature patches first, then the noise patches."""
    k, P_0 = problem.features, problem.feature_patches
    chances = torch.tensor(problem.probabilities or (1 / k,) * k)
    feature = torch.multinomial(chances, count, replacement=True, generator=generator)
    sign = 2.0 * torch.randint(0, 2, (count,), generator=generator) - 1.0
    patches = problem.noise * torch.randn(
        count, problem.patches, problem.dim, generator=generator, dtype=torch.float64
    )
    patches[:, :, :k] = 0.0
    patches[:, :P_0] = 0.0
    value = sign * torch.tensor(problem.strengths)[feature]
    patches[torch.arange(count), :P_0, feature] = value[:, None].double()
    return patches


def draw_view(
    problem: Problem, count: int, generator: torch.Generator
) -> Bool[Tensor, "samples patches"]:
    """Which patches the first view keeps; the second keeps the others."""
    keys = torch.rand(count, problem.patches, generator=generator)
    if problem.masks == "independent":
        return keys < 0.5
    return keys.argsort(1).argsort(1) < problem.patches // 2


def sampled_loss(
    problem: Problem,
    W: Float[Tensor, "neurons dim"],
    E: Float[Tensor, "neurons neurons"],
    patches: Float[Tensor, "samples patches dim"],
    view: Bool[Tensor, "samples patches"],
) -> Float[Tensor, ""]:
    """Half the squared distance of the two normalised outputs, mean over samples."""
    active = (patches @ W.T) ** problem.power
    F = (active * view[..., None]).sum(1) @ E.T
    G = (active * ~view[..., None]).sum(1)
    if problem.normaliser == "bn":
        F, G = standardise(F), standardise(G)
    if problem.stop_gradient == "target":
        G = G.detach()
    elif problem.stop_gradient == "online":
        F = F.detach()
    return 0.5 * (F - G).square().sum(1).mean()


def standardise(outputs: Float[Tensor, "samples neurons"]) -> Float[Tensor, "samples neurons"]:
    """Mean 0 and variance 1 over the batch; divides by n and adds no epsilon."""
    centred = outputs - outputs.mean(0)
    return centred / centred.square().mean(0).sqrt()
