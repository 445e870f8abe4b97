"""Laws of the marks: exact values where there are any, and training the same to the bit."""

import copy
import math

import pytest
import torch
from torch import nn
from torch.nn.functional import batch_norm, cosine_similarity, mse_loss

from offdiag.diagnostics.marks import assignments, gradients, growth, inputs, modes, weights
from offdiag.diagnostics.monitor import Monitor


@pytest.fixture
def draw() -> torch.Generator:
    return torch.Generator().manual_seed(0)


@pytest.mark.parametrize("tau", [0.0, 0.5, 0.99, 0.9999])
@pytest.mark.parametrize("order", ["before", "after"])
def test_the_momentum_of_an_average_is_found(tau, order, draw):
    online = torch.randn(2, 5_000, generator=draw)
    target = torch.randn(5_000, generator=draw)
    followed = online[0] if order == "before" else online[1]
    moved = tau * target + (1 - tau) * followed
    momentum, residual, gap = weights.momentum_of((online[0], online[1]), (target, moved))
    assert momentum == pytest.approx(tau, abs=1e-4)
    assert residual < 1e-2
    assert gap == pytest.approx(math.sqrt(2), rel=0.1)


def test_a_target_that_is_trained_is_no_average(draw):
    online, target = torch.randn(2, 5_000, generator=draw)
    moved = target + 0.01 * torch.randn(5_000, generator=draw)
    assert weights.momentum_of((online, online), (target, moved))[1] > 0.9


def test_a_frozen_target_has_momentum_one(draw):
    online, target = torch.randn(2, 50, generator=draw)
    assert weights.momentum_of((online, online), (target, target))[:2] == (1.0, 0.0)


def test_samples_of_weights_and_gradients_take_the_same_entries(draw):
    tensors = [torch.randn(300, 400, generator=draw), torch.randn(70, generator=draw)]
    taken = weights.sample(tensors)
    assert 0 < len(taken) <= weights.SAMPLED
    assert torch.equal(weights.sample([2 * t for t in tensors]), 2 * taken)


def test_decay_pulls_as_sgd_and_adamw_say():
    w, g = torch.full((4,), 2.0), torch.full((4,), 0.5)
    group = {"lr": 0.1, "weight_decay": 0.25}
    assert weights.decay_ratio(w, g, math.nan, group, decoupled=False) == pytest.approx(1.0)
    assert weights.decay_ratio(w, g, math.hypot(0.025, 0.1), group, decoupled=True) == (
        pytest.approx(0.25)
    )


LOSSES = {
    "distance": mse_loss,
    "cosine": lambda z, t: -cosine_similarity(z, t).mean(),
    "batch": lambda z, t: mse_loss(
        batch_norm(z, None, None, training=True), batch_norm(t, None, None, training=True)
    ),
}


@pytest.mark.parametrize("loss", LOSSES.values(), ids=LOSSES)
@pytest.mark.parametrize("sign", [1, -1])
def test_pure_attraction_pulls_by_one_and_its_opposite_by_minus_one(loss, sign, draw):
    z, t = torch.randn(2, 40, 6, generator=draw)
    z.requires_grad_()
    (gradient,) = torch.autograd.grad(sign * loss(z, t), z)
    found = gradients.pull(-sign * gradient, z.detach(), t)
    assert found == pytest.approx(1.0, abs=1e-3)
    if sign < 0:
        assert gradients.pull(-gradient, z.detach(), t) < 0


def test_terms_against_collapse_lower_the_pull(draw):
    z, t = torch.randn(2, 40, 6, generator=draw)
    z.requires_grad_()
    spread = -torch.logdet(torch.cov(z.T))
    (gradient,) = torch.autograd.grad(mse_loss(z, t) + spread, z)
    assert gradients.pull(-gradient, z.detach(), t) < 0.9


def test_shrinking_has_a_sign(draw):
    z = torch.randn(40, 6, generator=draw)
    assert gradients.spreading(z - z.mean(0), z) == pytest.approx(1.0)
    assert gradients.spreading(z.mean(0) - z, z) == pytest.approx(-1.0)
    assert gradients.spreading(torch.ones(40, 6), z) == pytest.approx(0.0, abs=1e-6)


@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
def test_the_gradient_past_a_module_is_what_autograd_says(share, draw):
    """z feeds a head and, times `share`, the loss itself: the rest is exactly that part."""
    inner, head = nn.Linear(5, 4), nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 4))
    z = inner(torch.randn(9, 5, generator=draw))
    p = head(z)
    flow = gradients.Flow(z, p)
    (p.square().sum() + share * z.sum()).backward()
    rest = flow.elsewhere()
    assert torch.allclose(rest, torch.full_like(rest, share), atol=1e-5)


