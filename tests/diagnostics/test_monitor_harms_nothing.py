"""Laws of a monitor that meets what it cannot read: the run goes on, and it is said once."""

import copy
import math

import pytest
import torch
from torch import nn

from offdiag.diagnostics.causes.cause import State
from offdiag.diagnostics.monitor import Monitor
from offdiag.results.observation import MonitorRecord

BATCH = 24


def holder(**children: nn.Module) -> nn.Module:
    module = nn.Module()
    for name, child in children.items():
        setattr(module, name, child)
    return module


class SimSiam(nn.Module):
    def __init__(self, encoder: nn.Module | None = None, width: int = 8) -> None:
        super().__init__()
        self.backbone = encoder or nn.Sequential(nn.Linear(6, 8), nn.BatchNorm1d(8), nn.ReLU())
        self.projection_head = nn.Linear(width, 5)
        self.prediction_head = nn.Linear(5, 5)

    def forward(self, x):
        z = self.projection_head(self.backbone(x))
        return z, self.prediction_head(z)


def images(step: int = 0, batch: int = BATCH) -> torch.Tensor:
    return torch.randn(batch, 6, generator=torch.Generator().manual_seed(step))


def loss_of(out_a, out_b):
    (z_a, p_a), (z_b, p_b) = out_a, out_b
    cosine = nn.functional.cosine_similarity
    return -0.5 * (cosine(p_a, z_b.detach()) + cosine(p_b, z_a.detach())).mean()


def train(model, monitor, *, steps=3, before=None, call=None, optimizer=None):
    optimizer = optimizer or torch.optim.SGD(model.parameters(), lr=0.1)
    if monitor is not None:
        monitor.attach_optimizer(optimizer)
    for step in range(steps):
        if before is not None:
            before(step)
        a, b = images(step) + 0.1 * images(step + 100), images(step) + 0.1 * images(step + 200)
        loss = loss_of(model(a), model(b)) if call is None else call(model, a, b)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return monitor


def every(model, **settings) -> Monitor:
    return Monitor(model, **{"every": 1, "budget": None, **settings})


def test_a_target_in_inference_mode_is_read():
    model = SimSiam()
    model.projection_head_momentum = copy.deepcopy(model.projection_head)

    def call(model, a, b):
        with torch.inference_mode():
            model.projection_head_momentum(model.backbone(a))
            model.projection_head_momentum(model.backbone(b))
        return loss_of(model(a), model(b))

    monitor = train(model, every(model), call=call)
    for observation in monitor.history:
        assert observation.parts["target"].rows == 2 * BATCH
        assert math.isfinite(observation.parts["target"].effective_rank)


def test_an_empty_batch_is_no_reading_and_no_error():
    model = SimSiam(nn.Linear(6, 8))
    monitor = every(model)

    def call(model, a, b):
        model(a[:0])
        return loss_of(model(a), model(b))

    train(model, monitor, call=call)
    assert monitor.history[0].parts["encoder"].rows == 2 * BATCH


def test_multi_crop_with_an_odd_batch_is_read_as_one_view():
    model = SimSiam()

    def call(model, a, b):
        z, p = model(torch.cat((a, b, a[:1])))
        return loss_of((z[:BATCH], p[:BATCH]), (z[BATCH:-1], p[BATCH:-1]))

    monitor = every(model, views_concatenated=2)
    with pytest.warns(UserWarning, match="49 rows, which do not split into 2 views.*goes on"):
        train(model, monitor, call=call)
    assert monitor.history[-1].parts["projector"].rows == 2 * BATCH + 1


