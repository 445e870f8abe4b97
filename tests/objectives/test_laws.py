"""Each objective's own laws: values at collapse, at the best spread, and what it cannot see."""

import math

import pytest
import torch
import torch.nn.functional as F

from offdiag.objectives.alignment_uniformity import AlignmentUniformity
from offdiag.objectives.assignment import entropy_of_mean, mean_entropy, sinkhorn
from offdiag.objectives.barlow_twins import BarlowTwins
from offdiag.objectives.cca_ssg import CCASSG
from offdiag.objectives.coding_rate import EMPSSL, MEC, TotalCodingRate, coding_rate
from offdiag.objectives.cplearn import CPLearn
from offdiag.objectives.dimension_contrast import DimensionContrast, off_diagonal_square
from offdiag.objectives.frossl import FroSSL, log_purity, unit_columns
from offdiag.objectives.gedi import GEDIWithoutGeneration
from offdiag.objectives.infonce import InfoNCE
from offdiag.objectives.iternorm_loss import INTL
from offdiag.objectives.koleo import koleo
from offdiag.objectives.matrix_ssl import MatrixSSLObjective, matrix_cross_entropy
from offdiag.objectives.mmcr import MMCR, nuclear_norm
from offdiag.objectives.rdmreg import RDMReg, rectified_sample
from offdiag.objectives.sigreg import SIGReg, WeakSIGReg, epps_pulley, random_directions
from offdiag.objectives.simdino import SimDINOObjective
from offdiag.objectives.spectral_contrastive import SpectralContrastive, SpectralWhitened
from offdiag.objectives.tico import TiCo
from offdiag.objectives.vicreg import VICReg
from offdiag.objectives.visreg import VISReg, gaussian_quantiles
from offdiag.objectives.whitening_mse import WMSE

N, DIM = 64, 8
EQUAL = torch.ones(N, DIM, dtype=torch.float64)


def rotation(seed=3):
    draw = torch.Generator().manual_seed(seed)
    return torch.linalg.qr(torch.randn(DIM, DIM, generator=draw, dtype=torch.float64))[0]


# --- Barlow Twins, VICReg, CCA-SSG


def test_barlow_twins_is_zero_for_equal_white_views(white):
    assert BarlowTwins()(white, white).total.item() == pytest.approx(0, abs=1e-8)


def test_barlow_twins_of_collapsed_views_is_scale_times_dim():
    assert BarlowTwins(scale=0.5)(EQUAL, EQUAL).total.item() == pytest.approx(0.5 * DIM)


def test_barlow_twins_of_copied_columns_counts_all_pairs(batch):
    copied = batch[:, :1].expand(-1, DIM)
    expected = 5e-3 * DIM * (DIM - 1)
    assert BarlowTwins(scale=1.0)(copied, copied).total.item() == pytest.approx(expected, rel=1e-4)


def test_barlow_twins_ignores_scale_and_shift_of_a_column_but_not_rotation(batch, other):
    loss, moved = BarlowTwins(), 3 * batch + 5
    torch.testing.assert_close(
        loss(moved, other).total, loss(batch, other).total, rtol=1e-4, atol=0
    )
    turned = loss(batch @ rotation(), other @ rotation()).total
    assert not torch.isclose(turned, loss(batch, other).total, rtol=1e-3)


def test_vicreg_at_collapse_is_the_hinge_alone():
    total = VICReg()(EQUAL, EQUAL).total.item()
    assert total == pytest.approx(25 * 0.99)


def test_vicreg_is_zero_for_equal_white_views_and_still_after_a_rotation(white):
    for views in (1.05 * white, 1.05 * white @ rotation()):
        assert VICReg()(views, views).total.item() == pytest.approx(0, abs=1e-10)


def test_cca_ssg_is_zero_for_equal_white_views(white):
    assert CCASSG()(white, white).total.item() == pytest.approx(0, abs=1e-8)


# --- contrastive


def test_infonce_and_dcl_at_collapse_count_their_negatives():
    assert InfoNCE()(EQUAL, EQUAL).total.item() == pytest.approx(math.log(2 * N - 1))
    dcl = InfoNCE(decoupled=True)(EQUAL, EQUAL).total.item()
    assert dcl == pytest.approx(math.log(2 * N - 2))


