"""A run from start to end, stopped and resumed, and everything that can go wrong on the way."""

import dataclasses
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import offdiag.runs.train as train_module
from offdiag._checks import ConfigError, RunError, TrainingError
from offdiag.encoders import Encoder, projector
from offdiag.heads import HEADS, IdentityInitHead
from offdiag.methods.simsiam import SimSiam
from offdiag.registry import METHODS
from offdiag.results.history import METRICS_FILE, RunRecord
from offdiag.runs.config import RunConfig
from offdiag.runs.frozen import FrozenRun
from offdiag.runs.train import Watcher, resume, train
from offdiag.training.checkpoint import CHECKPOINT_FILE, load_checkpoint

SHORT = RunConfig(epochs=3, batch_size=512, projector=(16, 8), checkpoint_seconds=0)


class Stop(Exception):
    """A run is cut off at this point."""


def stop_at(step):
    def stepped(now):
        if now == step:
            raise Stop

    return Watcher(stepped=stepped)


def weights(directory):
    state = load_checkpoint(directory)
    return {**state["method"], **{f"head {k}": v for k, v in (state["head"] or {}).items()}}


def same(a, b):
    return a.keys() == b.keys() and all(
        torch.equal(a[k], b[k]) if isinstance(a[k], torch.Tensor) else a[k] == b[k] for k in a
    )


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    out = tmp_path_factory.mktemp("runs") / "whole"
    return out, train(SHORT, out)


def test_a_run_records_every_epoch_and_its_evaluation(finished):
    out, record = finished
    assert [row.epoch for row in record.history] == [1, 2, 3]
    assert record.history[-1].step == 6
    assert 0 < record.history[-1].loss < 2
    assert record.head is not None and record.head.start.shape == (8, 8)
    assert 0.5 < record.evaluation["linear"]["features"] <= 1
    assert torch.__version__.startswith(record.circumstances["versions"]["torch"])
    assert record.history == RunRecord.load(out).history


def test_the_same_seed_gives_the_same_bits_and_another_one_does_not(finished, tmp_path):
    train(SHORT, tmp_path / "again")
    assert same(weights(tmp_path / "again"), weights(finished[0]))
    train(dataclasses.replace(SHORT, seed=1), tmp_path / "other")
    assert not same(weights(tmp_path / "other"), weights(finished[0]))


@pytest.mark.parametrize("step", [1, 2, 3, 5])
def test_a_run_cut_off_anywhere_and_resumed_ends_in_the_same_bits(finished, tmp_path, step):
    out = tmp_path / "cut"
    with pytest.raises(Stop):
        train(SHORT, out, watcher=stop_at(step))
    record = resume(out)
    assert same(weights(out), weights(finished[0]))
    timeless = dict.fromkeys(
        ("seconds", "images_per_second", "waiting_share", "peak_memory_gib"), 0.0
    )
    assert [dataclasses.replace(r, **timeless) for r in record.history] == [
        dataclasses.replace(r, **timeless) for r in finished[1].history
    ]


def test_a_run_is_resumed_from_its_last_checkpoint_when_that_is_older_than_the_readings(
    finished, tmp_path
):
    out = tmp_path / "cut"
    rare = dataclasses.replace(SHORT, checkpoint_seconds=1e9)
    with pytest.raises(Stop):
        train(rare, out, watcher=stop_at(5))
    assert len(RunRecord.load(out).history) == 2
    assert load_checkpoint(out)["progress"]["step"] == 0
    record = resume(out)
    assert [row.epoch for row in record.history] == [1, 2, 3]
    assert same(weights(out), weights(finished[0]))


def test_resuming_a_finished_run_changes_nothing_but_makes_a_missing_evaluation(finished, tmp_path):
    out = tmp_path / "copy"
    shutil.copytree(finished[0], out)
    (out / "evaluation.json").unlink()
    (out / ".checkpoint.pt.x.part").write_text("left by a kill")
    before = (out / CHECKPOINT_FILE).read_bytes()
    assert resume(out).evaluation == finished[1].evaluation
    assert (out / CHECKPOINT_FILE).read_bytes() == before
    assert not list(out.glob(".*"))


