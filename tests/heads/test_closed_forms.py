"""Laws of the heads that no gradient trains."""

import pytest
import torch
import torch.nn.functional as F

from offdiag.heads.constrained import constrained
from offdiag.heads.direct_pred import direct_pred_head, direct_set
from offdiag.heads.isoloss import IsoHead
from offdiag.heads.regression import neumann, regression
from offdiag.heads.roots import newton_schulz, newton_schulz_root, stiefel_factor, visser_root
from offdiag.heads.spectral_filter import SpectralFilter
from offdiag.registry import HEADS

DIM = 6
CLOSED = [name for name, entry in HEADS.items() if "closed-form" in entry.tags]


def covariance(generator, spread=1.0):
    rows = torch.randn(64, DIM, generator=generator, dtype=torch.float64)
    scale = torch.exp(-spread * torch.arange(DIM, dtype=torch.float64))
    return (rows * scale).T @ (rows * scale) / 64


@pytest.mark.parametrize("alpha", [0.5, 1.0])
def test_the_spectrum_of_direct_set_is_the_power_plus_the_floor(alpha, generator):
    moment = covariance(generator)
    P = direct_set(moment, alpha=alpha, floor=0.01)
    values = torch.linalg.eigvalsh(moment)
    expected = (values / values[-1]) ** alpha + 0.01
    torch.testing.assert_close(torch.linalg.eigvalsh(P), expected)
    torch.testing.assert_close(P @ moment, moment @ P)


def test_direct_set_is_scale_free_and_turns_with_the_projection(generator):
    moment = covariance(generator)
    P = direct_set(moment, alpha=0.5, floor=0.01)
    torch.testing.assert_close(direct_set(7 * moment, alpha=0.5, floor=0.01), P)
    Q, _ = torch.linalg.qr(torch.randn(DIM, DIM, generator=generator, dtype=torch.float64))
    torch.testing.assert_close(direct_set(Q.T @ moment @ Q, alpha=0.5, floor=0.01), Q.T @ P @ Q)


def test_direct_set_of_power_zero_and_of_the_identity_is_a_multiple_of_the_identity(generator):
    eye = torch.eye(DIM, dtype=torch.float64)
    for moment, alpha in ((covariance(generator), 0.0), (3 * eye, 0.5)):
        torch.testing.assert_close(direct_set(moment, alpha=alpha, floor=0.1), 1.1 * eye)


def test_direct_set_of_rank_one_keeps_one_direction_above_its_floor(generator):
    u = torch.randn(DIM, generator=generator, dtype=torch.float64)
    values = torch.linalg.eigvalsh(direct_set(torch.outer(u, u), alpha=0.5, floor=0.01))
    assert values[-1].item() == pytest.approx(1.01)
    # an eigenvalue within rounding of 0 has a root of some 1e-8
    assert values[:-1].max().item() == pytest.approx(0.01, abs=1e-6)


def test_the_threshold_of_direct_set_is_where_decay_kills_a_direction():
    """w' = w^(2a) (1 - (1 + s2) w^(2a)) w - eta w has a live root iff eta <= 1 / (4 (1 + s2))."""
    for alpha in (0.5, 1.0):
        for noise in (0.0, 1.0, 4.0):
            edge = 1 / (4 * (1 + noise))
            for eta, lives in ((0.98 * edge, True), (1.02 * edge, False)):
                w = torch.linspace(1e-3, 2, 20_001, dtype=torch.float64)
                power = w ** (2 * alpha)
                speed = power * (1 - (1 + noise) * power) - eta
                assert bool((speed > 0).any()) == lives


@pytest.mark.parametrize("name", CLOSED)
def test_a_closed_form_is_set_by_refit_alone_and_kept_in_its_state(name, generator):
    torch.manual_seed(0)
    head, other = HEADS[name](DIM), HEADS[name](DIM)
    views = tuple(torch.randn(32, DIM, generator=generator) for _ in range(2))
    if hasattr(head, "refit"):
        before = head(views[0])
        head.refit(views, step=0)
        assert not torch.equal(head(views[0]), before)
    other.load_state_dict(head.state_dict())
    assert torch.equal(other(views[1]), head(views[1]))
    assert not [p for p in head.parameters() if p.requires_grad]


def test_the_moving_average_starts_at_the_first_batch(generator):
    head = direct_pred_head(DIM, memory=0.9)
    views = tuple(torch.randn(32, DIM, generator=generator) for _ in range(2))
    head.refit(views, step=0)
    expected = sum(v.T @ v / 32 for v in views) / 2
    torch.testing.assert_close(head.moment, expected)


