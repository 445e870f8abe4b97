"""Two processes that share each batch compute what one process computes."""

import dataclasses
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from torch import nn

import offdiag
from offdiag._checks import ConfigError, TrainingError
from offdiag.batchnorm import (
    BatchNormOverProcesses,
    normalise_over_processes,
    share_batchnorm,
)
from offdiag.data.loader import Batch
from offdiag.encoders import projector, small_conv
from offdiag.normalisers import batch_normalise
from offdiag.registry import HEADS, METHODS, REGULARISERS, TRANSFORMS
from offdiag.results.history import RunRecord
from offdiag.runs.build import method_of
from offdiag.runs.config import RunConfig
from offdiag.runs.processes import (
    Place,
    ProcessEnded,
    first_to_speak,
    launch,
    open_fabric,
    peers_may_end,
)
from offdiag.runs.train import Watcher, resume, train
from offdiag.training.checkpoint import load_checkpoint
from offdiag.training.fit import fit
from offdiag.training.optimizers import make_optimizer
from offdiag.training.schedules import Schedule

from .ranks import START_METHOD, in_ranks

STEPS = 4


def share_of(rows, place):
    return rows.chunk(place.size)[place.rank]


# --- BatchNorm


def norms():
    torch.manual_seed(0)
    for norm in (nn.BatchNorm1d(3), nn.BatchNorm2d(3, momentum=None), nn.BatchNorm2d(3)):
        with torch.no_grad():
            norm.weight.uniform_(0.5, 2)
            norm.bias.uniform_(-1, 1)
        yield nn.Sequential(norm).double()


def normalised(rows, weights):
    """Everything BatchNorm does with two batches: outputs, gradients, running statistics."""
    place = Place.here()
    open_fabric(torch.device("cpu"), "32-true", place)
    found = []
    for norm, batches, weighting in zip(norms(), rows, weights, strict=True):
        if place.size > 1:
            share_batchnorm(norm, torch.device("cpu"))
            assert isinstance(norm[0], BatchNormOverProcesses)
        for batch in batches:
            own = share_of(batch, place).clone().requires_grad_()
            out = norm(own)
            # not linear in `out`: a linear loss has no gradient through the statistics
            (out.sin() * share_of(weighting, place)).sum().backward()
            found.append((out.detach(), own.grad))
        found.append(([p.grad for p in norm.parameters()], norm.state_dict()))
        found.append(norm.eval()(batches[0]).detach())
    return found


def test_batchnorm_of_two_processes_is_that_of_one_with_all_rows(generator):
    shapes = [(6, 3), (4, 3, 5, 2), (8, 3, 2, 3)]
    rows = [100 + torch.randn(2, *s, generator=generator, dtype=torch.float64) for s in shapes]
    weights = [torch.randn(s, generator=generator, dtype=torch.float64) for s in shapes]
    alone = normalised(rows, weights)
    a, b = in_ranks(normalised, rows, weights)
    close = torch.testing.assert_close
    for one, first, second in zip(alone, a, b, strict=True):
        if isinstance(one, torch.Tensor):
            close(first, one)
            close(second, one)
        elif isinstance(one[0], list):
            for p, q, r in zip(one[0], first[0], second[0], strict=True):
                close(q + r, p)
            close(first[1], one[1])
            close(second[1], one[1])
        else:
            close(torch.cat([first[0], second[0]]), one[0])
            close(torch.cat([first[1], second[1]]), one[1])


def in_half_precision():
    open_fabric(torch.device("cpu"), "32-true", Place.here())
    norm = BatchNormOverProcesses(3)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        out = norm(torch.randn(8, 3, dtype=torch.bfloat16))
        plain = normalise_over_processes(torch.randn(8, 3, dtype=torch.bfloat16))
    return out.dtype, plain.dtype, norm.running_var.dtype, batch_normalise(torch.eye(4)).shape


def test_batchnorm_keeps_its_state_in_full_precision_under_autocast():
    for answer in in_ranks(in_half_precision):
        assert answer == (torch.bfloat16, torch.bfloat16, torch.float32, (4, 4))


# --- training


def make(settings):
    torch.manual_seed(0)
    encoder = small_conv(channels=1, width=4)
    config = RunConfig(projector=(16, 8), **settings)
    return method_of(config, encoder, projector((encoder.dim, 16, 8)))


