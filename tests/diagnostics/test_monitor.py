"""Laws of watching a run: it changes nothing, and reads what the parts gave."""

import copy
import io
import logging
import math
import subprocess
import sys
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
import torch.distributed as dist
from torch import nn
from torch.nn.functional import cosine_similarity
from torch.utils.checkpoint import checkpoint

from offdiag._checks import ConfigError
from offdiag.diagnostics import processes
from offdiag.diagnostics.head_matrix import head_matrix
from offdiag.diagnostics.moments import Moments
from offdiag.diagnostics.monitor import Monitor
from offdiag.diagnostics.pooling import all_tokens, first_token, mean_of_tokens
from offdiag.diagnostics.readings import readings_of
from offdiag.results.observation import MonitorRecord
from offdiag.results.readings import Readings

BATCH = 24


class Net(nn.Module):
    """SimSiam with lightly's names, small, with or without BatchNorm, dropout for the RNG."""

    def __init__(self, *, norm: bool = True, dropout: float = 0.0) -> None:
        super().__init__()
        middle = nn.BatchNorm1d(8) if norm else nn.Identity()
        self.backbone = nn.Sequential(nn.Linear(6, 8), middle, nn.Dropout(dropout), nn.ReLU())
        self.projection_head = nn.Linear(8, 5)
        self.prediction_head = nn.Linear(5, 5)

    def forward(self, x):
        z = self.projection_head(self.backbone(x))
        return z, self.prediction_head(z)


def net(**settings) -> Net:
    torch.manual_seed(0)
    return Net(**settings)


def views(step: int, batch: int = BATCH):
    draw = torch.Generator().manual_seed(step)
    images = torch.randn(batch, 6, generator=draw)
    return (
        images + 0.1 * torch.randn(batch, 6, generator=draw),
        images + 0.1 * torch.randn(batch, 6, generator=draw),
    )


def loss_of(p_a, z_b, p_b, z_a):
    return -(cosine_similarity(p_a, z_b.detach()) + cosine_similarity(p_b, z_a.detach())).mean()


def two_calls(model, a, b):
    (z_a, p_a), (z_b, p_b) = model(a), model(b)
    return loss_of(p_a, z_b, p_b, z_a)


def train(model, *, steps=3, call=two_calls, watch=None, pieces=1, optimizer=None):
    """A plain loop, `watch` being all that a monitor adds to it; the losses."""
    optimizer = optimizer or torch.optim.SGD(model.parameters(), lr=0.1)
    monitor = None if watch is None else watch(model).attach_optimizer(optimizer)
    losses = []
    for step in range(steps):
        a, b = views(step)
        optimizer.zero_grad()
        for piece in zip(a.chunk(pieces), b.chunk(pieces), strict=True):
            loss = call(model, *piece) / pieces
            loss.backward()
        if monitor is not None:
            monitor.note(loss=loss)
        optimizer.step()
        losses.append(loss.item())
    return losses, monitor, optimizer


def every_step(model, **settings) -> Monitor:
    return Monitor(model, **{"every": 1, "budget": None, **settings})


def same(a: Readings, b: Readings, *, rel: float = 1e-5) -> None:
    assert (a.dim, a.rows) == (b.dim, b.rows)
    for name in ("effective_rank", "rankme", "std", "alignment", "uniformity", "mean_share"):
        assert getattr(a, name) == pytest.approx(getattr(b, name), rel=rel, nan_ok=True), name
    assert a.spectrum == pytest.approx(b.spectrum, rel=rel, abs=1e-9)


def same_history(a: Monitor, b: Monitor, **tolerance) -> None:
    assert [o.step for o in a.history] == [o.step for o in b.history]
    for one, other in zip(a.history, b.history, strict=True):
        assert one.parts.keys() == other.parts.keys()
        for part in one.parts:
            same(one.parts[part], other.parts[part], **tolerance)