def test_infonce_matches_the_cross_entropy_it_is(batch, other):
    rows = F.normalize(torch.cat((batch, other)), dim=1)
    logits = (rows @ rows.T / 0.5).fill_diagonal_(-torch.inf)
    partners = torch.arange(2 * N).roll(N)
    expected = F.cross_entropy(logits, partners)
    torch.testing.assert_close(InfoNCE()(batch, other).total, expected)


def test_sample_and_dimension_contrast_are_dual(batch):
    Z = batch
    left = off_diagonal_square(Z.T @ Z) + Z.square().sum(0).square().sum()
    right = off_diagonal_square(Z @ Z.T) + Z.square().sum(1).square().sum()
    torch.testing.assert_close(left, right)


def test_dimension_contrast_is_zero_for_equal_views_with_orthogonal_columns(frame):
    assert DimensionContrast()(frame, frame).total.item() == pytest.approx(0, abs=1e-12)


def test_the_spectral_loss_of_free_embeddings_ends_at_the_squared_eigenvalues():
    """On a finite augmentation graph, by its population form."""
    draw = torch.Generator().manual_seed(0)
    points, dim = 6, 3
    weights = torch.rand(points, points, generator=draw, dtype=torch.float64)
    joint = (weights + weights.T) / (weights + weights.T).sum()
    degree = joint.sum(1)
    normal = joint / (degree[:, None] * degree).sqrt()
    values, vectors = torch.linalg.eigh(normal)
    top = values[-dim:].clamp_min(0)
    z = vectors[:, -dim:] * top.sqrt() / degree.sqrt()[:, None]
    attraction = (joint * (z @ z.T)).sum()
    repulsion = (degree[:, None] * degree * (z @ z.T).square()).sum()
    expected = -top.square().sum()
    torch.testing.assert_close(repulsion - 2 * attraction, expected)


def test_the_spectral_loss_shortens_long_rows(batch, other):
    loss = SpectralContrastive()
    longer = loss(100 * batch, 100 * other).total
    torch.testing.assert_close(longer, loss(1000 * batch, 1000 * other).total)
    unit = F.normalize(EQUAL, dim=1)
    assert loss(unit, unit).total.item() == pytest.approx(-1)


def test_the_whitened_spectral_loss_is_zero_for_equal_white_views(white):
    assert SpectralWhitened()(white, white).total.item() == pytest.approx(0, abs=1e-10)
    assert SpectralWhitened()(0 * white, 0 * white).total.item() == pytest.approx(DIM)


def test_uniformity_is_zero_at_collapse_and_below_when_spread(batch):
    loss = AlignmentUniformity()
    assert loss(EQUAL, EQUAL).terms["uniformity"].item() == pytest.approx(0, abs=1e-9)
    assert loss(batch, batch).terms["uniformity"] < -2
    assert loss(batch, batch).terms["alignment"].item() == pytest.approx(0, abs=1e-9)


# --- coding rates


def test_the_coding_rate_is_of_either_side(batch):
    eye = torch.eye(N, dtype=torch.float64)
    of_rows = torch.linalg.slogdet(eye + 0.3 * batch @ batch.T).logabsdet
    torch.testing.assert_close(coding_rate(batch, gain=0.3), of_rows)


def test_total_coding_rate_at_collapse_and_at_a_tight_frame(frame):
    unit = F.normalize(EQUAL, dim=1)
    loss = TotalCodingRate(gain=2.0)
    collapsed, best = (loss(z, z).terms["coding_rate"].item() for z in (unit, frame))
    assert collapsed == pytest.approx(math.log(1 + 2 * N / DIM))
    assert best == pytest.approx(DIM * math.log(1 + 2 * N / DIM**2))


def test_emp_ssl_subtracts_the_coding_rate(frame):
    """Spread outputs have the lower loss: the sign that lightly 1.6.0 has turned."""
    unit = F.normalize(EQUAL, dim=1)
    assert EMPSSL()(frame, frame).total < EMPSSL()(unit, unit).total


def test_mec_of_order_one_is_minus_the_mean_cosine(batch, other):
    loss = MEC(order=1)(batch, other).total
    torch.testing.assert_close(loss, -F.cosine_similarity(batch, other).mean())