class Views:
    """The same few batches for everyone; each process gets its part."""

    steps_per_epoch = STEPS

    def __init__(self, dtype, place):
        self.dtype, self.place = dtype, place

    def batches(self, *, first_step, last_step):
        for step in range(first_step, last_step):
            draw = torch.Generator().manual_seed(step)
            clean = torch.randn(16, 1, 8, 8, generator=draw, dtype=self.dtype)
            noise = 0.3 * torch.randn(2, 16, 1, 8, 8, generator=draw, dtype=self.dtype)
            a, b = (share_of(clean + n, self.place) for n in noise)
            yield Batch(step, (a, b), None, 0.0)


def fitted(cases, precision, optimizer):
    """For each case the losses of all steps and the weights at the end."""
    place = Place.here()
    found = []
    for settings in cases:
        unused = "online" in str(settings)
        fabric = open_fabric(torch.device("cpu"), precision, place, unused_weights=unused)
        dtype = torch.float64 if precision == "64-true" else torch.float32
        method = make(settings).to(dtype)
        if place.size > 1:
            share_batchnorm(method, torch.device("cpu"))
        losses = []
        fit(
            method,
            Views(dtype, place),
            make_optimizer(optimizer, method, lr=0.01, weight_decay=1e-4),
            steps=STEPS,
            fabric=fabric,
            schedule=Schedule(steps=STEPS),
            log_every=1,
            on_log=lambda metrics: losses.append(metrics.loss),  # noqa: B023
        )
        found.append((losses, method.state_dict()))
    return found


EVERY = [
    *({"method": name} for name in METHODS),
    *({"head": name} for name in HEADS),
    *({"transform": name, "normaliser": "l2"} for name in TRANSFORMS),
    *({"regulariser": name} for name in REGULARISERS),
]
CASES = [
    {"head": "mlp"},
    {"head": "direct-pred", "normaliser": "l2"},
    {"method": "byol", "normaliser": "l2", "head": "mlp"},
    {"method": "vicreg", "regulariser": "koleo"},
    {"method": "sigreg"},
    {"method": "dino"},
    {"transform": "whiten"},
    *({"settings": {"method": {"stop_gradient": side}}} for side in ("none", "online")),
]


@pytest.mark.slow
def test_every_mechanism_on_two_processes_gives_the_numbers_of_one():
    compare_to_one_process(EVERY, "64-true", "adam", 1e-6)


@pytest.mark.parametrize(
    ("precision", "optimizer", "tolerance"), [("64-true", "adam", 1e-6), ("32-true", "sgd", 1e-5)]
)
def test_losses_and_weights_of_two_processes_are_those_of_one(precision, optimizer, tolerance):
    compare_to_one_process(CASES, precision, optimizer, tolerance)


def compare_to_one_process(cases, precision, optimizer, tolerance):
    alone = fitted(cases, precision, optimizer)
    ranks = in_ranks(fitted, cases, precision, optimizer)
    for case, one, first, second in zip(cases, alone, *ranks, strict=True):
        assert len(one[0]) == STEPS and not second[0], case
        assert first[0] == pytest.approx(one[0], rel=tolerance), case
        for key, value in one[1].items():
            if precision == "64-true":  # Fabric rounds the loss alone to float32
                torch.testing.assert_close(first[1][key], value, rtol=1e-6, atol=1e-9)
            assert torch.equal(first[1][key], second[1][key]), (case, key)


# --- runs

SHORT = RunConfig(
    epochs=2,
    batch_size=256,
    projector=(16, 8),
    head="mlp",
    method="byol",
    optimizer="sgd",
    lr=0.02,  # at 0.1 ten steps magnify rounding to 2e-3 of the rank
    checkpoint_seconds=0,
    device="cpu",
)


def agree(record, reference):
    for row, expected in zip(record.history, reference.history, strict=True):
        assert (row.step, row.epoch) == (expected.step, expected.epoch)
        assert row.loss == pytest.approx(expected.loss, rel=1e-4)
        for part in ("features", "projection"):
            ours, theirs = (vars(getattr(r, part)) for r in (row, expected))
            assert ours["effective_rank"] == pytest.approx(theirs["effective_rank"], rel=1e-3)
        assert row.knn == pytest.approx(expected.knn, abs=0.01)
    for kind in ("knn", "linear"):
        ours, theirs = record.evaluation[kind], reference.evaluation[kind]
        assert ours == pytest.approx(theirs, abs=0.01)


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    out = tmp_path_factory.mktemp("runs") / "alone"
    return out, train(SHORT, out)


