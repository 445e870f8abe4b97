"""Laws that decide whether an implementation of a dynamics is right."""

import numpy as np
import pytest

from offdiag._checks import ConfigError
from offdiag.theory.augmentation_graph import AugmentationGraph, complexity
from offdiag.theory.claim import ClaimState
from offdiag.theory.cosine import Cosine, Regime
from offdiag.theory.deep_linear import DeepLinear, measured_times
from offdiag.theory.direct_set import DirectSet, matrix_power
from offdiag.theory.dynamics import DYNAMICS, Learned
from offdiag.theory.isoloss import IsoLoss, time_to_half
from offdiag.theory.linear_byol import LinearBYOL, LinearBYOLModes
from offdiag.theory.rank_differential import RankDifferential, effective_rank
from offdiag.theory.self_predictive import SelfPredictive
from offdiag.theory.solve import generators, solve
from offdiag.theory.stepwise_barlow import StepwiseBarlow, kernel_eigenvalues

RNG = np.random.default_rng


@pytest.mark.parametrize("ratio", [0.3, 1.0, 4.0])
def test_balance_of_linear_byol_decays_with_the_weights(ratio):
    dynamics = LinearBYOL(head_lr_ratio=ratio, weight_decay=0.1)
    run = solve(dynamics, dynamics.start(RNG(0)), time=8.0, rtol=1e-9)
    imbalance = dynamics.readings(run)["imbalance"]
    np.testing.assert_allclose(imbalance, imbalance[0] * np.exp(-0.2 * run.time), rtol=1e-5)


def test_modes_of_linear_byol_follow_its_matrices():
    modes = LinearBYOLModes(modes=3, head_lr_ratio=2.0)
    start = {"head": np.array([0.1, 0.3, 0.6]), "encoder": np.array([0.2, 0.05, 0.4])}
    U, V = (np.linalg.qr(RNG(i).standard_normal((3, 3)))[0] for i in (1, 2))
    matrices = LinearBYOL(inputs=3, outputs=3, head_lr_ratio=2.0)
    run = solve(
        matrices,
        {"encoder": (U * np.sqrt(start["encoder"])) @ V, "head": (U * start["head"]) @ U.T},
        time=10.0,
        rtol=1e-9,
        at=[10.0],
    )
    modes_run = solve(modes, start, time=10.0, rtol=1e-9, at=[10.0])
    W, P = run.states["encoder"][-1], run.states["head"][-1]
    np.testing.assert_allclose(np.diag(U.T @ P @ U), modes_run.states["head"][-1], rtol=1e-6)
    np.testing.assert_allclose(
        np.diag(U.T @ W @ W.T @ U), modes_run.states["encoder"][-1], rtol=1e-6
    )


def test_modes_rest_at_the_edges_of_the_basin():
    modes = LinearBYOLModes(modes=2, target_scale=0.9, noise_variance=0.3, head_lr_ratio=3.0)
    assert modes.edges is not None
    state = modes.on_parabola(np.array(modes.edges))
    for slope in modes.velocity(0.0, state).values():
        np.testing.assert_allclose(slope, 0.0, atol=1e-12)
    above = LinearBYOLModes(weight_decay=1.01 * LinearBYOLModes().largest_decay)
    assert above.edges is None


@pytest.mark.parametrize("power", [0.5, 1.0, 2.0])
def test_threshold_of_direct_set_is_the_same_for_every_power(power):
    dynamics = DirectSet(noise_variances=(1.47, 1.53), power=power, weight_decay=0.1)
    assert dynamics.largest_noise == pytest.approx(1.5)
    W = np.eye(2) * 0.25 ** (1 / (2 * power))
    run = solve(dynamics, {"encoder": W}, time=6_000.0, rtol=1e-4)
    kept = dynamics.readings(run)["kept"][-1] ** power
    assert kept[0] > 0.1 > 1e-3 > kept[1]


def test_matrix_power_extremes():
    matrix = np.diag([4.0, 1.0, 0.0])
    np.testing.assert_allclose(matrix_power(matrix, 0.5), np.diag([2.0, 1.0, 0.0]), atol=1e-12)
    np.testing.assert_allclose(matrix_power(matrix, -1.0), np.diag([0.25, 1.0, 0.0]), atol=1e-12)


@pytest.mark.parametrize(
    ("equalised", "expected"), [(True, [1.65, 3.08, 4.30, 5.48]), (False, [3.40, 11.7, 34.5, 104])]
)
def test_times_of_the_modes_of_isoloss(equalised, expected):
    times = time_to_half(IsoLoss(equalised=equalised), RNG(0))
    np.testing.assert_allclose(times, expected, rtol=0.01)