def test_a_last_line_cut_short_by_a_kill_is_dropped(finished, tmp_path):
    out = tmp_path / "copy"
    shutil.copytree(finished[0], out)
    with (out / METRICS_FILE).open("a") as file:
        file.write('{"step": 7, "epo')
    assert len(RunRecord.load(out).history) == 3
    resume(out)
    assert (out / METRICS_FILE).read_text().endswith("}\n")


@pytest.mark.parametrize("method", sorted(METHODS))
def test_every_method_trains_and_records_its_parts_and_terms(method, tmp_path):
    record = train(dataclasses.replace(SHORT, method=method, epochs=1), tmp_path / "run")
    last = record.history[-1]
    assert last.projection.effective_rank > 1
    assert (last.prediction is None) == ("head" not in METHODS[method].parts)
    assert set(last.scalars()) >= {f"loss/{name}" for name in last.terms}


@pytest.mark.parametrize("head", sorted(HEADS))
def test_every_head_trains_and_is_recorded_if_it_is_a_matrix(head, tmp_path):
    record = train(dataclasses.replace(SHORT, head=head, epochs=1), tmp_path / "run")
    assert record.history[-1].projection.effective_rank > 1
    assert (record.head is not None) == ("matrix" in HEADS[head].tags)


def test_a_rate_that_makes_the_loss_nan_stops_at_a_step_and_keeps_a_good_checkpoint(tmp_path):
    config = dataclasses.replace(
        SHORT, lr=1e30, optimizer="sgd", normaliser="none", checkpoint_seconds=1e9
    )
    with pytest.raises(TrainingError, match=r"not finite at step \d of 6.*smaller learning rate"):
        train(config, tmp_path / "run")
    state = load_checkpoint(tmp_path / "run")
    assert all(v.isfinite().all() for v in state["method"].values())


def test_no_checkpoint_is_written_from_weights_that_are_not_finite(tmp_path):
    config = dataclasses.replace(SHORT, lr=1e30, optimizer="sgd", normaliser="none")
    with pytest.raises(TrainingError, match="not finite"):
        train(config, tmp_path / "run")
    assert all(v.isfinite().all() for v in load_checkpoint(tmp_path / "run")["method"].values())


def test_an_existing_directory_is_not_written_into(finished, tmp_path):
    with pytest.raises(RunError, match="exists already.*--resume"):
        train(SHORT, finished[0])
    (tmp_path / "file").write_text("mine")
    with pytest.raises(RunError, match="exists already"):
        train(SHORT, tmp_path / "file")
    assert (tmp_path / "file").read_text() == "mine"


