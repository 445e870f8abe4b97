"""Everything runs on a device that is not the CPU: nothing is left behind, nothing strays.

The device is that of `helpers.device`: it computes on the CPU and refuses what a card refuses.
"""

import dataclasses
import json
import math

import numpy as np
import pytest
import torch
from PIL import Image

import offdiag.data.draws as draws_module
import offdiag.diagnostics.weights as weights_module
import offdiag.runs.build as build_module
from offdiag.data.dataset import Dataset, Splits
from offdiag.data.loader import TwoViewLoader
from offdiag.data.readers import load as load_images
from offdiag.data.view_recipes import VIEWS
from offdiag.diagnostics.head_matrix import head_matrix
from offdiag.diagnostics.monitor import Monitor
from offdiag.diagnostics.readings import read_head, read_part
from offdiag.encoders import projector, small_conv
from offdiag.registry import HEADS, METHODS, NORMALISERS, OPTIMIZERS
from offdiag.runs.compare import Grid, compare
from offdiag.runs.config import RunConfig
from offdiag.runs.diagnose import diagnose
from offdiag.runs.frozen import FrozenRun
from offdiag.runs.train import Watcher, resume, train
from offdiag.training.checkpoint import load_checkpoint
from offdiag.training.optimizers import make_optimizer

from .helpers.device import Placed, pretend_device

CARD = RunConfig(
    epochs=2,
    batch_size=32,
    projector=(16, 8),
    device="cuda",
    precision="32-true",  # autocast asks the driver
    checkpoint_seconds=0,
)
CPU = dataclasses.replace(CARD, device="cpu")


IMAGES = torch.randint(0, 256, (64, 1, 8, 8), generator=torch.Generator().manual_seed(0)).byte()
LABELS = torch.arange(64) % 4


class Stop(Exception):
    """A run is cut off at this point."""


@pytest.fixture(autouse=True)
def small(monkeypatch):
    """Runs of a moment: 64 images of noise and a net of 4 channels."""
    whole = Dataset(images=IMAGES, labels=LABELS, classes=tuple("abcd"), name="noise")
    splits = Splits(pretrain=whole, train=whole, test=whole.subset(torch.arange(24)))
    part = build_module._part

    def narrow(config, kind, size):
        if kind == "encoder":
            return small_conv(channels=size, width=4)
        return part(config, kind, size)

    monkeypatch.setattr(build_module, "load", lambda *_, **__: splits)
    monkeypatch.setattr(build_module, "_part", narrow)


@pytest.fixture
def device(monkeypatch):
    with pretend_device(monkeypatch) as waits:
        yield waits


def test_a_run_on_a_device_is_the_run_on_a_cpu(monkeypatch, tmp_path):
    here = train(CPU, tmp_path / "here")
    with pretend_device(monkeypatch):
        there = train(CARD, tmp_path / "there")
    assert there.circumstances["device"].startswith("cuda: ")
    # The views come from `views.apply` there and from the compiled kernel here.
    assert there.history[-1].loss == pytest.approx(here.history[-1].loss, abs=1e-3)
    assert there.history[-1].projection.effective_rank == pytest.approx(
        here.history[-1].projection.effective_rank, rel=1e-2
    )
    assert there.evaluation["linear"]["features"] == pytest.approx(
        here.evaluation["linear"]["features"], abs=0.1
    )


def test_a_run_cut_off_is_resumed_evaluated_embedded_and_diagnosed(device, tmp_path):
    def stop(step):
        if step == 3:
            raise Stop

    out = tmp_path / "run"
    with pytest.raises(Stop):
        train(CARD, out, watcher=Watcher(stepped=stop))
    record = resume(out)
    train(CARD, tmp_path / "whole")
    a, b = (load_checkpoint(path)["method"] for path in (out, tmp_path / "whole"))
    assert all(torch.equal(a[key], b[key]) for key in a)
    frozen = FrozenRun(out, device="cuda")
    assert next(frozen.method.parameters()).device.type == "cuda"
    assert frozen.evaluate()["knn"] == record.evaluation["knn"]
    assert frozen.embed(CARD, tmp_path / "all.npz") == 88
    assert diagnose(tmp_path / "all.npz", key="projection").readings is not None
    assert diagnose(out).name == "run"


