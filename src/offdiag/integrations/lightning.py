"""A monitor as a Lightning callback: `Trainer(callbacks=[MonitorCallback(file="monitor.jsonl")])`.

For `lightning` and for `pytorch_lightning`.
"""

from collections.abc import Mapping
from importlib import import_module
from importlib.util import find_spec
from typing import Any

from offdiag._checks import ConfigError
from offdiag.diagnostics.monitor import Monitor


def _callback() -> Any:
    """Lightning's base class under either of its names; a trainer of the other takes it too."""
    for package, module in (
        ("lightning", "lightning.pytorch"),
        ("pytorch_lightning", "pytorch_lightning"),
    ):
        if find_spec(package) is not None:
            return import_module(module).Callback
    raise ConfigError("the Lightning callback needs lightning: install offdiag[lightning].")


class MonitorCallback(_callback()):  # type: ignore[misc]  # whose class it is, is known at run time
    """Watches the module in training; takes what `Monitor` takes, all by keyword.

    Without a `logger` the trainer's loggers get the readings. Each optimiser step is a step,
    however many batches it accumulates; a checkpoint that Lightning writes is noted as
    "epoch=E-step=S", its default file name. A verdict's stop stops the trainer. `monitor` is
    the monitor once training has begun; its hooks come off when training ends.
    """

    monitor: Monitor

    def __init__(self, **settings: Any) -> None:
        self.settings = settings

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        defaults = {"logger": trainer.loggers or None, "first_step": trainer.global_step}
        self.monitor = Monitor(pl_module, **{**defaults, **self.settings})
        self.seen = trainer.global_step

    def on_train_batch_end(
        self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        loss = outputs.get("loss") if isinstance(outputs, Mapping) else outputs
        if loss is not None and pl_module.automatic_optimization:
            loss = loss * trainer.accumulate_grad_batches  # by which Lightning has divided it
        self.monitor.note(loss=loss)
        if trainer.global_step != self.seen:  # not so while a batch is being accumulated
            self.monitor.step()
            self.seen = trainer.global_step
        trainer.should_stop |= self.monitor.should_stop

    def on_save_checkpoint(self, trainer: Any, pl_module: Any, checkpoint: Any) -> None:
        if hasattr(self, "monitor"):  # not so before training
            step = f"epoch={trainer.current_epoch}-step={trainer.global_step}"
            self.monitor.note(checkpoint=step)

    def on_train_end(self, trainer: Any, pl_module: Any) -> None:
        self.monitor.remove()

    def on_exception(self, trainer: Any, pl_module: Any, exception: BaseException) -> None:
        if hasattr(self, "monitor"):
            self.monitor.remove()
