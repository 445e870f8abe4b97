"""What only a card can show. `make test-gpu` runs these and all others that are marked so."""

import copy
import dataclasses
import math
import time

import pytest
import torch

from offdiag.diagnostics.monitor import Monitor
from offdiag.encoders import projector, resnet, small_conv
from offdiag.evaluation.knn import knn_accuracy
from offdiag.evaluation.linear import linear_probe
from offdiag.results.history import CONFIG_FILE, read_config
from offdiag.runs.config import RunConfig
from offdiag.runs.train import Watcher, resume, train
from offdiag.training.checkpoint import load_checkpoint

pytestmark = pytest.mark.gpu

CARD = RunConfig(
    epochs=3,
    batch_size=512,
    projector=(16, 8),
    device="cuda",
    precision="32-true",
    checkpoint_seconds=0,
)
DEMO_KNN = 0.9


class Stop(Exception):
    """A run is cut off at this point."""


def stop_at(step):
    def stepped(now):
        if now == step:
            raise Stop

    return Watcher(stepped=stepped)


def clusters(rows, dim=512, classes=10, seed=0):
    draw = torch.Generator().manual_seed(9)
    centres = torch.randn(classes, dim, generator=draw)
    draw.manual_seed(seed)
    labels = torch.arange(rows) % classes
    return centres[labels] + 12 * torch.randn(rows, dim, generator=draw), labels