def one_step(**settings):
    """One step of a method on the device, and the readings of its head where it is a matrix."""
    config = dataclasses.replace(CARD, **settings)
    method = build_module.build_method(config, image_channels=1).to("cuda")
    optimizer = make_optimizer(config.optimizer, method, lr=0.01)
    images = torch.rand(32, 1, 8, 8, device="cuda")
    loss, _, embedded = method(images, images * 0.9)
    loss.backward()
    optimizer.step()
    method.after_step(embedded.detached(), step=1, steps=2)
    matrix = None if method.head is None else head_matrix(method.head)
    if matrix is not None:
        read_head(matrix, torch.eye(len(matrix), device="cuda"))
    assert loss.device.type == "cuda" and math.isfinite(loss.item())


@pytest.mark.parametrize("method", METHODS)
def test_every_method_takes_a_step_there(method, device):
    one_step(method=method)


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_every_optimiser_takes_a_step_there(optimizer, device):
    one_step(optimizer=optimizer)


@pytest.mark.parametrize("head", HEADS)
def test_every_head_takes_a_step_and_is_read_there(head, device):
    one_step(head=head)


@pytest.mark.parametrize("normaliser", NORMALISERS)
def test_every_normaliser_takes_a_step_there(normaliser, device):
    one_step(normaliser=normaliser)


@pytest.mark.parametrize("name", VIEWS)
def test_every_view_recipe_is_made_there_as_it_is_on_a_cpu(name, monkeypatch):
    images = torch.randint(0, 256, (8, 3, 24, 24), dtype=torch.uint8)
    source = Dataset(images=images, labels=torch.arange(8), classes=tuple("abcdefgh"), name="x")
    recipe = tuple(dataclasses.replace(r, size=24) for r in VIEWS[name])

    def views(where):
        loader = TwoViewLoader(source, batch_size=8, seed=0, recipe=recipe, device=where)
        return next(loader.batches())

    here = views("cpu")
    with pretend_device(monkeypatch):
        there = views("cuda")
        assert isinstance(there.view_a, Placed) and there.labels.device.type == "cuda"
        torch.testing.assert_close(there.view_a.cpu(), here.view_a, atol=1e-4, rtol=0)
        torch.testing.assert_close(there.view_b.cpu(), here.view_b, atol=1e-4, rtol=0)


def test_every_reading_is_taken_there(monkeypatch):
    z = torch.randn(1100, 12)
    matrix = torch.randn(12, 12)
    here = read_part(z, z + 0.1), read_head(matrix, z.T @ z / len(z))
    with pretend_device(monkeypatch):
        y, E = z.cuda(), matrix.cuda()
        there = read_part(y, y + 0.1), read_head(E, y.T @ y / len(y))
        assert read_part(y[:5]).rows == 5
    for a, b in zip(here, there, strict=True):
        for field in dataclasses.fields(a):
            assert getattr(a, field.name) == pytest.approx(getattr(b, field.name), nan_ok=True)


def test_a_monitor_reads_a_loop_of_ones_own_there(device, tmp_path):
    net = small_conv(channels=1, width=4)
    model = torch.nn.ModuleDict(
        {"backbone": net, "projection_head": projector((net.dim, 8)), "head": torch.nn.Linear(8, 8)}
    ).to("cuda")
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    monitor = Monitor(model, every=1, budget=None).attach_optimizer(optimizer)
    images = torch.rand(64, 1, 8, 8, device="cuda")
    for _ in range(3):
        loss = 0
        z = [model["projection_head"](model["backbone"](images + k / 9)) for k in range(2)]
        p = [model["head"](x) for x in z]
        for a, b in ((0, 1), (1, 0)):
            loss = loss - torch.cosine_similarity(p[a], z[b].detach()).mean()
        loss.backward()
        monitor.note(loss=loss)
        optimizer.step()
        optimizer.zero_grad()
    assert len(monitor.history) >= 2
    assert monitor.verdict() is not None