@pytest.mark.parametrize(
    "dynamics",
    [
        IsoLoss(noise_variance=0.1),
        IsoLoss(noise_variance=0.1, equalised=False),
        IsoLoss(noise_variance=0.1, equalised=False, stop_gradient=False),
    ],
)
def test_eigenvalues_of_isoloss_move_by_their_closed_form(dynamics):
    W = dynamics.start(RNG(0))["encoder"]
    moved = dynamics.velocity(0.0, {"encoder": W})["encoder"]
    U = np.linalg.svd(W)[0]
    rates = np.diag(U.T @ (moved @ W.T + W @ moved.T) @ U)
    closed = dynamics.mode_velocity(np.array(sorted(dynamics.eigenvalues, reverse=True)))
    np.testing.assert_allclose(rates, closed, rtol=1e-6)


def test_the_cosine_loss_does_not_move_the_norm_of_the_modes():
    dynamics = Cosine(weight_decay=0.0, modes=5)
    p = dynamics.start(RNG(0))["head"]
    assert abs(p @ dynamics.pull(p, p**2)) < 1e-12
    paper = Cosine(weight_decay=0.0, modes=5, order="paper")
    assert p @ paper.pull(p, p**2) < -1e-3


def test_imbalance_of_the_cosine_modes_decays_with_the_weights():
    dynamics = Cosine(weight_decay=0.1)
    start = dict(dynamics.start(RNG(0)))
    start["features"] = start["features"] + 0.5
    run = solve(dynamics, start, time=10.0, rtol=1e-9)
    gap = run.states["features"] - run.states["head"] ** 2
    np.testing.assert_allclose(gap, 0.5 * np.exp(-0.2 * run.time)[:, None] + 0 * gap, rtol=1e-4)


def test_regimes_of_the_cosine_modes_by_their_norm():
    found = []
    for scale in (0.2, 10.0):
        dynamics = Cosine(scale=scale, spread=0.01)
        run = solve(dynamics, dynamics.start(RNG(0)), time=1e-3)
        found.append(set(dynamics.regimes(run)[0]))
    assert found == [{Regime.STABLE}, {Regime.COLLAPSE}]


@pytest.mark.parametrize("ratio", [0.1, 1.0, 10.0, np.inf])
@pytest.mark.parametrize("symmetric", [True, False])
def test_self_prediction_conserves_its_balance_at_any_rate_of_the_head(ratio, symmetric):
    dynamics = SelfPredictive(head_lr_ratio=ratio, symmetric_chain=symmetric, weight_decay=0.05)
    run = solve(dynamics, dynamics.start(RNG(0)), time=10.0, rtol=1e-9)
    kept = dynamics.balance(run) * np.exp(0.1 * run.time)[:, None, None]
    assert np.abs(kept - kept[0]).max() < 1e-5


def test_what_self_prediction_captures_never_falls_on_a_symmetric_chain():
    dynamics = SelfPredictive(head_lr_ratio=np.inf)
    captured = dynamics.readings(solve(dynamics, dynamics.start(RNG(0))))["captured"]
    assert np.diff(captured).min() > -1e-8
    general = SelfPredictive(head_lr_ratio=np.inf, symmetric_chain=False)
    falls = general.readings(solve(general, general.start(RNG(0))))["captured"]
    assert np.diff(falls).min() < -1e-4


def test_chains_are_doubly_stochastic():
    for symmetric in (True, False):
        T = SelfPredictive(symmetric_chain=symmetric).chain
        np.testing.assert_allclose(T.sum(0), 1.0)
        np.testing.assert_allclose(T.sum(1), 1.0)
        assert np.array_equal(T, T.T) == symmetric


def test_an_aligned_mode_of_barlow_is_a_logistic_curve():
    dynamics = StepwiseBarlow(eigenvalues=(1.0, 0.4), width=2)
    W = np.diag([1e-2, 2e-2])
    u = np.array([1.0, 0.4]) * np.diag(W) ** 2
    at = np.linspace(0.0, 4.0, 9)
    run = solve(dynamics, {"encoder": W}, time=4.0, rtol=1e-9, at=at)
    odds = u / (1 - u) * np.exp(8 * np.array([1.0, 0.4]) * at[:, None])
    np.testing.assert_allclose(dynamics.readings(run)["modes"], odds / (1 + odds), rtol=1e-5)
    times = dynamics.learning_time({"encoder": W})
    np.testing.assert_allclose(u / (1 - u) * np.exp(8 * np.array([1.0, 0.4]) * times), 1.0)


def test_kernel_and_inputs_have_the_same_modes():
    x, y = RNG(0).standard_normal((2, 7, 3))
    Gamma = (x.T @ y + y.T @ x) / 14
    both = np.concatenate([x, y])
    found = kernel_eigenvalues(both @ both.T)
    found = found[np.abs(found) > 1e-9]
    np.testing.assert_allclose(np.sort(found), np.linalg.eigvalsh(Gamma), rtol=1e-7)


@pytest.mark.parametrize("depth", [1, 2, 3])
@pytest.mark.parametrize("reconstruct", [False, True])
def test_deep_linear_nets_learn_at_the_times_of_their_closed_form(depth, reconstruct):
    dynamics = DeepLinear(
        depth=depth, reconstruct=reconstruct, scale=0.2, influences=(1.2, 0.5), covariances=(1, 0.8)
    )
    times = measured_times(dynamics, dynamics.start(RNG(0)))
    np.testing.assert_allclose(times, dynamics.learning_times(), rtol=1e-3)


