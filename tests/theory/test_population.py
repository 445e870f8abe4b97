import itertools

import numpy as np
import pytest
import torch
from torch import Tensor

from offdiag.theory import kernels
from offdiag.theory.flow import flow
from offdiag.theory.population import balance, loss, output_variance, velocity
from offdiag.theory.problem import GRADIENT, Problem
from offdiag.theory.state import State, covariance, draw, pack, starts, unpack

SHAPES = [(1, 1), (2, 2), (3, 2), (2, 4), (5, 3)]
VARIANTS = list(
    itertools.product(("half", "independent"), (3, 5), ("bn", "none"), ("target", "none", "online"))
)


def gaussian_moment(covariance: Tensor, power: int) -> Tensor:
    """E[u^q v^q] for all pairs, from the pairings of Isserlis' theorem written out."""
    a = covariance.diagonal()[:, None] * covariance.diagonal()[None, :]
    c = covariance
    if power == 3:
        return 9 * a * c + 6 * c**3
    return 225 * a**2 * c + 600 * a * c**3 + 120 * c**5


def plain_loss(problem: Problem, c: Tensor, n: Tensor, head: Tensor) -> Tensor:
    """The population loss with `detach` where a gradient is stopped."""
    k11, k12 = problem.patch_moments
    nu = (problem.patches - problem.feature_patches) / 2
    k = problem.features
    pi = torch.tensor(problem.probabilities or (1 / k,) * k, dtype=torch.float64)
    alpha = torch.tensor(problem.strengths, dtype=torch.float64)

    def branch(passes: float) -> tuple[Tensor, Tensor]:
        w, noise = (c, n) if passes else (c.detach(), n.detach())
        phi = (alpha * w) ** problem.power
        return phi, gaussian_moment(problem.noise**2 * noise @ noise.T, problem.power)

    to_online, to_target = GRADIENT[problem.stop_gradient]
    phi_f, moment_f = branch(to_online)
    phi_g, moment_g = branch(to_target)
    weight = head if to_online else head.detach()
    u = weight @ phi_f
    signal = k12 * (pi * u * phi_g).sum(1)
    variance_f = k11 * (pi * u**2).sum(1) + nu * (weight @ moment_f @ weight.T).diagonal()
    variance_g = k11 * (pi * phi_g**2).sum(1) + nu * moment_g.diagonal()
    if problem.normaliser == "bn":
        return (1 - signal / (variance_f * variance_g).sqrt()).sum()
    return (0.5 * (variance_f + variance_g) - signal).sum()


def plain_velocity(problem: Problem, state: State) -> tuple[float, State]:
    """Loss and minus its gradient, by autograd."""
    parts = [
        torch.tensor(part, dtype=torch.float64, requires_grad=True)
        for part in (state.inner_products, state.noise_parts, state.head)
    ]
    loss = plain_loss(problem, *parts)
    slopes = torch.autograd.grad(loss, parts, allow_unused=True)
    c, n, head = (
        np.zeros(part.shape) if slope is None else -slope.numpy()
        for part, slope in zip(parts, slopes, strict=True)
    )
    head = problem.head_lr_ratio * head * problem.trains
    return loss.item(), State(inner_products=c, noise_parts=n, head=head)


def some_problem(m: int, k: int, masks: str, power: int, normaliser: str, stop: str) -> Problem:
    return Problem(
        dim=40,
        strengths=tuple(float(k + 1 - f) for f in range(k)),
        probabilities=tuple(2 * (k - f) / (k * (k + 1)) for f in range(k)),
        patches=12,
        feature_patches=4,
        masks=masks,
        noise=0.8,
        neurons=m,
        power=power,
        normaliser=normaliser,
        stop_gradient=stop,
        head_lr_ratio=0.3,
        seed=7,
    )


def some_state(problem: Problem) -> State:
    generator = np.random.default_rng(1)
    start = draw(problem, generator)
    off = ~np.eye(problem.neurons, dtype=bool)
    return State(
        inner_products=3 * start.inner_products,
        noise_parts=start.noise_parts,
        head=problem.head + 0.4 * off * generator.standard_normal(off.shape),
    )