def test_the_series_of_mec_approaches_its_log_det(batch, other):
    exact = MEC(order=0)(batch, other).total
    errors = [abs(MEC(order=k)(batch, other).total - exact).item() for k in (1, 2, 4)]
    assert errors[0] > errors[1] > errors[2] and errors[2] < 1e-3


def test_simdino_of_a_tight_frame_has_the_best_rate(frame):
    rate = SimDINOObjective(eps=0.5)(frame, frame).terms["coding_rate"].item()
    assert rate == pytest.approx(0.5 * (1 + DIM / N) * math.log(1 + 1 / 0.5))


# --- spectra


def test_mmcr_of_equal_views_is_best_for_a_tight_frame(frame):
    assert MMCR()(frame, frame).total.item() == pytest.approx(-1)
    collapsed = MMCR()(EQUAL, EQUAL).total.item()
    assert collapsed == pytest.approx(-1 / DIM**0.5)


def test_the_nuclear_norm_is_the_sum_of_singular_values(batch):
    torch.testing.assert_close(nuclear_norm(batch), torch.linalg.svdvals(batch).sum())


def test_frossl_is_log_one_over_dim_when_white_and_zero_at_collapse(white, batch):
    assert FroSSL()(white, white).total.item() == pytest.approx(-math.log(DIM), rel=1e-6)
    copied = batch[:, :1].expand(-1, DIM)
    assert FroSSL()(copied, copied).total.item() == pytest.approx(0, abs=1e-9)
    z = unit_columns(batch)
    of_rows = (z @ z.T).square().sum().log() - 2 * (z @ z.T).trace().log()
    torch.testing.assert_close(log_purity(z), of_rows)


def test_tico_at_collapse_costs_its_weight_and_when_white_a_share(frame):
    for rows, expected in ((EQUAL, 8.0), (frame, 8.0 / DIM)):
        loss = TiCo(DIM).double()
        assert loss(rows, rows).terms["covariance"].item() * 8 == pytest.approx(expected)


def test_w_mse_ignores_an_affine_map_of_both_views(batch):
    near = batch + 0.1 * batch.roll(1, 0)
    loss = WMSE(ridge=0.0)
    lower = torch.tril(rotation()) + 2 * torch.eye(DIM)
    torch.testing.assert_close(
        loss(batch @ lower.T + 1, near @ lower.T - 2).total, loss(batch, near).total
    )
    with pytest.raises(torch.linalg.LinAlgError):
        loss(EQUAL, EQUAL)


def test_intl_needs_its_trace_term_where_four_steps_do_not_whiten(generator):
    wide = torch.randn(4096, 64, generator=generator)
    terms = INTL()(wide, wide).terms
    assert terms["invariance"] == 0
    assert terms["trace"].item() == pytest.approx((1 - 0.33) ** 2, abs=0.05)


def test_matrix_cross_entropy_is_least_at_the_matrix_itself(white):
    A = white.T @ white / N + 0.1 * torch.diag(torch.arange(DIM, dtype=torch.float64) / DIM)
    other = torch.eye(DIM, dtype=torch.float64) * 0.9
    assert matrix_cross_entropy(A, A) < matrix_cross_entropy(A, other)


def test_no_gradient_reaches_the_target_of_matrix_ssl_and_simdino(batch, other):
    for objective in (MatrixSSLObjective(), SimDINOObjective()):
        target = other.clone().requires_grad_()
        prediction = batch.clone().requires_grad_()
        objective(prediction, target).total.backward()
        assert target.grad is None and prediction.grad.abs().sum() > 0


# --- distributions


def test_sigreg_of_gaussian_rows_is_near_its_integral(generator):
    """1.053 whatever n and dim: the quadrature of (1 - exp(-t^2)) exp(-t^2 / 2) on [-3, 3]."""
    for n, dim in ((64, 4), (256, 32)):
        draws = [torch.randn(n, dim, generator=generator) for _ in range(60)]
        found = [epps_pulley(z, random_directions(64, like=z, step=0)).item() for z in draws]
        assert sum(found) / len(found) == pytest.approx(1.053, abs=0.12)


def test_sigreg_at_collapse_grows_with_the_batch():
    for n in (64, 256):
        rows = torch.zeros(n, DIM)
        found = epps_pulley(rows, random_directions(64, like=rows, step=0))
        assert found.item() == pytest.approx(0.402 * n, rel=0.01)