def test_entropies_at_their_extremes():
    uniform = torch.full((8, 4), 0.25)
    assert assignments.entropies(uniform) == pytest.approx((1.0, 1.0))
    one = torch.nn.functional.one_hot(torch.zeros(8, dtype=torch.long), 4).float()
    assert assignments.entropies(one) == pytest.approx((0.0, 0.0))
    spread = torch.nn.functional.one_hot(torch.arange(8) % 4, 4).float()
    assert assignments.entropies(spread) == pytest.approx((0.0, 1.0))


def test_partners_are_found_where_views_match_and_by_chance_where_not(draw):
    a = torch.randn(200, 10, generator=draw)
    noisy = a + 0.1 * torch.randn(200, 10, generator=draw)
    assert inputs.partners(a + 50, noisy + 50) > 0.9  # a common vector has no say
    assert inputs.partners(a, noisy[torch.randperm(200, generator=draw)]) < 0.05
    assert inputs.partners(torch.ones(20, 3), torch.ones(20, 3)) == pytest.approx(1 / 20)


def test_inputs_that_are_constant_equal_or_not_finite_are_counted():
    rows = torch.arange(24.0).reshape(4, 6)
    rows[0] = 3.0
    assert inputs.scale_marks([rows])["inputs/constant"] == pytest.approx(0.25)
    twice = torch.cat((rows, rows[:2]))
    assert inputs.scale_marks([twice])["inputs/alike"] == pytest.approx(4 / 6)
    assert inputs.scale_marks([rows / 0])["inputs/finite"] < 1
    assert inputs.identical(rows, rows.clone()) == 1.0


def test_stale_statistics_are_measured_in_deviations():
    online, target = nn.BatchNorm1d(3), nn.BatchNorm1d(3).eval()
    online.running_mean.fill_(2.0)
    online.running_var.fill_(4.0)
    assert modes.stale_statistics(target, online) == pytest.approx(1.0, rel=1e-4)
    assert math.isnan(modes.stale_statistics(target.train(), online))


def test_growth_rates_agree_with_a_finite_step_and_add_up(draw):
    net = nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 4)).double()
    x = torch.randn(50, 6, generator=draw).double()
    names = dict(net.named_parameters())
    steps = [
        {name: torch.randn(p.shape, generator=draw).double() for name, p in names.items()}
        for _ in range(2)
    ]
    both = {name: steps[0][name] + steps[1][name] for name in names}
    z, changes = None, []
    for direction in (*steps, both):
        z, change = growth.output_change(lambda: net(x), net, direction)
        changes.append(growth.growth_rates(z, change))
    assert torch.allclose(changes[0] + changes[1], changes[2])

    def logs(size):
        moved = copy.deepcopy(net)
        with torch.no_grad():
            for name, p in moved.named_parameters():
                p += size * steps[0][name]
        variance = torch.linalg.eigvalsh(torch.cov(moved(x).T, correction=0)).flip(0)
        return (variance / variance.sum()).log()

    size = 1e-6
    slope = (logs(size) - logs(-size)) / (2 * size)
    assert torch.allclose(changes[0], slope, rtol=1e-4, atol=1e-4)


def test_rescaling_all_outputs_grows_no_direction(draw):
    z = torch.randn(30, 5, generator=draw)
    assert growth.growth_rates(z, 3 * z).abs().max() < 1e-6


def test_a_jacobian_product_leaves_the_network_as_it_was(draw):
    net = nn.Sequential(nn.Linear(6, 8), nn.BatchNorm1d(8), nn.Dropout(0.5), nn.Linear(8, 4))
    before = copy.deepcopy(net.state_dict())
    state = torch.get_rng_state()
    direction = {name: torch.ones_like(p) for name, p in net.named_parameters()}
    growth.output_change(lambda: net(torch.randn(20, 6, generator=draw)), net, direction)
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())
    assert torch.equal(torch.get_rng_state(), state)
    assert all(p.grad is None for p in net.parameters())