def test_joint_embedding_ends_where_influence_says_and_reconstruction_at_the_regression():
    for reconstruct in (False, True):
        dynamics = DeepLinear(reconstruct=reconstruct, scale=0.2)
        run = solve(dynamics, dynamics.start(RNG(0)), time=3 * dynamics.horizon)
        np.testing.assert_allclose(dynamics.readings(run)["features"][-1], 1.0, rtol=1e-3)


@pytest.mark.parametrize("powers", [(1.0, 0.0), (0.0, -1.0), (0.5, 0.5)])
def test_filtered_eigenvalues_move_by_their_closed_form(powers):
    dynamics = RankDifferential(online_power=powers[0], target_power=powers[1], noise_variance=0.1)
    W = dynamics.start(RNG(0))["encoder"]
    moved = dynamics.velocity(0.0, {"encoder": W})["encoder"]
    U, s, _ = np.linalg.svd(W)
    rates = np.diag(U.T @ (moved @ W.T + W @ moved.T) @ U)
    np.testing.assert_allclose(rates, dynamics.mode_velocity(s**2), rtol=1e-8)


def test_effective_rank_of_flat_and_of_collapsed_spectra():
    assert effective_rank(np.full(5, 2.0)) == pytest.approx(5)
    assert effective_rank(np.array([1.0, 0.0, 0.0])) == pytest.approx(1)


def test_spectral_contrastive_flow_ends_at_the_top_of_the_spectrum():
    dynamics = AugmentationGraph(width=3, scale=0.1)
    run = solve(dynamics, dynamics.start(RNG(0)), time=400.0)
    readings = dynamics.readings(run)
    assert readings["loss"][-1] == pytest.approx(dynamics.least_loss, abs=1e-4)
    assert np.diff(readings["loss"]).max() < 1e-8
    assert dynamics.eigenvalues[0] == pytest.approx(1.0)


def test_complexity_of_disjoint_and_of_independent_augmentations():
    disjoint = AugmentationGraph(reach=0.0).augmentations
    independent = AugmentationGraph(reach=1.0, leak=1.0).augmentations
    assert complexity(disjoint)[0] == pytest.approx(6)
    assert complexity(independent)[0] == pytest.approx(1)
    graph = AugmentationGraph()
    assert complexity(graph.augmentations)[1] == pytest.approx(graph.eigenvalues.sum())


def test_bad_settings_are_sentences():
    for wrong in (
        lambda: IsoLoss(equalised=True, stop_gradient=False),
        lambda: DirectSet(noise_variances=()),
        lambda: StepwiseBarlow(eigenvalues=(0.1, 1.0)),
        lambda: DeepLinear(influences=(1.0,)),
        lambda: AugmentationGraph(reach=1.5),
        lambda: SelfPredictive(width=11),
    ):
        with pytest.raises(ConfigError, match="must|with stop_gradient"):
            wrong()


SMALL_CLAIMS = [
    (name, claim.key)
    for name in ("linear-byol-modes", "isoloss", "cosine", "augmentation-graph")
    for claim in DYNAMICS[name].claims
]


@pytest.mark.parametrize(("name", "key"), SMALL_CLAIMS)
def test_claims_hold_on_the_reference_problem(name, key):
    claim = next(one for one in DYNAMICS[name].claims if one.key == key)
    finding = claim.evaluate(DYNAMICS[name].target(), 4)
    assert finding.state is ClaimState.HELD, finding.measured
    assert finding.measured and finding.starts > 0


def test_claims_outside_their_setting_do_not_apply():
    for name, dynamics, key in (
        ("linear-byol", LinearBYOL(symmetric_head=True), "balance-decays"),
        ("linear-byol-modes", LinearBYOLModes(weight_decay=0.5), "basin-edge"),
        ("isoloss", IsoLoss(power=0.0), "equal-speed"),
        ("cosine", Cosine(order="paper"), "scale-invariance"),
        ("augmentation-graph", AugmentationGraph(reach=1.0), "clusters"),
        ("deep-linear", DeepLinear(depth=1), "influence-first"),
        ("stepwise-barlow", StepwiseBarlow(eigenvalues=(1.0, -0.5)), "one-by-one"),
    ):
        claim = next(one for one in DYNAMICS[name].claims if one.key == key)
        finding = claim.evaluate(dynamics, 2)
        assert finding.state is ClaimState.DOES_NOT_APPLY and finding.reason


def test_outcomes_of_all_some_and_none():
    dynamics = LinearBYOLModes(modes=2)
    edge = dynamics.edges[0]
    for factors, outcome in (
        ((2, 3), Learned.ALL),
        ((0.5, 3), Learned.SOME),
        ((0.5, 0.2), Learned.NONE),
    ):
        run = solve(dynamics, dynamics.on_parabola(edge * np.array(factors, float)))
        assert dynamics.outcome(run) is outcome
    assert len(generators(3)) == 3