def hooks_on(model, optimizer) -> int:
    modules = sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in model.modules())
    return modules + len(optimizer._optimizer_step_post_hooks)


def test_training_is_the_same_to_the_bit_with_a_monitor():
    alone, watched = net(dropout=0.3), net(dropout=0.3)
    torch.manual_seed(7)
    losses, _, _ = train(alone)
    state = torch.get_rng_state()
    torch.manual_seed(7)
    watched_losses, monitor, _ = train(watched, watch=every_step)
    assert len(monitor.history) == 3
    assert watched_losses == losses
    assert torch.equal(torch.get_rng_state(), state)
    for name, value in watched.state_dict().items():
        assert torch.equal(value, alone.state_dict()[name]), name


def test_nothing_stays_after_removal():
    model = net()
    with every_step(model) as monitor:
        _, _, optimizer = train(model, watch=lambda _: monitor)
        assert hooks_on(model, optimizer) == 4
    assert hooks_on(model, optimizer) == 0
    train(model, optimizer=optimizer)
    assert len(monitor.history) == 3


def test_nothing_is_held_between_readings():
    model = net()
    _, monitor, _ = train(model, watch=every_step)
    assert monitor._streams == {} and monitor._gradient_handles == [] and monitor._head is None
    assert monitor.held_bytes > 0


def test_two_calls_in_a_step_are_the_two_views():
    model, seen = net(), []
    model.backbone.register_forward_hook(lambda *call: seen.append(call[2].detach().clone()))
    _, monitor, _ = train(model, watch=every_step)
    for observation, pair in zip(monitor.history, (seen[0:2], seen[2:4], seen[4:6]), strict=True):
        moments = Moments(8)
        moments.update(torch.cat(pair))
        same(observation.parts["encoder"], readings_of(moments, *pair))
        assert math.isfinite(observation.parts["encoder"].alignment)


def test_the_first_reading_is_of_the_random_start_and_steps_count_updates():
    model = net()
    with torch.no_grad():
        z = [model(view)[0] for view in views(0)]
    _, monitor, _ = train(net(), watch=every_step)
    moments = Moments(5)
    moments.update(torch.cat(z))
    assert [o.step for o in monitor.history] == [0, 1, 2]
    same(monitor.history[0].parts["projector"], readings_of(moments, *z))


def test_one_call_on_both_views_reads_the_same_once_it_is_told():
    def one_call(model, a, b):
        (z_a, z_b), (p_a, p_b) = (out.chunk(2) for out in model(torch.cat((a, b))))
        return loss_of(p_a, z_b, p_b, z_a)

    def told(model):
        return every_step(model, views_concatenated=2)

    _, split, _ = train(net(norm=False), call=one_call, watch=told)
    _, two, _ = train(net(norm=False), watch=every_step)
    same_history(split, two)
    _, single, _ = train(net(norm=False), call=one_call, watch=every_step)
    readings = single.history[0].parts["encoder"]
    assert readings.rows == 2 * BATCH and math.isnan(readings.alignment)


def test_rows_that_do_not_split_into_views_are_one_sentence():
    with pytest.warns(UserWarning, match="24 rows, which do not split into 5 views"):
        _, monitor, _ = train(net(), watch=lambda model: every_step(model, views_concatenated=5))
    readings = monitor.history[0].parts["encoder"]
    assert readings.rows == 2 * BATCH
    monitor.remove()
    assert monitor.notes[-1].text.endswith("18 times in all.")


@pytest.mark.parametrize("pieces", [2, 3])
def test_an_accumulated_batch_reads_as_one(pieces):
    _, whole, _ = train(net(norm=False), watch=every_step)
    _, accumulated, _ = train(net(norm=False), watch=every_step, pieces=pieces)
    same_history(whole, accumulated, rel=1e-4)