class Byol(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.backbone = nn.Sequential(
            nn.Linear(6, 8), nn.BatchNorm1d(8), nn.Dropout(0.2), nn.ReLU(inplace=True)
        )
        self.projection_head = nn.Linear(8, 5)
        self.prediction_head = nn.Sequential(nn.Linear(5, 7), nn.ReLU(), nn.Linear(7, 5))
        self.backbone_momentum = copy.deepcopy(self.backbone).requires_grad_(False)
        self.projection_head_momentum = copy.deepcopy(self.projection_head).requires_grad_(False)


def train(*, watched: bool, steps: int = 8, tau: float = 0.9, leak: bool = False):
    torch.manual_seed(0)
    model = Byol()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2, weight_decay=0.1)
    monitor = None
    if watched:
        monitor = Monitor(model, every=1, budget=None).attach_optimizer(optimizer)
    for step in range(steps):
        with torch.no_grad():
            pairs = (
                (model.backbone, model.backbone_momentum),
                (model.projection_head, model.projection_head_momentum),
            )
            for online, target in pairs:
                for p, q in zip(online.parameters(), target.parameters(), strict=True):
                    q.mul_(tau).add_(p, alpha=1 - tau)
        draw = torch.Generator().manual_seed(step)
        x = torch.randn(16, 6, generator=draw)
        views = [x + 0.1 * torch.randn(16, 6, generator=draw) for _ in range(2)]
        with torch.no_grad():
            t = [model.projection_head_momentum(model.backbone_momentum(v)) for v in views]
        z = [model.projection_head(model.backbone(v)) for v in views]
        p = [model.prediction_head(one) for one in z]
        terms = {
            "first": -cosine_similarity(p[0], t[1]).mean(),
            "second": -cosine_similarity(p[1], t[0]).mean(),
        }
        loss = terms["first"] + terms["second"]
        if leak:
            loss = loss - cosine_similarity(p[0].detach(), z[1]).mean()
        if monitor is not None:
            monitor.note(loss=loss, terms=terms)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return model, monitor, optimizer


@pytest.mark.parametrize("leak", [False, True])
def test_training_is_the_same_to_the_bit_with_all_marks(leak):
    alone, _, plain = train(watched=False, leak=leak)
    model, monitor, optimizer = train(watched=True, leak=leak)
    assert len(monitor.history) == 8 and len(monitor.history[-1].marks) > 30
    for name, value in model.state_dict().items():
        assert torch.equal(value, alone.state_dict()[name]), name
    for mine, other in zip(optimizer.state.values(), plain.state.values(), strict=True):
        assert torch.equal(mine["exp_avg_sq"], other["exp_avg_sq"])


def test_the_marks_of_a_step_are_the_run():
    _, monitor, _ = train(watched=True)
    marks = monitor.history[-1].marks
    assert marks["target/momentum"] == pytest.approx(0.9, abs=1e-3)
    assert marks["target/residual"] < 1e-2
    assert marks["target/gradient"] == 0.0
    assert marks["predictor/held"] == marks["encoder/held"] == 1.0
    assert marks["target/held"] == 0.0
    assert marks["encoder/lr"] == 1e-2
    assert marks["terms/first"] > 0
    assert monitor.check() == ()


def test_a_leak_into_the_projection_is_measured_and_named():
    _, monitor, _ = train(watched=True, leak=True)
    marks = monitor.history[-1].marks
    assert marks["target/gradient"] > 0.05 and marks["target/pull"] > 0.9
    assert monitor.check()[0].cause.key == "gradient-in-target"


class SelfPredictive(nn.Module):
    """The next state's features are the target, and no predictor takes them."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.Sequential(nn.Linear(6, 16), nn.ReLU(), nn.Linear(16, 8))
        self.dynamics = nn.Sequential(nn.Linear(8 + 2, 16), nn.ReLU(), nn.Linear(16, 8))


@pytest.mark.parametrize("leak", [False, True])
def test_a_target_that_no_predictor_takes_is_looked_at_too(leak):
    torch.manual_seed(0)
    model = SelfPredictive()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    monitor = Monitor(model, every=1, budget=None).attach_optimizer(optimizer)
    for _ in range(3):
        x, action = torch.randn(32, 6), torch.randn(32, 2)
        z, after = model.encoder(x), model.encoder(x + 0.5)
        made = model.dynamics(torch.cat((z, action), 1))
        loss = -cosine_similarity(made, after if leak else after.detach()).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert monitor.history[-1].marks["target/gradient"] == float(leak)
    assert ("gradient-in-target" in [f.cause.key for f in monitor.check()]) is leak


def test_marks_can_be_left_out():
    model = Byol()
    monitor = Monitor(model, every=1, budget=None, marks=False)
    model.prediction_head(model.projection_head(model.backbone(torch.randn(8, 6))))
    assert monitor.step().marks == {}