@pytest.mark.parametrize("objective", [SIGReg, WeakSIGReg, VISReg, RDMReg])
def test_random_objectives_draw_from_the_step_alone(objective, batch, other):
    first, second = objective(), objective()
    torch.testing.assert_close(first(batch, other).total, second(batch, other).total)
    first.refit((batch, other), step=4)
    second.load_state_dict(first.state_dict())
    assert second.step == 5
    assert (
        first(batch, other).total == second(batch, other).total != objective()(batch, other).total
    )


def test_visregs_scale_keeps_its_gradient_at_collapse():
    rows = (EQUAL + 1e-3 * torch.arange(N, dtype=torch.float64)[:, None]).requires_grad_()
    VISReg()(rows, rows).total.backward()
    assert rows.grad.abs().max() > 1e-4


def test_gaussian_quantiles_have_the_moments_of_a_gaussian():
    quantiles = gaussian_quantiles(10_001)
    assert quantiles.mean().item() == pytest.approx(0, abs=1e-4)
    assert quantiles.var().item() == pytest.approx(1, abs=1e-2)


def test_rdmreg_is_near_zero_for_outputs_of_its_own_law():
    rows = rectified_sample(4096, DIM, p=1.0, shift=0.0, step=7)
    assert RDMReg()(rows, rows).terms["distribution"] < 5e-3
    assert RDMReg()(0 * rows, 0 * rows).terms["distribution"] > 0.1


def test_a_generalised_gaussian_of_power_two_is_a_gaussian():
    rows = rectified_sample(20_000, 2, p=2.0, shift=0.0, step=0)
    assert (rows > 0).float().mean().item() == pytest.approx(0.5, abs=0.02)
    assert rows.square().mean().item() == pytest.approx(0.5, abs=0.03)


def test_koleo_is_scale_free_and_largest_at_collapse(batch):
    torch.testing.assert_close(koleo(batch), koleo(7 * batch))
    assert koleo(EQUAL).item() == pytest.approx(-math.log(2e-8), rel=1e-3)


# --- clusters


def test_sinkhorn_rows_sum_to_one_and_prototypes_are_even_only_in_the_limit(generator):
    scores = torch.randn(128, 16, generator=generator)
    gaps = []
    for iterations in (1, 3, 30):
        q = sinkhorn(scores, eps=0.05, iterations=iterations)
        torch.testing.assert_close(q.sum(1), torch.ones(128))
        gaps.append((q.sum(0) * 16 / 128 - 1).abs().max().item())
    assert gaps[0] > gaps[1] > gaps[2]


def test_sinkhorn_of_constant_scores_is_even():
    q = sinkhorn(torch.zeros(8, 4), eps=0.05, iterations=3)
    torch.testing.assert_close(q, torch.full((8, 4), 0.25))


def test_sinkhorn_ignores_a_shift_of_rows_and_of_columns(generator):
    scores = torch.randn(16, 4, generator=generator, dtype=torch.float64)
    moved = scores + torch.arange(16.0)[:, None] + torch.arange(4.0)
    even = [sinkhorn(s, eps=1.0, iterations=200) for s in (scores, moved)]
    torch.testing.assert_close(*even)


def test_entropies_of_assignments_tell_the_two_collapses_apart():
    one_hot = F.one_hot(torch.zeros(8, dtype=torch.long), 4).float()
    uniform = torch.full((8, 4), 0.25)
    assert entropy_of_mean(one_hot) == 0 and mean_entropy(one_hot) == 0
    assert mean_entropy(uniform).item() == pytest.approx(math.log(4))


def test_cplearn_of_equal_views_is_bounded_by_the_codes_it_can_use(generator):
    torch.manual_seed(0)
    rows = torch.randn(32, DIM, generator=generator)
    loss = CPLearn(DIM, codes=512, width=128)
    total = loss(rows, rows).total.item()
    assert math.log(512 / 32) - 1e-4 < total < math.log(512)


def test_gedi_is_bounded_by_half_the_clusters_times_their_logarithm(generator):
    torch.manual_seed(0)
    rows = torch.randn(512, DIM, generator=generator)
    terms = GEDIWithoutGeneration(DIM, clusters=8)(rows, rows).terms
    assert terms["uniformity"].item() >= 4 * math.log(8) - 1e-4