@pytest.mark.parametrize(("m", "k"), SHAPES)
@pytest.mark.parametrize(("masks", "power", "normaliser", "stop"), VARIANTS)
def test_closed_form_agrees_with_automatic_differentiation(m, k, masks, power, normaliser, stop):
    problem = some_problem(m, k, masks, power, normaliser, stop)
    state = some_state(problem)
    expected_loss, expected = plain_velocity(problem, state)
    found = velocity(problem, state)
    assert loss(problem, state) == pytest.approx(expected_loss, rel=1e-12)
    for part in ("inner_products", "noise_parts", "head"):
        wanted = getattr(expected, part)
        scale = max(1e-12, np.abs(wanted).max())
        np.testing.assert_allclose(getattr(found, part), wanted, rtol=1e-9, atol=1e-11 * scale)


def test_only_the_entries_that_train_move():
    trains = ((False, True, False), (False, False, False), (True, False, True))
    problem = Problem(neurons=3, head_trains=trains, head_start=((1.0, 0.1, 0.2),) * 3)
    state = draw(problem, np.random.default_rng(0))
    moved = velocity(problem, state).head != 0
    np.testing.assert_array_equal(moved, np.array(trains))


@pytest.mark.parametrize("masks", ["half", "independent"])
@pytest.mark.parametrize("power", [3, 5])
def test_closed_form_agrees_with_sampled_patches(masks, power, generator):
    problem = Problem(
        dim=8, strengths=(1.5, 1.0), patches=6, feature_patches=2, masks=masks, power=power
    )
    state = some_state(problem)
    samples, m, k = 400_000, 2, 2
    sign = torch.randint(0, 2, (samples,), generator=generator) * 2.0 - 1.0
    feature = torch.randint(0, k, (samples,), generator=generator)
    signal = sign * torch.tensor(problem.strengths)[feature]
    directions = torch.tensor(state.inner_products).float()[:, feature]  # (m, samples)
    noise = torch.randn(samples, problem.patches - 2, m, generator=generator)
    responses = problem.noise * noise @ torch.tensor(state.noise_parts).float().T
    patches = torch.cat([(directions * signal).T[:, None].expand(-1, 2, -1), responses], dim=1)
    keys = torch.rand(samples, problem.patches, generator=generator)
    first = keys.argsort(1).argsort(1) < 3 if masks == "half" else keys < 0.5
    active = patches**power
    f_1 = (active * first[..., None]).sum(1) @ torch.tensor(state.head).float().T
    f_2 = (active * ~first[..., None]).sum(1)
    normal_1, normal_2 = f_1 / f_1.std(0), f_2 / f_2.std(0)
    sampled = 0.5 * (normal_1 - normal_2).square().sum(1)
    error = sampled.std() / samples**0.5
    assert abs(sampled.mean() - loss(problem, state)) < 5 * error
    np.testing.assert_allclose(
        f_2.var(0),
        output_variance(problem, state.inner_products, covariance(problem, state.noise_parts)),
        rtol=0.05 if power == 3 else 0.3,
    )


@pytest.mark.parametrize(("m", "k"), SHAPES)
@pytest.mark.parametrize(("power", "normaliser", "stop"), sorted({v[1:] for v in VARIANTS}))
def test_jacobian_agrees_with_differences_of_the_velocity(m, k, power, normaliser, stop):
    problem = some_problem(m, k, "half", power, normaliser, stop)
    constants, y = problem.constants(), 2 * pack(problem, some_state(problem))
    work, wide, v = kernels.workspace(constants), kernels.wide_workspace(constants), y.copy()
    kernels.velocity(constants, y, v, work)
    found = np.empty((y.size, y.size))
    kernels.velocity_jacobian(constants, y, found, work, wide)
    for column in range(y.size):
        change = np.zeros(y.size)
        change[column] = 1e-5
        ahead, behind = y.copy(), y.copy()
        kernels.velocity(constants, y + change, ahead, work)
        kernels.velocity(constants, y - change, behind, work)
        expected = (ahead - behind) / 2e-5
        np.testing.assert_allclose(
            found[:, column], expected, rtol=1e-5, atol=1e-6 * np.abs(found).max()
        )


