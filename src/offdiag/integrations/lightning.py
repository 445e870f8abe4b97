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

    Without a `logger` the trainer's loggers get the readings. A step is a batch after which the
    optimiser has stepped: accumulated batches make one step, and so do several optimisers, or
    several steps of one, in a batch of manual optimisation. The count is kept in checkpoints, so
    that a resumed run goes on in the same unit. A checkpoint that Lightning writes is noted as
    "epoch=E-step=S", its default file name. A verdict's stop stops the trainer. `monitor` is
    the monitor once training has begun; its hooks come off when training ends.
    """

    monitor: Monitor

    def __init__(self, **settings: Any) -> None:
        self.settings = settings
        self.resumed: int | None = None

    def state_dict(self) -> dict[str, Any]:
        return {"steps": self.monitor.steps} if hasattr(self, "monitor") else {}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        self.resumed = state_dict.get("steps")

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        # A checkpoint of an earlier version has no count: the trainer's is the nearest there is.
        steps = trainer.global_step if self.resumed is None else self.resumed
        defaults = {"logger": trainer.loggers or None, "first_step": steps}
        self.monitor = Monitor(pl_module, **{**defaults, **self.settings})
        self.monitor.hold(*trainer.optimizers)
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