def test_an_accumulated_batch_of_one_call_pairs_no_pieces():
    def one_call(model, a, b):
        (z_a, z_b), (p_a, p_b) = (out.chunk(2) for out in model(torch.cat((a, b))))
        return loss_of(p_a, z_b, p_b, z_a)

    _, monitor, _ = train(net(norm=False), call=one_call, watch=every_step, pieces=2)
    readings = monitor.history[0].parts["projector"]
    assert readings.rows == 2 * BATCH and math.isnan(readings.alignment)


@pytest.mark.parametrize("reentrant", [True, False])
@pytest.mark.parametrize("pieces", [1, 2])
def test_a_checkpoints_second_forward_is_no_view(reentrant, pieces):
    def checkpointed(model, a, b):
        def embed(x):
            h = checkpoint(model.backbone, x, use_reentrant=reentrant)
            z = model.projection_head(h)
            return z, checkpoint(model.prediction_head, z, use_reentrant=reentrant)

        (z_a, p_a), (z_b, p_b) = (embed(x.requires_grad_()) for x in (a, b))
        return loss_of(p_a, z_b, p_b, z_a)

    _, plain, _ = train(net(norm=False), watch=every_step, pieces=pieces)
    _, monitor, _ = train(net(norm=False), call=checkpointed, watch=every_step, pieces=pieces)
    same_history(monitor, plain)


def test_under_autocast_rows_are_read_in_full_precision():
    seen = []

    def mixed(model, a, b):
        with torch.autocast("cpu", dtype=torch.bfloat16):
            return two_calls(model, a, b)

    model = net()
    model.projection_head.register_forward_hook(lambda *call: seen.append(call[2].detach()))
    _, monitor, _ = train(model, call=mixed, watch=every_step)
    assert seen[0].dtype == torch.bfloat16
    moments = Moments(5)
    moments.update(torch.cat(seen[:2]).float())
    same(
        monitor.history[0].parts["projector"],
        readings_of(moments, seen[0].float(), seen[1].float()),
    )


def test_an_in_place_layer_behind_a_part_does_not_reach_its_reading():
    model = net(norm=False)
    model.backbone = nn.Linear(6, 8)
    model.projection_head = nn.Sequential(nn.ReLU(inplace=True), nn.Linear(8, 5))
    with torch.no_grad():
        features = [model.backbone(view) for view in views(0)]
    moments = Moments(8)
    moments.update(torch.cat(features))
    _, monitor, _ = train(model, watch=every_step, steps=1)
    same(monitor.history[0].parts["encoder"], readings_of(moments, *features))


def test_evaluation_passes_are_ignored():
    def with_evaluation(model, a, b):
        model.eval()
        with torch.no_grad():
            model(torch.zeros(50, 6))
        model.train()
        return two_calls(model, a, b)

    _, plain, _ = train(net(), watch=every_step)
    _, monitor, _ = train(net(), call=with_evaluation, watch=every_step)
    same_history(monitor, plain)


def test_a_target_in_evaluation_mode_is_read_while_the_online_network_trains():
    model = net()
    model.projection_head_momentum = copy.deepcopy(model.projection_head).eval()

    def with_target(model, a, b):
        with torch.no_grad():
            t_a, t_b = (model.projection_head_momentum(model.backbone(x)) for x in (a, b))
        (_, p_a), (_, p_b) = model(a), model(b)
        return loss_of(p_a, t_b, p_b, t_a)

    _, monitor, _ = train(model, call=with_target, watch=every_step)
    assert monitor.history[0].parts["target"].rows == 2 * BATCH
    assert monitor.history[0].parts["encoder"].rows == 2 * BATCH


def test_of_many_crops_the_first_two_are_read():
    def crops(model, a, b):
        (z_a, p_a), (z_b, p_b) = model(a), model(b)
        model(a[:7]), model(b[:7])
        return loss_of(p_a, z_b, p_b, z_a)

    _, plain, _ = train(net(norm=False), watch=every_step)
    _, monitor, _ = train(net(norm=False), call=crops, watch=every_step)
    same_history(monitor, plain)