def test_a_run_that_cannot_start_leaves_no_directory(tmp_path):
    with pytest.raises(ConfigError, match="batch of 5000"):
        train(dataclasses.replace(SHORT, batch_size=5000), tmp_path / "run")
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_at_the_start_leaves_no_directory(tmp_path, monkeypatch):
    def full(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(RunError, match="No space left on device"):
        train(SHORT, tmp_path / "run")
    assert list(tmp_path.iterdir()) == []


def test_a_checkpoint_of_another_configuration_is_refused_with_the_difference(finished, tmp_path):
    out = tmp_path / "mixed"
    shutil.copytree(finished[0], out)
    described = json.loads((out / "config.json").read_text())
    described["config"]["head"] = "linear"
    (out / "config.json").write_text(json.dumps(described))
    with pytest.raises(RunError, match=r"another configuration.*head 'off-diagonal', not 'linear'"):
        resume(out)


def test_a_directory_that_is_no_run_is_refused(tmp_path):
    with pytest.raises(RunError, match="not a run directory"):
        resume(tmp_path)
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(RunError, match="not a configuration"):
        resume(tmp_path)


def test_a_setting_of_another_version_is_named(finished):
    with pytest.raises(ConfigError, match="does not know: warp"):
        RunConfig.from_dict({**SHORT.to_dict(), "warp": 9})


def test_a_configuration_survives_its_file():
    config = RunConfig(projector=(5, 4), milestones=(0.1,), data_root=Path("elsewhere"), lr=0.1)
    again = RunConfig.from_dict(json.loads(json.dumps(config.to_dict())))
    assert again.to_dict() == config.to_dict()
    assert again == RunConfig.from_dict(again.to_dict())


def test_settings_of_the_first_version_are_read_and_given_to_the_method_that_has_them():
    old = {
        "data": "digits",
        "method": "byol",
        "head": "mlp",
        "normaliser": "l2",
        "stop_gradient": "target",
        "momentum": 0.9,
        "projector": [16, 8],
        "epochs": 3,
    }
    config = RunConfig.from_dict(old)
    assert config.settings_of("method") == {"momentum": 0.9}
    assert config.parts["head"] == "mlp" and config.projector == (16, 8)
    assert RunConfig.from_dict({**old, "method": "simsiam"}).settings_of("method") == {
        "stop_gradient": "target"
    }


def test_a_setting_of_the_first_version_goes_to_the_method_with_a_warning():
    with pytest.warns(DeprecationWarning, match="belongs to the method"):
        config = RunConfig(method="byol", momentum=0.5)
    assert config.settings_of("method") == {"momentum": 0.5}


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"head": "diagonal"}, "unknown head 'diagonal': choose one of none, off-diagonal"),
        ({"method": "simclr"}, "unknown method"),
        ({"epochs": 0}, "epochs must be at least 1; got 0"),
        ({"batch_size": 1}, "batch size must be at least 2; got 1"),
        ({"lr": float("nan")}, "learning rate must be at least 0; got nan"),
        ({"lr": float("inf")}, "learning rate must be at least 0 and finite; got inf"),
        ({"projector": ()}, "at least one width"),
        ({"projector": (8, 0)}, "projector width must be at least 1"),
        (
            {"method": "byol", "settings": {"method": {"stop_gradient": "none"}}},
            "the method 'byol' has no setting 'stop_gradient': it has momentum",
        ),
        ({"method": "vicreg", "head": "mlp"}, "vicreg has no head, so it cannot be 'mlp'"),
        ({"settings": {"transform": {"memory": 0.5}}}, "simsiam has no transform"),
        (
            {"settings": {"method": {"stop_gradient": "both"}}},
            "unknown method.stop_gradient 'both'",
        ),
        ({"seed": 10**20}, "seed must lie in"),
        ({"workers": -1}, "decoding workers must be at least 0"),
    ],
)
def test_nonsense_is_refused_when_it_is_built(settings, sentence):
    with pytest.raises(ConfigError, match=sentence):
        RunConfig(**settings)


def test_channels_last_and_bf16_train(tmp_path):
    config = dataclasses.replace(SHORT, epochs=1, precision="bf16-mixed", channels_last=True)
    record = train(config, tmp_path / "run")
    assert record.history[-1].projection.effective_rank > 1


@pytest.mark.gpu
def test_float16_keeps_its_loss_scale_over_a_resume(tmp_path):
    config = dataclasses.replace(SHORT, precision="16-mixed", device="cuda")
    with pytest.raises(Stop):
        train(config, tmp_path / "run", watcher=stop_at(4))
    kept = load_checkpoint(tmp_path / "run")["precision"]
    assert kept["scale"] > 0
    run = train_module._Run(config, None, None, None)
    run.restore(tmp_path / "run", load_checkpoint(tmp_path / "run"))
    assert run.fabric.strategy.precision.state_dict() == kept


@pytest.mark.gpu
def test_a_run_on_a_gpu_ends_with_every_reading(tmp_path):
    settings = {"device": "cuda", "precision": "bf16-mixed", "channels_last": True}
    record = train(dataclasses.replace(SHORT, **settings), tmp_path / "run")
    assert record.evaluation["knn"]["features"] > 0.5
    assert record.history[-1].peak_memory_gib > 0