class Sparse(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Linear(6, 8)

    def forward(self, x):
        return self.inner(x).relu().to_sparse()


class Dense(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Linear(8, 5)

    def forward(self, x):
        return self.inner(x.to_dense())


def test_sparse_outputs_are_read_as_rows():
    model = SimSiam(Sparse())
    model.projection_head = Dense()
    monitor = train(model, every(model))
    assert monitor.history[0].parts["encoder"].dim == 8


def test_a_logger_that_raises_is_noted_once_and_counted():
    model = SimSiam()

    def logger(scalars, step):
        raise RuntimeError("no connection")

    monitor = every(model, logger=logger)
    with pytest.warns(UserWarning, match="the logger refused the readings: no connection") as said:
        train(model, monitor)
    assert len(said) == 1 and len(monitor.history) == 3
    monitor.remove()
    assert monitor.notes[-1].text == "the logger refused the readings: 3 times in all."


def test_unsuitable_pooling_is_noted_and_training_goes_on():
    model = SimSiam()

    def pooling(output):
        raise ValueError("no such axis")

    with pytest.warns(UserWarning, match="no such axis"):
        monitor = train(model, every(model, pooling=pooling))
    assert monitor.history == [] and monitor.steps == 3


def test_pooling_may_differ_by_part():
    tokens = nn.Linear(6, 8)
    model = holder(encoder=tokens, projector=nn.Linear(8, 5))
    monitor = every(model, pooling={"encoder": lambda output: output.flatten(0, 1)})
    model.projector(tokens(torch.randn(4, 7, 6)))
    monitor.step()
    assert monitor.history[0].parts["encoder"].rows == 28
    assert monitor.history[0].parts["projector"].rows == 4


def test_a_second_monitor_on_one_file_takes_its_place_and_erases_nothing(tmp_path):
    file, model = tmp_path / "monitor.jsonl", SimSiam()
    first = train(model, every(model, file=file))
    with pytest.warns(UserWarning, match="another monitor of this process wrote"):
        second = every(model, file=file)
    with pytest.warns(UserWarning, match="another run's record: it is now .*monitor-1.jsonl"):
        train(model, second, steps=2)
    assert len(first.history) == 3
    assert len(MonitorRecord.load(tmp_path / "monitor-1.jsonl").history) == 3
    assert [o.step for o in MonitorRecord.load(file).history] == [0, 1]


def test_a_file_that_another_program_writes_is_left_to_it(tmp_path):
    file, model = tmp_path / "monitor.jsonl", SimSiam()
    monitor = every(model, file=file)

    def other(step):
        if step == 2:
            file.write_text(file.read_text() + "\n")

    with pytest.warns(UserWarning, match="was changed by another program"):
        train(model, monitor, before=other)
    assert len(monitor.history) == 3


def test_a_pass_without_gradient_in_train_mode_is_no_reading():
    model, plain = SimSiam(), SimSiam()
    plain.load_state_dict(model.state_dict())

    def call(model, a, b):
        with torch.no_grad():
            model.backbone(torch.zeros(50, 6))
        return loss_of(model(a), model(b))

    monitor = train(model, every(model), call=call)
    assert monitor.history[0].parts["encoder"].rows == 2 * BATCH
    expected = train(plain, every(plain))
    ranks = [m.history[0].parts["encoder"].effective_rank for m in (monitor, expected)]
    assert ranks[0] == pytest.approx(ranks[1])


def test_a_frozen_encoder_under_no_grad_is_read():
    model = SimSiam()

    def call(model, a, b):
        with torch.no_grad():
            h_a, h_b = model.backbone(a), model.backbone(b)
        z_a, z_b = model.projection_head(h_a), model.projection_head(h_b)
        return loss_of((z_a, model.prediction_head(z_a)), (z_b, model.prediction_head(z_b)))

    monitor = train(model, every(model), call=call)
    assert monitor.history[0].parts["encoder"].rows == 2 * BATCH


def test_training_in_evaluation_mode_is_read_and_named():
    model = SimSiam().eval()
    monitor = train(model, every(model))
    assert monitor.history[0].parts["encoder"].rows == 2 * BATCH
    assert "evaluation-mode" in [finding.cause.key for finding in monitor.check()]


def test_validation_is_not_read():
    model = SimSiam()

    def call(model, a, b):
        model.eval()
        with torch.no_grad():
            model(torch.zeros(50, 6))
        model.train()
        return loss_of(model(a), model(b))

    monitor = train(model, every(model), call=call)
    assert monitor.history[0].parts["encoder"].rows == 2 * BATCH
    assert monitor.history[0].marks["modes/evaluated"] == 0


def test_a_part_that_is_found_and_never_runs_is_said():
    model = SimSiam()
    model.projection_head_momentum = copy.deepcopy(model.projection_head)
    with pytest.warns(
        UserWarning, match=r"target \(projection_head_momentum\) was found and never"
    ):
        train(model, every(model))


class SequenceFirst(nn.Module):
    """A transformer as torch builds it: (tokens, batch, dim)."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.TransformerEncoderLayer(8, 2, 16, dropout=0.0)

    def forward(self, x):
        return self.layer(x.transpose(0, 1))


class FirstToken(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Linear(8, 5)

    def forward(self, h):
        return self.inner(h)


@pytest.mark.parametrize("images_first", [True, False])
def test_axes_are_found_by_what_goes_into_the_projector(images_first):
    """12 images of 7 tokens: the projector takes 12 rows of width 8."""
    encoder = nn.Identity() if images_first else SequenceFirst()
    model = holder(encoder=encoder, projector=nn.Linear(8, 5))
    monitor = every(model)
    x = torch.randn(12, 7, 8)
    h = model.encoder(x)
    model.projector(h.mean(1 if images_first else 0))
    monitor.step()
    read = monitor.history[0].parts["encoder"]
    assert (read.rows, read.dim) == (12, 8)


@pytest.mark.parametrize(
    ("encoder", "x", "rows", "width"),
    [
        (nn.GRU(6, 8), torch.randn(7, 12, 6), 12, 8),
        (nn.GRU(6, 8, batch_first=True), torch.randn(12, 7, 6), 12, 8),
        (SequenceFirst(), torch.randn(12, 7, 8), 12, 8),
        (nn.Conv1d(3, 10, 3), torch.randn(12, 3, 20), 12, 10),
        (nn.Conv2d(3, 10, 3), torch.randn(12, 3, 9, 9), 12, 10),
        (nn.Sequential(nn.LayerNorm(16)), torch.randn(12, 4, 5, 16), 12, 16),
        (nn.Linear(6, 8), torch.randn(12, 7, 6), 12, 8),
    ],
    ids=["gru", "gru, batch first", "transformer", "conv1d", "conv2d", "swin", "tokens"],
)
def test_axes_are_found_by_the_module_where_nothing_follows(encoder, x, rows, width):
    monitor = every(None, encoder=encoder)
    encoder(x)
    monitor.step()
    read = monitor.history[0].parts["encoder"]
    assert (read.rows, read.dim) == (rows, width)


class Masked(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Linear(6, 8)

    def forward(self, x, attention_mask=None):
        return self.inner(x)


def test_padding_is_left_out_of_the_mean():
    encoder = Masked()
    x = torch.randn(12, 7, 6)
    mask = torch.ones(12, 7)
    mask[:, 4:] = 0
    padded = every(None, encoder=encoder)
    encoder(x + 100 * (1 - mask)[..., None], attention_mask=mask)
    padded.step()
    cut = every(None, encoder=encoder)
    encoder(x[:, :4])
    cut.step()
    ranks = [m.history[0].parts["encoder"].effective_rank for m in (padded, cut)]
    assert ranks[0] == pytest.approx(ranks[1], rel=1e-4)


@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor:UserWarning")
def test_a_second_compiled_instance_of_a_class_is_heard_even_late():
    first, second = SimSiam(), SimSiam()
    compiled = [torch.compile(model, backend="eager") for model in (first, second)]
    for model in compiled:
        loss_of(model(images(0)), model(images(1))).backward()
    monitor = every(compiled[1])
    loss_of(compiled[1](images(0)), compiled[1](images(1))).backward()
    assert monitor.step().parts.keys() == {"encoder", "projector", "predictor"}


class Larc:
    """A wrapper of an optimiser, as LARC is."""

    def __init__(self, optim) -> None:
        self.optim = optim

    def step(self):
        self.optim.step()

    def zero_grad(self):
        self.optim.zero_grad()


class Bare(torch.optim.Optimizer):
    """A subclass that never calls Optimizer.__init__, over nothing that takes hooks."""

    def __init__(self, parameters) -> None:
        self.param_groups = [{"params": list(parameters), "lr": 0.1}]

    def step(self):
        with torch.no_grad():
            for p in self.param_groups[0]["params"]:
                p -= 0.1 * p.grad

    def zero_grad(self):
        for p in self.param_groups[0]["params"]:
            p.grad = None


def test_the_optimiser_in_a_wrapper_ends_the_steps():
    model = SimSiam()
    wrapped = Larc(torch.optim.SGD(model.parameters(), lr=0.1))
    monitor = train(model, every(model), optimizer=wrapped)
    assert [o.step for o in monitor.history] == [0, 1, 2]


def test_an_optimiser_without_hooks_is_said_and_step_ends_the_steps():
    model = SimSiam()
    monitor = every(model)
    with pytest.warns(UserWarning, match=r"Bare takes no hooks: call monitor.step\(\)"):
        train(model, monitor, optimizer=Bare(model.parameters()))
    monitor.step()
    assert [o.step for o in monitor.history] == [0]


def test_a_loss_that_is_not_finite_is_noted():
    model = SimSiam()
    monitor = every(model)
    model(images())
    with pytest.warns(UserWarning, match="the loss is nan at step 0"):
        monitor.step(loss=math.nan)
    assert monitor.history[0].marks.get("loss/finite", 0.0) == 0.0


def test_equal_runs_have_equal_readings_whatever_the_clock(monkeypatch):
    import time

    histories = []
    for factor in (1.0, 1e4):
        torch.manual_seed(0)
        clock = time.perf_counter
        monkeypatch.setattr(time, "perf_counter", lambda f=factor, c=clock: f * c())
        model = SimSiam()
        monitor = train(model, Monitor(model, every=4), steps=60)
        monkeypatch.undo()
        histories.append(monitor.history)
    assert histories[0] == histories[1]


def test_views_side_by_side_are_told_from_halves():
    def read(order) -> Monitor:
        torch.manual_seed(0)
        model = SimSiam(nn.Linear(6, 8))
        a, b = images() + 0.1 * images(1), images() + 0.1 * images(2)
        monitor = every(model, views_concatenated=2)
        z, p = model(order(a, b))
        monitor.step()
        return monitor

    halves = read(lambda a, b: torch.cat((a, b)))
    beside = read(lambda a, b: torch.stack((a, b), 1).flatten(0, 1))
    for part in ("encoder", "projector"):
        values = [m.history[0].parts[part].alignment for m in (halves, beside)]
        assert values[0] == pytest.approx(values[1], rel=1e-5)


def test_two_towers_are_two_monitors():
    from offdiag.diagnostics.parts import towers

    clip = holder(
        text_model=nn.Linear(4, 8),
        vision_model=nn.Linear(6, 8),
        text_projection=nn.Linear(8, 5),
        visual_projection=nn.Linear(8, 5),
    )
    with pytest.warns(UserWarning, match="two towers: the vision tower is watched"):
        monitor = every(clip)
    assert {part: tap.name for part, tap in monitor.taps.items()} == {
        "encoder": "vision_model",
        "projector": "visual_projection",
    }
    text = every(None, **towers(clip)["text"])
    assert text.taps["encoder"].module is clip.text_model


def test_what_is_in_order_is_ruled_out():
    from offdiag.diagnostics.causes.find import find_causes

    model = SimSiam()
    monitor = train(model, every(model), steps=8)
    states = {finding.cause.key: finding.state for finding in find_causes(monitor.record())}
    assert states["gradient-in-target"] is State.IN_ORDER
    assert states["predictor-frozen"] is State.IN_ORDER
    assert states["target-frozen"] is State.NOT_MEASURED