def test_readings_fall_on_the_cadence_and_after_a_checkpoint():
    model = net()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    monitor = Monitor(model, every=4, budget=None)
    for step in range(10):
        optimizer.zero_grad()
        two_calls(model, *views(step)).backward()
        optimizer.step()
        name = "at-6.pt" if step == 5 else None
        observation = monitor.step(loss=float(step), checkpoint=name)
        assert (observation is not None) == (step in (0, 4, 6, 8))
    assert [(o.step, o.checkpoint) for o in monitor.history] == [
        (0, None),
        (4, None),
        (6, "at-6.pt"),
        (8, None),
    ]
    assert [o.loss for o in monitor.history] == [0.0, 2.5, 5.5, 7.5]


def test_a_dozen_early_readings_are_owed_and_what_is_put_off_is_counted():
    model = net()
    _, monitor, _ = train(model, steps=400, watch=lambda m: Monitor(m, every=20, budget=1e-9))
    steps = [o.step for o in monitor.history]
    assert steps[:9] == [0, 1, 2, 3, 5, 8, 12, 18, 20] and len(steps) >= 12
    assert all(
        after - before <= max(20, before / 4 + 20)
        for before, after in zip(steps, steps[1:], strict=False)
    )
    assert monitor.cadence.put_off > 0
    monitor.remove()
    assert f"{monitor.cadence.put_off} readings at multiples of 20 steps" in monitor.notes[-1].text


def test_with_an_optimizer_attached_steps_are_not_told_twice():
    _, monitor, optimizer = train(net(), watch=every_step)
    with pytest.raises(ConfigError, match=r"note\(\)"):
        monitor.step()
    with pytest.raises(ConfigError, match="optimiser already"):
        monitor.attach_optimizer(optimizer)


def test_a_copy_and_a_pickle_of_a_watched_model_carry_no_monitor():
    model, stream = net(), io.BytesIO()
    monitor = every_step(model)
    torch.save(model, stream)
    stream.seek(0)
    for other in (copy.deepcopy(model), torch.load(stream, weights_only=False)):
        two_calls(other, *views(0)).backward()
        assert monitor._streams == {}
    two_calls(model, *views(0)).backward()
    assert monitor.step().parts.keys() == {"encoder", "projector", "predictor"}


def test_observing_by_hand_reads_what_hooks_read():
    monitor = Monitor(every=1, budget=None)

    def by_hand(model, a, b):
        (z_a, p_a), (z_b, p_b) = model(a), model(b)
        monitor.observe(z_a, z_b, p_a, p_b, h1=model.backbone(a), h2=model.backbone(b))
        return loss_of(p_a, z_b, p_b, z_a)

    _, hooked, _ = train(net(), watch=every_step, pieces=2)
    _, _, _ = train(net(), call=by_hand, watch=lambda _: monitor, pieces=2)
    assert [o.step for o in monitor.history] == [0, 1, 2]
    same_history(monitor, hooked, rel=1e-4)


def test_a_linear_predictor_is_read_as_a_matrix():
    model = net()
    weight = model.prediction_head.weight.detach().clone()
    off = weight - weight.diagonal().diag()
    _, monitor, _ = train(model, watch=every_step)
    head = monitor.history[0].head
    assert head.off_diagonal_norm == pytest.approx(off.norm().item(), rel=1e-5)
    assert 0 <= head.off_diagonal_share <= 1
    assert monitor.history[1].head.off_diagonal_norm != head.off_diagonal_norm


def test_only_one_square_matrix_is_a_head_matrix():
    square = nn.Linear(3, 3)
    assert torch.equal(head_matrix(nn.Sequential(square)), square.weight)
    assert head_matrix(nn.Linear(3, 4)) is None
    assert head_matrix(nn.LayerNorm(3)) is None
    assert head_matrix(nn.Sequential(square, nn.ReLU())) is None