def test_a_first_run_of_a_process_starts_before_cuda_is_initialised(tmp_path):
    import subprocess
    import sys

    words = ["train", "--device", "cuda", "--epochs", "1", "--out", str(tmp_path / "run")]
    done = subprocess.run(
        [sys.executable, "-m", "offdiag", *words], capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    assert "set_float32_matmul_precision" not in done.stdout + done.stderr


def test_a_run_resumed_ends_in_the_same_bits_where_algorithms_are_deterministic(
    tmp_path, monkeypatch
):
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(True, warn_only=False)
    try:
        train(CARD, tmp_path / "whole")
        with pytest.raises(Stop):
            train(CARD, tmp_path / "cut", watcher=stop_at(3))
        resume(tmp_path / "cut")
    finally:
        torch.use_deterministic_algorithms(False)
    a, b = (load_checkpoint(tmp_path / name)["method"] for name in ("whole", "cut"))
    assert all(torch.equal(a[key], b[key]) for key in a)


def test_a_run_resumed_without_them_ends_close_by(tmp_path):
    whole = train(CARD, tmp_path / "whole")
    with pytest.raises(Stop):
        train(CARD, tmp_path / "cut", watcher=stop_at(3))
    loss = resume(tmp_path / "cut").history[-1].loss
    assert loss == pytest.approx(whole.history[-1].loss, abs=1e-3)


@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed", "16-mixed"])
def test_a_run_on_a_card_learns_as_on_a_cpu(precision, tmp_path):
    there = train(dataclasses.replace(CARD, precision=precision), tmp_path / "there")
    here = train(dataclasses.replace(CARD, device="cpu"), tmp_path / "here")
    # A card's generator draws other views; four draws on a CPU gave .36 to .46 from these weights.
    assert there.history[-1].loss == pytest.approx(here.history[-1].loss, abs=0.12)
    assert there.evaluation["linear"]["features"] == pytest.approx(
        here.evaluation["linear"]["features"], abs=0.05
    )


def test_auto_precision_is_recorded_as_what_it_became(tmp_path):
    train(dataclasses.replace(CARD, epochs=1, precision="auto"), tmp_path / "run")
    recorded = read_config(tmp_path / "run")["config"]
    has_bf16 = torch.cuda.is_bf16_supported(including_emulation=False)
    assert recorded["precision"] == ("bf16-mixed" if has_bf16 else "32-true"), CONFIG_FILE


@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")
def test_a_compiled_run_is_the_eager_one(tmp_path):
    eager = train(CARD, tmp_path / "eager")
    compiled = train(dataclasses.replace(CARD, compile=True), tmp_path / "compiled")
    assert compiled.history[-1].loss == pytest.approx(eager.history[-1].loss, abs=0.01)


def test_a_monitor_marks_one_batch_and_leaves_training_alone():
    def run(watched):
        torch.manual_seed(0)
        net = small_conv(channels=1, width=8)
        model = torch.nn.ModuleDict(
            {
                "backbone": net,
                "projection_head": projector((net.dim, 8)),
                "prediction_head": torch.nn.Linear(8, 8),
            }
        ).cuda()
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        monitor = None
        if watched:
            monitor = Monitor(model, every=2, budget=None).attach_optimizer(optimizer)
        images = torch.rand(64, 1, 8, 8, device="cuda")
        for _ in range(6):
            z = [model["projection_head"](model["backbone"](images + k / 9)) for k in range(2)]
            p = [model["prediction_head"](x) for x in z]
            loss = -sum(torch.cosine_similarity(p[a], z[1 - a].detach()).mean() for a in range(2))
            loss.backward()
            if monitor is not None:
                monitor.note(loss=loss)
            optimizer.step()
            optimizer.zero_grad()
        return loss.item(), monitor

    alone, _ = run(False)
    watched, monitor = run(True)
    assert watched == pytest.approx(alone, abs=1e-5)
    assert len(monitor.history) >= 3 and monitor.verdict() is not None


def test_evaluation_scores_as_on_a_cpu_and_in_seconds():
    x, labels = clusters(50_000)
    y, others = clusters(10_000, seed=1)
    few = [part[:512] for part in (x, labels, y, others)]
    there = [part.cuda() for part in (x, labels, y, others)]
    knn_accuracy(*(part[:512] for part in there))
    linear_probe(*(part[:512] for part in there))
    start = time.perf_counter()
    knn, probe = knn_accuracy(*there), linear_probe(*there)
    assert time.perf_counter() - start < 5
    assert probe.accuracy == pytest.approx(linear_probe(x, labels, y, others).accuracy, abs=1e-3)
    few_there = [part.cuda() for part in few]
    assert knn_accuracy(*few_there) == pytest.approx(knn_accuracy(*few), abs=2 / 512)
    assert 0 <= knn <= 1


def test_the_demos_net_learns_the_digits_on_a_card(tmp_path):
    config = RunConfig(data="digits", epochs=30, device="cuda")
    assert train(config, tmp_path / "run").evaluation["knn"]["features"] > DEMO_KNN


def test_memory_does_not_grow_with_the_steps(tmp_path):
    held = []
    watcher = Watcher(stepped=lambda step: held.append(torch.cuda.memory_allocated()))
    train(
        dataclasses.replace(CARD, epochs=30, checkpoint_seconds=1e9),
        tmp_path / "run",
        watcher=watcher,
    )
    assert held[-1] <= held[len(held) // 2] * 1.01


def test_readings_of_a_wide_embedding_are_quick():
    from offdiag.diagnostics.readings import read_part

    z = torch.randn(2_048, 512, device="cuda")
    read_part(z)
    start = time.perf_counter()
    readings = read_part(z)
    seconds = time.perf_counter() - start
    assert math.isfinite(readings.effective_rank)
    assert seconds < 1


def test_a_resnet_in_bfloat16_and_channels_last_takes_a_step():
    import torchvision

    net = resnet(torchvision.models.resnet18).cuda().to(memory_format=torch.channels_last)
    images = torch.rand(64, 3, 32, 32, device="cuda").to(memory_format=torch.channels_last)
    before = copy.deepcopy(net.state_dict())
    optimizer = torch.optim.Adam(net.parameters(), fused=True)
    with torch.autocast("cuda", torch.bfloat16):
        net(images).square().mean().backward()
    optimizer.step()
    assert any(not torch.equal(before[k], v) for k, v in net.state_dict().items())
