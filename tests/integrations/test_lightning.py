"""Laws of the Lightning callback, on lightly's SimSiam and BYOL as its docs write them."""

import copy
import math

import pytest
import torch
from torch import nn

lightly_loss = pytest.importorskip("lightly.loss")
lightly_modules = pytest.importorskip("lightly.models.modules")
lightly_utils = pytest.importorskip("lightly.models.utils")
lightning = pytest.importorskip("lightning.pytorch")
pytorch_lightning = pytest.importorskip("pytorch_lightning")

from offdiag._checks import ConfigError  # noqa: E402
from offdiag.diagnostics.parts import find_parts  # noqa: E402
from offdiag.integrations import lightning as integration  # noqa: E402
from offdiag.integrations.lightning import MonitorCallback  # noqa: E402
from offdiag.results.observation import MonitorRecord  # noqa: E402

pytestmark = [
    pytest.mark.filterwarnings("ignore:GPU available but not used"),
    pytest.mark.filterwarnings("ignore:.*does not have many workers.*"),
    pytest.mark.filterwarnings("ignore:.*LeafSpec.*"),
]


def backbone() -> nn.Module:
    """In the place of torchvision's ResNet without its last layer: (batch, 16, 1, 1)."""
    return nn.Sequential(
        nn.Conv2d(3, 16, 3, stride=2), nn.BatchNorm2d(16), nn.ReLU(), nn.AdaptiveAvgPool2d(1)
    )


def simsiam(package) -> nn.Module:
    class SimSiam(package.LightningModule):
        def __init__(self):
            super().__init__()
            self.backbone = backbone()
            self.projection_head = lightly_modules.SimSiamProjectionHead(16, 16, 12)
            self.prediction_head = lightly_modules.SimSiamPredictionHead(12, 6, 12)
            self.criterion = lightly_loss.NegativeCosineSimilarity()

        def forward(self, x):
            f = self.backbone(x).flatten(start_dim=1)
            z = self.projection_head(f)
            p = self.prediction_head(z)
            z = z.detach()
            return z, p

        def training_step(self, batch, batch_idx):
            x0, x1 = batch[0]
            z0, p0 = self.forward(x0)
            z1, p1 = self.forward(x1)
            return 0.5 * (self.criterion(z0, p1) + self.criterion(z1, p0))

        def validation_step(self, batch, batch_idx):
            x0, _ = batch[0]
            self.forward(x0)

        def configure_optimizers(self):
            return torch.optim.SGD(self.parameters(), lr=0.06)

    return SimSiam()


def byol(package) -> nn.Module:
    class BYOL(package.LightningModule):
        def __init__(self):
            super().__init__()
            self.backbone = backbone()
            self.projection_head = lightly_modules.BYOLProjectionHead(16, 24, 12)
            self.prediction_head = lightly_modules.BYOLPredictionHead(12, 24, 12)
            self.backbone_momentum = copy.deepcopy(self.backbone)
            self.projection_head_momentum = copy.deepcopy(self.projection_head)
            lightly_utils.deactivate_requires_grad(self.backbone_momentum)
            lightly_utils.deactivate_requires_grad(self.projection_head_momentum)
            self.criterion = lightly_loss.NegativeCosineSimilarity()

        def forward(self, x):
            y = self.backbone(x).flatten(start_dim=1)
            z = self.projection_head(y)
            return self.prediction_head(z)

        def forward_momentum(self, x):
            y = self.backbone_momentum(x).flatten(start_dim=1)
            z = self.projection_head_momentum(y)
            return z.detach()

        def training_step(self, batch, batch_idx):
            lightly_utils.update_momentum(self.backbone, self.backbone_momentum, m=0.99)
            lightly_utils.update_momentum(
                self.projection_head, self.projection_head_momentum, m=0.99
            )
            x0, x1 = batch[0]
            p0 = self.forward(x0)
            z0 = self.forward_momentum(x0)
            p1 = self.forward(x1)
            z1 = self.forward_momentum(x1)
            return 0.5 * (self.criterion(p0, z1) + self.criterion(p1, z0))

        def configure_optimizers(self):
            return torch.optim.SGD(self.parameters(), lr=0.06)

    return BYOL()


class Pairs(torch.utils.data.Dataset):
    """What lightly's transforms give: two views, a label, a file name."""

    def __len__(self):
        return 32

    def __getitem__(self, index):
        draw = torch.Generator().manual_seed(index)
        image = torch.rand(3, 8, 8, generator=draw)
        noise = 0.1 * torch.randn(2, 3, 8, 8, generator=draw)
        return [image + noise[0], image + noise[1]], 0, f"{index}.png"


def fit(build, package, *callbacks, **settings):
    torch.manual_seed(0)
    model = build(package)
    trainer = package.Trainer(
        **{
            "max_epochs": 2,
            "accelerator": "cpu",
            "logger": False,
            "enable_checkpointing": False,
            "enable_progress_bar": False,
            "enable_model_summary": False,
            "log_every_n_steps": 1,
            **settings,
        },
        callbacks=list(callbacks),
    )
    loader = torch.utils.data.DataLoader(Pairs(), batch_size=8)
    validation = None if build is byol else loader
    trainer.fit(model, loader, validation)
    return model, trainer