def test_tokens_become_rows_as_asked():
    tokens = torch.arange(24.0).reshape(2, 3, 4)
    assert torch.equal(mean_of_tokens(tokens), tokens.mean(1))
    assert torch.equal(first_token(tokens), tokens[:, 0])
    assert torch.equal(all_tokens(tokens), tokens.reshape(6, 4))
    places = torch.arange(24.0).reshape(2, 3, 2, 2)
    assert torch.equal(mean_of_tokens(places), places.mean((2, 3)))
    assert torch.equal(all_tokens(places)[1], places[0, :, 0, 1])
    for pooling in (mean_of_tokens, first_token, all_tokens):
        assert torch.equal(pooling(tokens[0]), tokens[0])


def test_tokens_of_a_part_are_pooled():
    monitor = Monitor(every=1, pooling=all_tokens)
    monitor.observe(torch.randn(4, 7, 3), torch.randn(4, 7, 3))
    assert monitor.step().parts["projector"].rows == 2 * 4 * 7
    monitor = Monitor(every=1, pooling=lambda output: output)
    with pytest.warns(UserWarning, match=r"pooling must give rows.*\(4, 7, 3\).*goes on"):
        monitor.observe(torch.randn(4, 7, 3))


def test_few_rows_of_a_wide_part_read_the_same_as_from_their_moments():
    z_a, z_b = torch.randn(2, 12, 60, generator=torch.Generator().manual_seed(0))
    moments = Moments(60)
    moments.update(torch.cat((z_a, z_b)))
    monitor = Monitor(every=1)
    monitor.observe(z_a, z_b)
    readings = monitor.step().parts["projector"]
    expected = readings_of(moments, z_a, z_b)
    same(readings, expected)
    assert readings.lidar == pytest.approx(expected.lidar)


def test_outputs_that_are_not_finite_read_as_nan_and_stop_nothing():
    monitor = Monitor(every=1)
    monitor.observe(torch.full((8, 3), math.inf), torch.zeros(8, 3))
    readings = monitor.step().parts["projector"]
    assert readings.rows == 16 and math.isnan(readings.effective_rank)


def test_the_file_holds_what_was_seen(tmp_path):
    file = tmp_path / "monitor.jsonl"
    _, monitor, _ = train(net(), watch=lambda model: every_step(model, file=file, name="mine"))
    record = MonitorRecord.load(file)
    assert record.name == "mine"
    assert record.history == tuple(monitor.history)
    assert record.noise == monitor.noise and record.noise.keys() == {
        "encoder",
        "projector",
        "predictor",
    }
    assert record.about["parts"] == {
        "encoder": "backbone",
        "projector": "projection_head",
        "predictor": "prediction_head",
    }


def test_a_resumed_run_goes_on_in_its_file(tmp_path):
    file = tmp_path / "monitor.jsonl"
    _, monitor, _ = train(net(), steps=5, watch=lambda model: every_step(model, file=file))
    monitor.remove()
    before = MonitorRecord.load(file)
    _, monitor, _ = train(net(), watch=lambda model: every_step(model, file=file, first_step=3))
    record = MonitorRecord.load(file)
    assert [o.step for o in record.history] == [0, 1, 2, 3, 4, 5]
    assert record.history[:3] == before.history[:3]
    assert record.history == tuple(monitor.history)


def test_a_file_that_cannot_be_written_ends_the_file_and_not_the_training(tmp_path):
    file = tmp_path / "nowhere" / "monitor.jsonl"
    with pytest.warns(UserWarning, match="stops writing: cannot write"):
        losses, monitor, _ = train(net(), watch=lambda model: every_step(model, file=file))
    assert len(losses) == 3 and len(monitor.history) == 3


class Lightning:
    def __init__(self):
        self.said = []

    def log_metrics(self, metrics, step=None):
        self.said.append((metrics, step))


class TensorBoard:
    def __init__(self):
        self.said = []

    def add_scalar(self, tag, value, step):
        self.said.append(({tag: value}, step))