def test_jacobian_of_a_step_agrees_with_differences():
    problem = some_problem(3, 2, "half", 3, "bn", "target")
    k, y = problem.constants(), pack(problem, some_state(problem))
    z = np.append(y, 0.3)
    n = z.size
    rescaling, chosen, by_z, v = np.empty(7), np.empty(2, np.int64), np.empty(n), np.empty(n)
    work, wide = kernels.workspace(k), kernels.wide_workspace(k)
    kernels.velocity(k, y, v[:-1], work)
    v[-1] = np.exp(-z[-1])
    kernels.choose_rescaling(k, z, v, rescaling, chosen)
    found = np.empty((n, n))
    kernels.jacobian(k, z, v, found, np.empty((n - 1, n - 1)), rescaling, chosen, by_z, work, wide)
    for column in range(n):
        change = np.zeros(n)
        change[column] = 1e-6
        ahead, behind = np.empty(n), np.empty(n)
        kernels.rescaled(k, z + change, ahead, rescaling, chosen, work)
        kernels.rescaled(k, z - change, behind, rescaling, chosen, work)
        np.testing.assert_allclose(found[:, column], (ahead - behind) / 2e-6, rtol=1e-6, atol=1e-8)


def test_flow_conserves_the_balance_of_every_neuron():
    problem = Problem(neurons=3, strengths=(4.0, 3.0, 2.0), head_lr_ratio=0.1)
    for rtol in (1e-6, 1e-9):
        run = flow(problem, starts(problem, 1)[0], time=1e6, rtol=rtol)
        conserved = balance(problem, run.inner_products, run.noise, run.head)
        assert np.abs(run.head - np.eye(3)).max() > 0.01  # something moved
        assert np.abs(conserved / conserved[0] - 1).max() < 20 * rtol


def test_rotating_the_noise_changes_nothing():
    problem = some_problem(3, 2, "half", 3, "bn", "target")
    state = some_state(problem)
    turn = np.linalg.qr(np.random.default_rng(0).standard_normal((3, 3)))[0]
    turned = State(
        inner_products=state.inner_products, noise_parts=state.noise_parts @ turn, head=state.head
    )
    assert loss(problem, turned) == pytest.approx(loss(problem, state), rel=1e-13)
    np.testing.assert_allclose(
        velocity(problem, turned).noise_parts, velocity(problem, state).noise_parts @ turn
    )


def test_normalised_loss_does_not_see_the_size_of_a_neuron():
    problem = Problem()
    state = draw(problem, np.random.default_rng(0))  # the head is the identity
    sizes = np.array([[3.0], [0.2]])
    grown = State(
        inner_products=sizes * state.inner_products,
        noise_parts=sizes * state.noise_parts,
        head=state.head,
    )
    assert loss(problem, grown) == pytest.approx(loss(problem, state), rel=1e-13)


def test_collapse_and_success_have_the_same_least_loss():
    problem = Problem()
    none = np.zeros((2, 2))
    for features in ([[1.0, 0.0], [1.0, 0.0]], [[1.0, 0.0], [0.0, 1.0]]):
        settled = State(inner_products=np.array(features), noise_parts=none, head=np.eye(2))
        assert loss(problem, settled) == pytest.approx(problem.least_loss, rel=1e-12)


def test_packing_is_undone_by_unpacking():
    problem = Problem(neurons=3, head_trains=((False, True, False),) * 3)
    state = draw(problem, np.random.default_rng(0))
    c, n, head = unpack(problem, pack(problem, state))
    np.testing.assert_array_equal(c, state.inner_products)
    np.testing.assert_array_equal(n, state.noise_parts)
    np.testing.assert_array_equal(head, state.head)


def test_starts_have_the_law_of_neurons_drawn_in_full_dimension():
    problem = Problem(dim=12, neurons=2)
    drawn = starts(problem, 4000)
    noise = covariance(problem, np.stack([start.noise_parts for start in drawn]))
    rng = np.random.default_rng(3)
    full = rng.standard_normal((4000, 2, 10)) / np.sqrt(12)
    wishart = full @ np.swapaxes(full, 1, 2)
    for moment in (1, 2):
        np.testing.assert_allclose(
            (noise**moment).mean(0), (wishart**moment).mean(0), atol=0.05, rtol=0.05
        )
    products = np.stack([start.inner_products for start in drawn])
    assert products.var() == pytest.approx(1 / 12, rel=0.05)


def test_a_start_does_not_depend_on_how_many_are_drawn():
    problem = Problem()
    np.testing.assert_array_equal(
        starts(problem, 3)[2].inner_products, starts(problem, 10)[2].inner_products
    )