@pytest.mark.parametrize("package", [lightning, pytorch_lightning], ids=["lightning", "pytorch"])
@pytest.mark.parametrize(
    ("build", "widths"),
    [
        (simsiam, {"encoder": 16, "projector": 12, "predictor": 12}),
        (byol, {"encoder": 16, "projector": 12, "predictor": 12, "target": 12}),
    ],
    ids=["simsiam", "byol"],
)
def test_lightlys_runs_are_watched_and_not_changed(package, build, widths, tmp_path):
    file = tmp_path / "monitor.jsonl"
    callback = MonitorCallback(every=3, budget=None, file=file)
    watched, _ = fit(build, package, callback)
    alone, _ = fit(build, package)
    for name, value in watched.state_dict().items():
        assert torch.equal(value, alone.state_dict()[name]), name

    record = MonitorRecord.load(file)
    assert record.name == build.__name__.replace("simsiam", "SimSiam").replace("byol", "BYOL")
    assert [o.step for o in record.history] == [0, 3, 6]
    for observation in record.history:
        assert {part: r.dim for part, r in observation.parts.items()} == widths
        for readings in observation.parts.values():
            assert readings.rows == 16
            assert math.isfinite(readings.alignment) and math.isfinite(readings.effective_rank)
        assert -1 <= observation.loss <= 1
    hooks = [hook for module in watched.modules() for hook in module._forward_hooks.values()]
    assert hooks == []
    assert find_parts(watched).keys() == widths.keys()


class Losses(lightning.Callback):
    """Every batch's loss as the model gave it."""

    def on_before_backward(self, trainer, pl_module, loss):
        self.seen = [*getattr(self, "seen", []), trainer.accumulate_grad_batches * loss.item()]


def test_accumulated_batches_make_one_step_and_their_mean_loss_is_noted():
    callback, losses = MonitorCallback(every=1, budget=None), Losses()
    fit(simsiam, lightning, callback, losses, accumulate_grad_batches=2)
    noted = [o.loss for o in callback.monitor.history]
    pairs = torch.tensor(losses.seen).view(-1, 2)
    assert noted == pytest.approx(pairs.mean(1).tolist(), abs=1e-6)
    assert [o.step for o in callback.monitor.history] == [0, 1, 2, 3]
    assert callback.monitor.history[0].parts["encoder"].rows == 32


def test_a_checkpoint_before_training_is_none_of_the_callbacks_business(tmp_path):
    trainer = lightning.Trainer(
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        callbacks=[MonitorCallback()],
    )
    loader = torch.utils.data.DataLoader(Pairs(), batch_size=8)
    trainer.validate(simsiam(lightning), loader, verbose=False)
    trainer.save_checkpoint(tmp_path / "before.ckpt")
    assert (tmp_path / "before.ckpt").exists()


def test_the_trainers_logger_gets_the_readings_and_checkpoints_are_named(tmp_path):
    from lightning.pytorch.loggers import CSVLogger

    logger = CSVLogger(tmp_path)
    callback = MonitorCallback(every=100, budget=None)
    _, trainer = fit(
        simsiam,
        lightning,
        callback,
        logger=logger,
        enable_checkpointing=True,
        default_root_dir=tmp_path,
    )
    assert [(o.step, o.checkpoint) for o in callback.monitor.history] == [
        (0, None),
        (4, "epoch=0-step=4"),
    ]
    assert trainer.checkpoint_callback.best_model_path.endswith("epoch=1-step=8.ckpt")
    header = (tmp_path / "lightning_logs" / "version_0" / "metrics.csv").read_text()
    assert "offdiag/projector/rankme" in header


def test_a_verdict_of_collapse_stops_the_trainer():
    class Collapsed:
        kind = "complete collapse"

    callback = MonitorCallback(
        every=1, budget=None, judge=lambda history, noise: Collapsed, stop_after=3
    )
    _, trainer = fit(simsiam, lightning, callback)
    assert trainer.global_step == 3


def manual(package) -> nn.Module:
    """Two optimisers that both step in each batch."""
    model = simsiam(package)

    class Manual(type(model)):
        def __init__(self):
            super().__init__()
            self.automatic_optimization = False

        def training_step(self, batch, batch_idx):
            loss = super().training_step(batch, batch_idx)
            optimizers = self.optimizers()
            for optimizer in optimizers:
                optimizer.zero_grad()
            self.manual_backward(loss)
            for optimizer in optimizers:
                optimizer.step()

        def configure_optimizers(self):
            head = list(self.prediction_head.parameters())
            rest = [p for p in self.parameters() if all(p is not q for q in head)]
            return [torch.optim.SGD(rest, lr=0.06), torch.optim.SGD(head, lr=0.06)]

    return Manual()


def test_a_batch_of_manual_optimisation_is_one_step_also_after_a_resume(tmp_path):
    file = tmp_path / "monitor.jsonl"
    callback = MonitorCallback(every=1, budget=None, file=file)
    _, trainer = fit(manual, lightning, callback)
    assert trainer.global_step == 16
    assert [o.step for o in callback.monitor.history] == list(range(8))
    assert callback.monitor.history[-1].marks["predictor/held"] == 1.0
    trainer.save_checkpoint(tmp_path / "last.ckpt")

    resumed = MonitorCallback(every=1, budget=None, file=file)
    trainer = lightning.Trainer(
        max_epochs=3,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        callbacks=[resumed],
    )
    loader = torch.utils.data.DataLoader(Pairs(), batch_size=8)
    trainer.fit(
        manual(lightning), loader, loader, ckpt_path=tmp_path / "last.ckpt", weights_only=False
    )
    assert [o.step for o in MonitorRecord.load(file).history] == list(range(12))


def test_without_lightning_it_is_one_sentence(monkeypatch):
    monkeypatch.setattr(integration, "find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"needs lightning: install offdiag\[lightning\]"):
        integration._callback()