class Wandb(Lightning):
    log_metrics = property()

    def log(self, metrics, step=None):
        self.said.append((metrics, step))


class Module:
    def __init__(self):
        self.said = []

    def log_dict(self, metrics):
        self.said.append((metrics, 2))


@pytest.mark.parametrize("logger", [Lightning, TensorBoard, Wandb, Module])
def test_whatever_the_logger_it_gets_every_number(logger):
    logger, plain = logger(), []
    both = [logger, lambda scalars, step: plain.append((scalars, step))]
    _, monitor, _ = train(net(), watch=lambda m: Monitor(m, every=2, budget=None, logger=both))
    expected = {"offdiag/" + k: v for k, v in monitor.history[-1].scalars().items()}
    assert plain[-1] == (expected, 2)
    last = {k: v for metrics, step in logger.said if step == 2 for k, v in metrics.items()}
    assert last.keys() == expected.keys()


class RealWandb:
    """As wandb does: what comes with a step below the last one's is dropped."""

    def __init__(self):
        self.at, self.rows, self.metrics = 0, [], {}

    def define_metric(self, name, step_metric=None):
        self.metrics[name] = step_metric

    def log(self, metrics, step=None):
        if step is None or step >= self.at:
            self.rows.append(metrics)
            self.at = self.at + 1 if step is None else step


def test_wandb_keeps_the_readings_under_a_step_of_their_own():
    logger = RealWandb()
    logger.at = 1_000  # the loop logs more often than it steps
    _, monitor, _ = train(net(), watch=lambda m: every_step(m, logger=logger))
    assert [row["offdiag/step"] for row in logger.rows] == [0, 1, 2]
    assert logger.metrics == {"offdiag/step": None, "offdiag/*": "offdiag/step"}
    assert logger.rows[0].keys() == {"offdiag/step"} | {
        "offdiag/" + name for name in monitor.history[0].scalars()
    }


def test_what_is_no_logger_is_one_sentence():
    for logger, name in ((3, "int"), (logging.getLogger(), "RootLogger")):
        with pytest.raises(ConfigError, match=f"got {name}"):
            Monitor(every=1, logger=logger)


def test_verdicts_of_collapse_in_a_row_ask_for_a_stop():
    kinds = iter(["healthy", "dimensional collapse", "healthy", *["complete collapse"] * 2])

    def judge(history, noise):
        assert noise.keys() == history[-1].parts.keys()
        return SimpleNamespace(kind=next(kinds))

    monitor = Monitor(every=1, budget=None, judge=judge, stop_after=2)
    asked = []
    for _ in range(5):
        monitor.observe(torch.randn(8, 3))
        monitor.step()
        asked.append(monitor.should_stop)
    assert asked == [False, False, False, False, True]


def test_a_monitor_that_sees_nothing_says_so_once():
    model = net()
    monitor = every_step(model)
    with pytest.warns(UserWarning, match=r"saw nothing at step 0: none of encoder \(backbone\)"):
        monitor.step()
    assert monitor.step() is None and monitor.history == []


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"every": 0}, "number of steps between readings must be at least 1"),
        ({"budget": 0.0}, r"share of the time, in \(0, 1\]; got 0"),
        ({"sample_rows": 0}, "number of sampled rows"),
        ({"stop_after": 0}, "number of verdicts"),
        ({"views_concatenated": {"encoder": 0}}, "number of views in one call .* got 0"),
    ],
)
def test_bad_settings_are_one_sentence(settings, sentence):
    with pytest.raises(ConfigError, match=sentence):
        Monitor(net(), **settings)


# Dynamo looks at .grad of whatever the shape checker's own frames hold.
@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor:UserWarning")
def test_a_model_compiled_as_a_whole_is_read_too():
    _, plain, _ = train(net(), watch=every_step)
    model = net()
    compiled = torch.compile(model, backend="eager")
    monitor = every_step(compiled)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    monitor.attach_optimizer(optimizer)
    for step in range(3):
        optimizer.zero_grad()
        two_calls(compiled, *views(step)).backward()
        optimizer.step()
    same_history(monitor, plain)
    monitor.remove()
    two_calls(compiled, *views(0)).backward()
    assert monitor._streams == {}