def test_tensorboard_files_appear_when_asked_for(tmp_path):
    train(dataclasses.replace(SHORT, epochs=1, tensorboard=True), tmp_path / "run")
    assert list((tmp_path / "run").rglob("events.out.tfevents*"))


def own_method():
    torch.manual_seed(0)
    net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 24), torch.nn.ReLU())
    return SimSiam(Encoder(net, dim=24), projector((24, 8)), head=IdentityInitHead(8))


def test_any_module_of_ones_own_trains_and_resumes(tmp_path):
    config = dataclasses.replace(SHORT, epochs=2)
    train(config, tmp_path / "whole", method=own_method())
    with pytest.raises(Stop):
        train(config, tmp_path / "cut", method=own_method(), watcher=stop_at(3))
    with pytest.raises(RunError, match="give the method that the run was started with"):
        resume(tmp_path / "cut")
    resume(tmp_path / "cut", method=own_method())
    assert same(weights(tmp_path / "cut"), weights(tmp_path / "whole"))
    with pytest.raises(RunError, match="give the method that was trained"):
        FrozenRun(tmp_path / "whole")
    frozen = FrozenRun(tmp_path / "whole", method=own_method())
    assert frozen.evaluate()["linear"] == RunRecord.load(tmp_path / "whole").evaluation["linear"]


def test_a_kill_between_the_checkpoint_and_the_heads_pictures_is_mended(
    finished, tmp_path, monkeypatch
):
    out = tmp_path / "run"
    wrote = train_module.write_head

    def killed(directory, head):
        if head.end_epoch == 3:
            raise Stop
        wrote(directory, head)

    with monkeypatch.context() as patch:
        patch.setattr(train_module, "write_head", killed)
        with pytest.raises(Stop):
            train(SHORT, out)
    assert RunRecord.load(out).head.end_epoch == 2
    record = resume(out)
    assert record.head.end_epoch == 3
    assert np.array_equal(record.head.end, finished[1].head.end)


def test_weights_that_break_in_the_step_before_a_reading_are_named(tmp_path):
    config = dataclasses.replace(
        SHORT, batch_size=1400, epochs=2, lr=1e30, optimizer="sgd", normaliser="none"
    )
    with pytest.raises(TrainingError, match=r"not finite at step 1"):
        train(config, tmp_path / "run")


def test_images_that_changed_are_refused(tmp_path, generator):
    folder = tmp_path / "pictures"
    for name in ("a", "b"):
        (folder / name).mkdir(parents=True)
        for i in range(10):
            pixels = torch.randint(0, 255, (8, 8, 3), generator=generator, dtype=torch.uint8)
            Image.fromarray(pixels.numpy()).save(folder / name / f"{i}.png")
    config = dataclasses.replace(SHORT, data=f"folder:{folder}", batch_size=8, workers=0)
    train(config, tmp_path / "run")
    resume(tmp_path / "run")
    Image.fromarray(pixels.numpy()).save(folder / "a" / "new.png")
    with pytest.raises(RunError, match="samples are not those that"):
        resume(tmp_path / "run")
    with pytest.raises(RunError, match="samples are not those that"):
        FrozenRun(tmp_path / "run").evaluate()


class OwnSimSiam(SimSiam):
    """Another class with the same weights."""


def test_a_run_of_another_class_of_method_is_not_taken_for_its_own(tmp_path):
    parts = own_method()
    own = OwnSimSiam(parts.encoder, parts.projector, head=parts.head)
    train(dataclasses.replace(SHORT, epochs=1), tmp_path / "run", method=own)
    with pytest.raises(RunError, match="was trained by .*OwnSimSiam"):
        resume(tmp_path / "run", method=own_method())


@pytest.mark.parametrize("name", ["head.npz", "evaluation.json"])
def test_a_damaged_file_of_a_run_is_named(finished, tmp_path, name):
    shutil.copytree(finished[0], tmp_path / "run")
    (tmp_path / "run" / name).write_bytes(b"PK damaged")
    with pytest.raises(RunError, match=f"{name} cannot be read"):
        RunRecord.load(tmp_path / "run")