def test_regression_solves_the_normal_equations(generator):
    a, b = (torch.randn(64, DIM, generator=generator, dtype=torch.float64) for _ in range(2))
    P = regression(a.T @ a, a.T @ b, ridge=0.0)
    assert (a.T @ (b - a @ P)).abs().max() < 1e-10
    A = torch.randn(DIM, DIM, generator=generator, dtype=torch.float64)
    turned = regression((a @ A).T @ (a @ A), (a @ A).T @ b, ridge=0.0)
    torch.testing.assert_close(turned, torch.linalg.solve(A, P))


def test_the_first_order_head_is_near_the_regression_where_the_moment_is_near_the_identity(
    generator,
):
    rows, _ = torch.linalg.qr(torch.randn(64, DIM, generator=generator, dtype=torch.float64))
    a = rows * torch.linspace(1.0, 0.95, DIM, dtype=torch.float64)
    b = a + 0.05 * torch.randn(64, DIM, generator=generator, dtype=torch.float64) / 8
    exact = regression(a.T @ a, a.T @ b, ridge=0.0)
    first = neumann(a.T @ a, a.T @ b, ridge=0.0)
    G = a.T @ a
    bound = torch.linalg.matrix_norm(torch.eye(DIM) - G / torch.linalg.matrix_norm(G, 2), 2) ** 2
    assert torch.linalg.matrix_norm(first - exact, 2) <= 1.01 * bound * 1.2


def test_newton_schulz_converges_on_strong_directions_and_cuts_weak_ones():
    q = torch.tensor([0.9, 3e-3, 1e-4], dtype=torch.float64)
    matrix = torch.diag(torch.cat((q, (1 - q.square().sum()).sqrt()[None] * 0)))
    matrix = torch.diag(torch.tensor([1.0, 3e-3, 1e-4], dtype=torch.float64))
    root, _ = newton_schulz(matrix, iterations=9)
    share = root.diagonal() / (matrix / matrix.norm()).diagonal().sqrt()
    assert share[0].item() == pytest.approx(1, abs=1e-6)
    assert share[1].item() == pytest.approx(1, abs=0.01)
    assert share[2].item() == pytest.approx(0.37, abs=0.02)


def test_iterated_roots_approach_the_root(generator):
    moment = covariance(generator, spread=0.1)
    for rule, steps, tolerance in ((newton_schulz_root, 30, 1e-8), (visser_root, 400, 1e-4)):
        scaled = moment / torch.linalg.matrix_norm(moment, 2)
        root = rule(scaled, iterations=steps)
        torch.testing.assert_close(root @ root, scaled, atol=tolerance, rtol=0)


def test_the_exact_polar_factor_is_a_multiple_of_the_identity(generator):
    factor = stiefel_factor(covariance(generator, spread=0.1), iterations=60)
    torch.testing.assert_close(factor, factor[0, 0] * torch.eye(DIM, dtype=torch.float64))


def test_the_spectral_filter_multiplies_the_singular_values(generator):
    rows = torch.randn(64, DIM, generator=generator, dtype=torch.float64)
    s = torch.linalg.svdvals(rows)
    for power in (0.0, 1.0, -1.0):
        filtered = torch.linalg.svdvals(SpectralFilter(power=power)(rows))
        expected = (s * (s / 8) ** power).sort(descending=True).values
        torch.testing.assert_close(filtered, expected)


def test_a_power_filter_changes_nothing_under_scaling_and_a_logarithm_does(generator):
    rows = torch.randn(64, DIM, generator=generator)
    for form, same in (("power", True), ("log1p", False)):
        head = SpectralFilter(form=form)
        cosine = F.cosine_similarity(head(rows), head(40 * rows)).min()
        assert bool(cosine > 0.9999) == same


def test_the_iso_heads_gradient_is_that_of_direct_pred_times_the_inverse(generator):
    views = tuple(torch.randn(32, DIM, generator=generator) for _ in range(2))
    iso, plain = IsoHead(DIM), direct_pred_head(DIM, memory=0.5, floor=0.1)
    for head in (iso, plain):
        head.refit(views, step=0)
    target = torch.randn(32, DIM, generator=generator)
    gradients = []
    for head in (iso, plain):
        z = views[0].clone().requires_grad_()
        (2 - 2 * F.cosine_similarity(head(z), target)).mean().backward()
        gradients.append(z.grad)
    torch.testing.assert_close(iso(views[0]), plain(views[0]))
    expected = torch.linalg.solve(plain.weight, gradients[1].T).T
    torch.testing.assert_close(gradients[0], expected, rtol=1e-3, atol=1e-6)


def test_constrained_heads_stay_on_their_sets(generator):
    W = torch.randn(DIM, DIM, generator=generator)
    assert torch.equal(constrained(W, "symmetric"), constrained(W, "symmetric").T)
    assert torch.equal(constrained(W, "diagonal"), W.diagonal().diag())
    norm = torch.linalg.eigvalsh(constrained(W, "spectral")).abs().max()
    assert norm.item() == pytest.approx(1, abs=1e-5)