def test_a_run_of_two_processes_leaves_the_directory_of_one(alone, tmp_path):
    out = tmp_path / "shared"
    a, b = in_ranks(train, SHORT, out)
    assert repr(a) == repr(b) == repr(RunRecord.load(out))  # nan is no nan but looks like one
    agree(a, alone[1])
    assert sorted(f.name for f in out.iterdir()) == sorted(f.name for f in alone[0].iterdir())
    assert list(tmp_path.iterdir()) == [out]
    assert (a.circumstances["processes"], alone[1].circumstances["processes"]) == (2, 1)
    assert a.config == alone[1].config


def cut(out, at):
    """Train until the first process stops at a step; how each process ended."""

    def stepped(step):
        if step == at:
            raise KeyboardInterrupt

    try:
        train(SHORT, out, watcher=Watcher(stepped=stepped))
    except (KeyboardInterrupt, ProcessEnded) as error:
        return type(error).__name__


@pytest.mark.parametrize("first", [1, 2])
def test_a_run_goes_on_with_another_number_of_processes(alone, tmp_path, monkeypatch, first):
    monkeypatch.setattr("offdiag.runs.processes.GRACE_SECONDS", 0)
    out = tmp_path / "run"
    if first == 1:
        assert cut(out, 6) == "KeyboardInterrupt"
        record = in_ranks(resume, out)[0]
    else:
        assert in_ranks(cut, out, 6) == ["KeyboardInterrupt", "ProcessEnded"]
        record = resume(out)
    agree(record, alone[1])


def diverging(out):
    config = dataclasses.replace(SHORT, lr=1e30, normaliser="none", method="simsiam")
    with pytest.raises((TrainingError, ProcessEnded)) as caught:
        train(config, out)
    return str(caught.value)


def test_a_loss_that_is_not_finite_is_named_at_the_step_of_a_run_alone(tmp_path, monkeypatch):
    monkeypatch.setattr("offdiag.runs.processes.GRACE_SECONDS", 0)
    expected = diverging(tmp_path / "alone")
    assert "not finite at step" in expected
    assert in_ranks(diverging, tmp_path / "shared")[0] == expected
    state = load_checkpoint(tmp_path / "shared")["method"]
    assert all(value.isfinite().all() for value in state.values())


def refused(out):
    with pytest.raises(ConfigError) as caught:
        train(dataclasses.replace(SHORT, batch_size=255), out)
    return str(caught.value)


def test_a_batch_that_cannot_be_shared_is_refused_before_anything_is_written(tmp_path):
    assert all("cannot be shared by 2" in told for told in in_ranks(refused, tmp_path / "run"))
    assert not list(tmp_path.iterdir())


def speaking():
    return first_to_speak()


def test_one_process_alone_is_the_first_to_speak():
    assert speaking()


# --- starting and ending


def meeting(fate):
    """Wait for the other process, which meets its `fate` first."""
    place = Place.here()
    fabric = open_fabric(torch.device("cpu"), "32-true", place)
    with peers_may_end(place):
        fabric.barrier()
        if place.rank == 1:
            fate()
        fabric.strategy.all_reduce(torch.ones(3))


def killed():
    os.kill(os.getpid(), signal.SIGKILL)


def diverged():
    raise TrainingError("the loss: not finite.")


def broken():
    raise KeyError("a bug")


@pytest.mark.parametrize(
    ("fate", "kind", "sentence"),
    [
        (killed, ProcessEnded, "process 1 of 2 was killed .SIGKILL.* and the others stopped"),
        (diverged, TrainingError, "^the loss: not finite.$"),
        (broken, RuntimeError, "(?s)process 1 of 2 failed:.*in broken.*a bug"),
    ],
)
def test_the_end_of_one_process_ends_all_and_is_told_as_it_was(fate, kind, sentence, capfd):
    handler, before = signal.getsignal(signal.SIGINT), time.monotonic()
    with pytest.raises(kind, match=sentence):
        launch(meeting, fate, processes=2, start_method=START_METHOD)
    assert time.monotonic() - before < 100  # a bound, on a machine however busy
    assert signal.getsignal(signal.SIGINT) is handler
    assert capfd.readouterr() == ("", "")


def test_a_process_that_others_leave_says_so_by_itself(monkeypatch):
    monkeypatch.setattr("offdiag.runs.processes.GRACE_SECONDS", 0)

    assert "another process of this run ended" in in_ranks(left)[0]


class Stop(Exception):
    """A run is cut off at this point."""


def stop():
    raise Stop


def left():
    try:
        meeting(stop)
    except (Stop, ProcessEnded) as error:
        return str(error)


# --- the command