def test_a_grid_runs_there(device, tmp_path):
    grid = Grid(base=dataclasses.replace(CARD, epochs=1), heads=("none",), seeds=(0,))
    (cell,) = compare(grid, tmp_path / "grid").cells
    assert cell.status.value == "finished", cell.error


def test_streamed_images_go_there(device, monkeypatch, tmp_path):
    monkeypatch.setattr(build_module, "load", load_images)
    for name in ("one", "two"):
        (tmp_path / "images" / name).mkdir(parents=True)
        for k in range(12):
            pixels = np.random.default_rng(k).integers(0, 256, (16, 16, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(tmp_path / "images" / name / f"{k}.png")
    config = dataclasses.replace(
        CARD, data=f"folder:{tmp_path / 'images'}", stream=True, workers=0, batch_size=8, epochs=1
    )
    assert train(config, tmp_path / "run").history[-1].loss > 0


def test_a_step_waits_for_the_device_nowhere(device, tmp_path):
    waited = []
    watcher = Watcher(stepped=lambda step: waited.append(len(device)))
    config = dataclasses.replace(CARD, epochs=4, checkpoint_seconds=1e9, read_every=4)
    train(config, tmp_path / "run", watcher=watcher)
    assert len(waited) == 8
    assert waited[-1] == waited[0]


def test_a_cpu_tensor_left_behind_is_found(device, monkeypatch, tmp_path):
    def planted(weight):
        return weight * (1 - torch.eye(len(weight), dtype=weight.dtype))

    # looked up where it is called: the table of readings holds the formulas around it
    monkeypatch.setattr(weights_module, "off_diagonal", planted)
    with pytest.raises(RuntimeError, match="at least two devices, cuda:0 and cpu"):
        train(CARD, tmp_path / "run")


def test_numbers_taken_without_cpu_are_found(device):
    with pytest.raises(TypeError, match="can't convert cuda:0"):
        torch.zeros(3, device="cuda").numpy()
    with pytest.raises(TypeError, match="can't convert cuda:0"):
        np.asarray(torch.zeros(3).cuda())


def test_a_generator_of_another_device_is_found(device, monkeypatch, tmp_path):
    def planted(shape, low, high, generator):
        return torch.rand(shape, generator=generator) * (high - low) + low

    monkeypatch.setattr(draws_module, "_uniform", planted)
    with pytest.raises(RuntimeError, match="Expected a 'cpu' device type for generator"):
        train(CARD, tmp_path / "run")


@pytest.mark.parametrize(
    "mix",
    [
        lambda x, y: x + y,
        lambda x, y: y + x,
        lambda x, y: torch.stack([x, y]),
        lambda x, y: torch.stack([x[0], y[0]]),
        lambda x, y: x @ y,
        lambda x, y: y.add_(x),
        lambda x, y: y[x.long()],
        lambda x, y: torch.where(x > 0, x, y),
        lambda x, y: torch.nn.functional.linear(x, y[None]),
    ],
)
def test_the_pretended_device_refuses_mixtures(mix, device):
    with pytest.raises(RuntimeError, match="device|indices"):
        mix(torch.ones(3, device="cuda"), torch.ones(3))


def test_the_pretended_device_allows_what_a_card_allows(device):
    x, y = torch.ones(3, device="cuda"), torch.ones(3)
    assert (x * torch.tensor(2.0)).device.type == "cuda"
    assert x[torch.tensor([0, 1])].device.type == "cuda"
    assert x.cpu().device.type == "cpu" and torch.equal(x.cpu(), y)
    y.copy_(x * 3)
    assert y.tolist() == [3, 3, 3]
    w = torch.ones(3, device="cuda", requires_grad=True)
    (w * x).sum().backward()
    assert w.grad.device.type == "cuda" and w.grad.tolist() == [1, 1, 1]
    assert json.dumps(x.tolist()) == "[1.0, 1.0, 1.0]"