class Both(nn.Module):
    """A step as DDP wants it: one forward that gives the loss."""

    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, a, b):
        return two_calls(self.model, a, b)


def one_of_two_processes(rank: int, folder: Path) -> Monitor:
    meet = f"file://{folder}/meet"
    dist.init_process_group(
        "gloo", init_method=meet, rank=rank, world_size=2, timeout=timedelta(seconds=60)
    )
    try:
        model = net(norm=False)
        ddp = nn.parallel.DistributedDataParallel(Both(model))
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        monitor = Monitor(ddp, every=2, budget=None, file=folder / "monitor.jsonl")
        monitor.attach_optimizer(optimizer)
        for step in range(4):
            a, b = (view.chunk(2)[rank] for view in views(step))
            optimizer.zero_grad()
            ddp(a, b).backward()
            optimizer.step()
        return monitor
    finally:
        dist.destroy_process_group()


OTHER = """
import sys
from pathlib import Path
sys.path[:0] = [sys.argv[1], str(Path(sys.argv[1]).parents[1] / "src")]
from test_monitor import one_of_two_processes
monitor = one_of_two_processes(1, Path(sys.argv[2]))
assert monitor.history == [] and monitor.next_reading == 4
"""


def test_two_processes_read_the_global_batch(tmp_path):
    command = [sys.executable, "-c", OTHER, str(Path(__file__).parent), str(tmp_path)]
    other = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    try:
        monitor = one_of_two_processes(0, tmp_path)
        _, errors = other.communicate(timeout=60)
        assert other.returncode == 0, errors
    finally:
        other.kill()
        other.communicate()
    record = MonitorRecord.load(tmp_path / "monitor.jsonl")
    _, alone, _ = train(net(norm=False), steps=4, watch=lambda m: every_step(m, every=2))
    assert record.about["processes"] == 2
    assert record.history == tuple(monitor.history)
    same_history(monitor, alone, rel=1e-4)


ALONE = """
import sys
from pathlib import Path
sys.path[:0] = [sys.argv[1], str(Path(sys.argv[1]).parents[1] / "src")]
from test_monitor import first_process_alone
first_process_alone(1, Path(sys.argv[2]))
"""


def first_process_alone(rank: int, folder: Path) -> Monitor | None:
    meet = f"file://{folder}/meet"
    dist.init_process_group(
        "gloo", init_method=meet, rank=rank, world_size=2, timeout=timedelta(seconds=60)
    )
    try:
        model = net(norm=False)
        ddp = nn.parallel.DistributedDataParallel(Both(model))
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        monitor = every_step(ddp).attach_optimizer(optimizer) if rank == 0 else None
        for step in range(3):
            optimizer.zero_grad()
            ddp(*(view.chunk(2)[rank] for view in views(step))).backward()
            optimizer.step()
        return monitor
    finally:
        dist.destroy_process_group()


def test_a_monitor_in_one_process_alone_says_so_and_does_not_hang(tmp_path, monkeypatch):
    monkeypatch.setattr(processes, "WAIT_SECONDS", 0.5)
    command = [sys.executable, "-c", ALONE, str(Path(__file__).parent), str(tmp_path)]
    other = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    try:
        with pytest.warns(
            UserWarning, match="processes 1 have no monitor: process 0 reads its own"
        ):
            monitor = first_process_alone(0, tmp_path)
        _, errors = other.communicate(timeout=60)
        assert other.returncode == 0, errors
    finally:
        other.kill()
        other.communicate()
    assert [o.step for o in monitor.history] == [0, 1, 2]
    assert monitor.history[0].parts["encoder"].rows == BATCH