COMMAND = [sys.executable, "-m", "offdiag", "train"]
WORDS = ["--batch-size", "256", "--projector", "16", "8", "--checkpoint-seconds", "0"]
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1"}


def run(*words, seconds=120):
    return subprocess.run(
        list(words), env=ENVIRONMENT, capture_output=True, text=True, timeout=seconds
    )


def workers_of(process):
    """The ranks that a launching process has started, by their order."""
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    return sorted(
        int(child)
        for child in children
        if b"spawn_main" in Path(f"/proc/{child}/cmdline").read_bytes()
    )


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="needs Linux's /proc")
@pytest.mark.parametrize("rank", [0, 1])
def test_killing_a_process_ends_the_run_with_one_sentence_and_it_goes_on(tmp_path, rank):
    out = tmp_path / "run"
    words = [*COMMAND, "--out", str(out), "--devices", "2", "--epochs", "200", *WORDS]
    process = subprocess.Popen(
        words, env=ENVIRONMENT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    )
    while process.poll() is None and not (out / "metrics.jsonl").exists():
        time.sleep(0.05)
    os.kill(workers_of(process)[rank], signal.SIGKILL)
    _, told = process.communicate(timeout=60)
    assert process.returncode == 2
    assert told.count("\n") == 1 and told.startswith(f"offdiag: process {rank} of 2 was killed")
    assert f"--resume {out} --devices 2" in told
    at = load_checkpoint(out)["progress"]["step"]
    assert at > 0

    def stepped(step):
        raise Stop

    with pytest.raises(Stop):
        resume(out, watcher=Watcher(stepped=stepped))


@pytest.mark.slow
def test_an_error_of_all_processes_is_told_once(tmp_path):
    words = ["--out", str(tmp_path / "run"), "--lr", "1e30", "--normaliser", "none", *WORDS]
    for start in ([*COMMAND, "--devices", "2"], [*TORCHRUN, "-m", "offdiag", "train"]):
        ended = run(*start, *words)
        assert ended.returncode != 0
        assert ended.stderr.count("offdiag: ") == 1, ended.stderr
        assert "is not finite at step" in ended.stderr
        shutil.rmtree(tmp_path / "run")


TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
SCRIPT = str(Path(offdiag.__file__).parent / "__main__.py")
FABRIC = [str(Path(sys.executable).parent / "fabric"), "run", "--accelerator", "cpu"]


@pytest.mark.slow
@pytest.mark.parametrize("more", [[], ["--devices", "2"]], ids=["alone", "shared"])
@pytest.mark.parametrize("method", ["simsiam", "byol"])
def test_a_compiled_run_is_the_plain_run_up_to_rounding(tmp_path, method, more):
    words = [
        *WORDS,
        *more,
        "--method",
        method,
        "--epochs",
        "1",
        "--optimizer",
        "sgd",
        "--lr",
        "0.02",
    ]
    plain = run(*COMMAND, "--out", str(tmp_path / "plain"), *words)
    compiled = run(*COMMAND, "--out", str(tmp_path / "compiled"), "--compile", *words, seconds=300)
    assert (plain.returncode, compiled.returncode) == (0, 0), compiled.stderr
    agree(RunRecord.load(tmp_path / "compiled"), RunRecord.load(tmp_path / "plain"))
    kept = [load_checkpoint(tmp_path / name)["method"].keys() for name in ("plain", "compiled")]
    assert kept[0] == kept[1]  # a compiled run's checkpoint is an ordinary one


@pytest.mark.slow
@pytest.mark.parametrize(
    "start",
    [
        [*COMMAND, "--devices", "2"],
        [*TORCHRUN, "-m", "offdiag", "train"],
        [*FABRIC, "--devices", "2", SCRIPT, "train"],
    ],
    ids=["devices", "torchrun", "fabric"],
)
def test_every_way_to_start_trains_the_same_run(tmp_path, start):
    # SGD: Adam's first steps, as large for a small gradient as for a large one, magnify rounding.
    words = [*WORDS, "--epochs", "1", "--optimizer", "sgd", "--lr", "0.02"]
    reference = run(*COMMAND, "--out", str(tmp_path / "alone"), *words)
    shared = run(*start, "--out", str(tmp_path / "shared"), *words)
    assert (reference.returncode, shared.returncode) == (0, 0), shared.stderr
    agree(RunRecord.load(tmp_path / "shared"), RunRecord.load(tmp_path / "alone"))
    assert shared.stdout.count("epoch 1:") == 1
    assert (tmp_path / "shared" / "report.html").exists()
