"""Where a network is: the statistics that its loss and its training depend on."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from offdiag._checks import ConfigError
from offdiag.theory.problem import Problem


@dataclass(frozen=True, kw_only=True)
class State:
    """Neurons and head, up to rotations of the noise, which nothing depends on.

    `inner_products[j, l]` = <w_j, v_l>. `noise_parts[j]` holds the coordinates of w_j off
    the features, in a basis of the span of all of them at the start: the flow never leaves
    that span, which is why the dimension does not matter (docs/theory.md, section 3).
    """

    inner_products: Float[np.ndarray, "neurons features"]
    noise_parts: Float[np.ndarray, "neurons neurons"]
    head: Float[np.ndarray, "neurons neurons"]


def draw(problem: Problem, generator: np.random.Generator) -> State:
    """A start w_j ~ N(0, I / dim), exactly as if drawn in full dimension.

    The noise parts are drawn by Bartlett's decomposition of a Wishart matrix with
    dim - features degrees of freedom; nothing of size dim is ever built.
    """
    m, k, d = problem.neurons, problem.features, problem.dim
    noise_parts = np.tril(generator.standard_normal((m, m)), -1)
    np.fill_diagonal(noise_parts, np.sqrt(generator.chisquare(d - k - np.arange(m))))
    return State(
        inner_products=generator.standard_normal((m, k)) / np.sqrt(d),
        noise_parts=noise_parts / np.sqrt(d),
        head=problem.head.astype(float),
    )


def starts(problem: Problem, count: int) -> list[State]:
    """`count` starts from the problem's seed; the i-th is the same whatever the count.

    A NumPy generator, not torch's: its seed sequences give every start a stream of its own.
    """
    return [
        draw(problem, np.random.default_rng(np.random.SeedSequence(problem.seed, spawn_key=(i,))))
        for i in range(count)
    ]


def pack(problem: Problem, state: State) -> Float[np.ndarray, " size"]:
    """The state as the kernels hold it."""
    m, k = problem.neurons, problem.features
    shapes = (state.inner_products.shape, state.noise_parts.shape, state.head.shape)
    if shapes != ((m, k), (m, m), (m, m)):
        raise ConfigError(
            f"a state of {m} neurons and {k} features has parts of shape {(m, k)}, {(m, m)} and "
            f"{(m, m)}; got {', '.join(map(str, shapes))}. Draw it from the same problem."
        )
    if np.any(state.head[~problem.trains] != problem.head[~problem.trains]):
        raise ConfigError(
            "the state's head differs from the problem's where the head does not train: "
            "give it as head_start of the problem."
        )
    neurons = np.concatenate([state.inner_products, state.noise_parts], axis=1).ravel()
    return np.concatenate([neurons, state.head[problem.trains]]).astype(float)


def unpack(
    problem: Problem, packed: Float[np.ndarray, "*batch size"]
) -> tuple[
    Float[np.ndarray, "*batch neurons features"],
    Float[np.ndarray, "*batch neurons neurons"],
    Float[np.ndarray, "*batch neurons neurons"],
]:
    """Inner products, noise parts and head of packed states."""
    m, k = problem.neurons, problem.features
    batch = packed.shape[:-1]
    neurons = packed[..., : m * (k + m)].reshape(*batch, m, k + m)
    head = np.broadcast_to(problem.head.astype(float), (*batch, m, m)).copy()
    head[..., problem.trains] = packed[..., m * (k + m) :]
    return neurons[..., :k], neurons[..., k:], head


def covariance(
    problem: Problem, noise_parts: Float[np.ndarray, "*batch neurons neurons"]
) -> Float[np.ndarray, "*batch neurons neurons"]:
    """R = noise^2 N N^T: the covariance of the neurons' responses to a noise patch."""
    return np.asarray(problem.noise**2 * noise_parts @ np.swapaxes(noise_parts, -1, -2))


def with_covariance(
    problem: Problem,
    inner_products: Float[np.ndarray, "neurons features"],
    noise: Float[np.ndarray, "neurons neurons"],
    head: Float[np.ndarray, "neurons neurons"],
) -> State:
    """A state whose noise has the covariance R: the inverse of `covariance`, up to rotation."""
    if problem.noise == 0:
        return State(inner_products=inner_products, noise_parts=0.0 * noise, head=head)
    values, vectors = np.linalg.eigh(noise)
    return State(
        inner_products=inner_products,
        noise_parts=vectors * np.sqrt(np.maximum(values, 0.0)) / problem.noise,
        head=head,
    )
