"""Train one run into a directory, and continue one that stopped, to the same bits."""

import json
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from lightning_fabric.loggers.tensorboard import TensorBoardLogger

from offdiag._checks import RunError
from offdiag._files import remove_parts, write_json
from offdiag._precision import tensor_float32
from offdiag.batchnorm import share_batchnorm
from offdiag.data.dataset import Splits
from offdiag.diagnostics.head_matrix import head_matrix
from offdiag.evaluation.features import extract
from offdiag.evaluation.protocol import evaluate
from offdiag.methods.method import AbstractMethod
from offdiag.results.history import (
    CONFIG_FILE,
    EVALUATION_FILE,
    METRICS_FILE,
    Row,
    RunRecord,
    append_row,
    keep_rows,
    read_config,
    write_head,
)
from offdiag.runs.build import (
    build_loader,
    build_method,
    build_schedule,
    load_splits,
    pick_device,
)
from offdiag.runs.circumstances import circumstances
from offdiag.runs.config import NOT_OF_OWN, RunConfig
from offdiag.runs.device import described, refuse_full_card, resolved
from offdiag.runs.identity import (
    fingerprint,
    name_of,
    refuse_other_images,
    refuse_other_method,
)
from offdiag.runs.memory import memory_may_run_out, start_peak
from offdiag.runs.observe import HeadSnapshots, Observer
from offdiag.runs.processes import Place, open_fabric, peers_may_end
from offdiag.training.checkpoint import load_checkpoint, save_checkpoint
from offdiag.training.fit import LoopMetrics, Progress, fit
from offdiag.training.optimizers import make_optimizer


@dataclass(frozen=True, kw_only=True)
class Watcher:
    """Who wants to hear of a run: `started(first_step, last_step)` once, `stepped(step)`
    after each step, `read(row)` at each reading."""

    started: Callable[[int, int], None] = lambda first, last: None
    stepped: Callable[[int], None] = lambda step: None
    read: Callable[[Row], None] = lambda row: None


SILENT = Watcher()


def train(
    config: RunConfig,
    out: Path,
    *,
    method: AbstractMethod | None = None,
    watcher: Watcher = SILENT,
) -> RunRecord:
    """Train into the new directory `out`, evaluate if there are labels, return the record.

    `method` takes the place of the one that `config` names, with an encoder,
    projector and head of your own; config's words for those are then not used.

    `out` must not exist, or be empty; it appears whole, with a checkpoint of step 0,
    once data and settings are known to be good. Raises ConfigError, DataError,
    RunError or TrainingError, each a sentence for the user.

    In a process that `torchrun` or `runs.processes.launch` started, the processes
    share the run: each takes its part of every batch, and the first alone writes,
    calls `watcher` and evaluates.
    """
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise RunError(
            f"{out} exists already: choose another directory, or continue that run "
            f"with --resume {out}."
        )
    with memory_may_run_out(config.batch_size):
        run = _Run(config, method)
        run.settle(out)
        return run.finish(watcher)


def resume(
    directory: Path, *, method: AbstractMethod | None = None, watcher: Watcher = SILENT
) -> RunRecord:
    """Continue the run in `directory` from its checkpoint, with the settings it began with.

    A run of your own `method` needs it again, built in the same way. On a CPU the
    weights come out bit for bit as those of a run that never stopped.
    A run that had trained to its end is evaluated if that was missing.
    """
    config = RunConfig.from_dict(read_config(directory)["config"])
    state = load_checkpoint(directory)
    trained = RunConfig.from_dict(state["config"])  # of any version
    _refuse_other_configuration(trained.to_dict(), config.to_dict(), directory)
    with memory_may_run_out(config.batch_size):
        run = _Run(config, method)
        run.restore(directory, state)
        return run.finish(watcher)


class _Run:
    """The parts of one run, its directory, and where it stands."""

    def __init__(self, config: RunConfig, method: AbstractMethod | None) -> None:
        self.own = method is not None
        self.place = Place.here()
        self.first = self.place.rank == 0
        self.device = pick_device(config.device, local_rank=self.place.local_rank)
        refuse_full_card(self.device)
        self.config = config = resolved(config, self.device)
        self.fabric = open_fabric(
            self.device,
            config.precision,
            self.place,
            unused_weights=method is not None or _leaves_weights(config),
        )
        start_peak(self.device)
        self.splits: Splits = self._loaded().to(self.device)
        self.images = fingerprint(self.splits)
        self.loader = build_loader(
            config,
            self.splits,
            device=self.device,
            rank=self.place.rank,
            world_size=self.place.size,
        )
        channels = self.splits.pretrain.image_shape[0]
        own = build_method(config, image_channels=channels) if method is None else method
        self.method = own.to(self.device)
        if config.channels_last:
            self.method.to(memory_format=torch.channels_last)
        if self.place.size > 1:
            share_batchnorm(self.method, self.device)
        self.optimizer = make_optimizer(
            config.optimizer,
            self.method,
            lr=config.lr,
            weight_decay=config.weight_decay,
            head_lr_ratio=config.head_lr_ratio,
        )
        self.schedule = build_schedule(config, steps_per_epoch=self.loader.steps_per_epoch)
        self.progress = Progress()
        start = None if self.method.head is None else head_matrix(self.method.head)
        self.head = None if start is None else HeadSnapshots.of(start)
        self.directory = Path()

    def settle(self, out: Path) -> None:
        """Make the directory, whole from its first moment: it is filled under another name."""
        self.directory = out
        if not self.first:
            return
        nursery = out.parent / f".{out.name}.part"
        try:
            out.parent.mkdir(parents=True, exist_ok=True)
            shutil.rmtree(nursery, ignore_errors=True)
            nursery.mkdir()
            self.directory = nursery
            write_json(nursery / CONFIG_FILE, self._described())
            self.checkpoint()
            os.replace(nursery, out)
        except OSError as error:
            raise RunError(
                f"cannot make the run directory {out}: {error.strerror or error}."
            ) from error
        finally:
            shutil.rmtree(nursery, ignore_errors=True)  # gone by now, unless something failed
        self.directory = out

    def restore(self, directory: Path, state: dict[str, Any]) -> None:
        """Take up a checkpoint; readings made after it are dropped, to be made again."""
        refuse_other_images(state["images"], self.images, directory)
        refuse_other_method(state["method_name"], self.method, directory)
        self.directory = directory
        try:
            self.method.load_state_dict(state["method"])
        except RuntimeError as error:
            raise RunError(
                f"the weights in {directory} are not those of this method "
                f"({str(error).splitlines()[0]}): give the method that the run was started with."
            ) from error
        self.optimizer.load_state_dict(state["optimizer"])
        if scale := state.get("precision"):
            self.fabric.strategy.precision.load_state_dict(scale)
        self.progress = Progress(**state["progress"])
        if self.head is not None:
            self.head = HeadSnapshots(**state["head"])
        if self.first:
            remove_parts(directory)
            if self.head is not None:
                # The kill may have come between the checkpoint and its pictures.
                write_head(directory, self.head.result())
            keep_rows(directory / METRICS_FILE, last_step=self.progress.step)

    def finish(self, watcher: Watcher) -> RunRecord:
        """Train to the end and evaluate; skips what is done already."""
        if not self.first:
            watcher = SILENT
        watcher.started(self.progress.step, self.schedule.steps)
        with peers_may_end(self.place):
            if self.progress.step < self.schedule.steps:
                self._fit(watcher)
            with self.fabric.rank_zero_first():
                if self.first:
                    self._evaluate()
        return RunRecord.load(self.directory)

    def _evaluate(self) -> None:
        if not (self.directory / EVALUATION_FILE).exists() and self.splits.test is not None:
            write_json(self.directory / EVALUATION_FILE, self._evaluated())

    def _settings(self) -> dict[str, Any]:
        """The settings that this run has; those of a method of one's own are not the config's."""
        plain = self.config.to_dict()
        if self.own:
            plain = {key: value for key, value in plain.items() if key not in NOT_OF_OWN}
            plain["own"] = self.method.describe()
        return plain

    def checkpoint(self) -> None:
        """Write the checkpoint and, if the head is a matrix, its pictures so far."""
        save_checkpoint(
            self.directory,
            {
                "config": self._settings(),
                "images": self.images,
                "method_name": name_of(self.method),
                "image_shape": self.splits.pretrain.image_shape,
                "normalisation": {
                    "mean": self.loader.normalisation.mean,
                    "std": self.loader.normalisation.std,
                },
                "progress": self.progress.state(),
                "method": self.method.state_dict(),
                "optimizer": self.optimizer.state_dict(),
                "precision": self.fabric.strategy.precision.state_dict(),  # float16's loss scale
                "head": None if self.head is None else dict(vars(self.head)),
            },
        )
        if self.head is not None:
            write_head(self.directory, self.head.result())

    def _fit(self, watcher: Watcher) -> None:
        config, per_epoch = self.config, self.loader.steps_per_epoch
        logger = None
        if config.tensorboard:
            logger = TensorBoardLogger(self.directory, name="tensorboard")
        observer = None
        if self.first:
            observer = Observer(self.splits, normalisation=self.loader.normalisation)
        if config.compile:
            self.method.compile()

        def on_log(metrics: LoopMetrics) -> None:
            assert observer is not None
            with tensor_float32(False, self.device):
                row = observer.read(self.method, metrics, images_per_step=config.batch_size)
            if self.head is not None and self.method.head is not None:
                matrix = head_matrix(self.method.head)
                assert matrix is not None  # it was at the start
                self.head.take(matrix, epoch=metrics.epoch)
            append_row(self.directory / METRICS_FILE, row)
            if logger is not None:
                logger.log_metrics(row.scalars(), row.step)
            watcher.read(row)

        training = partial(
            fit,
            self.method,
            self.loader,
            self.optimizer,
            steps=self.schedule.steps,
            fabric=self.fabric,
            schedule=self.schedule,
            progress=self.progress,
            log_every=per_epoch * (config.read_every or max(1, config.epochs // 100)),
            checkpoint_seconds=config.checkpoint_seconds,
            on_log=on_log,
            on_checkpoint=self.checkpoint,
            on_step=watcher.stepped,
        )
        with tensor_float32(True, self.device):
            training()

    def _loaded(self) -> Splits:
        if not self.config.download:
            return load_splits(self.config, device=self.device)
        with self.fabric.rank_zero_first(local=True):  # one process of each machine downloads
            return load_splits(self.config, device=self.device)

    def _evaluated(self) -> dict[str, Any]:
        assert self.splits.train is not None and self.splits.test is not None
        normalisation = self.loader.normalisation
        with tensor_float32(False, self.device):
            train = extract(self.method, self.splits.train, normalisation=normalisation)
            test = extract(self.method, self.splits.test, normalisation=normalisation)
        return evaluate(train, test)

    def _described(self) -> dict[str, Any]:
        source, test = self.splits.pretrain, self.splits.test
        return {
            "config": self._settings(),
            "circumstances": {
                **circumstances(self.device),
                **described(self.device),
                "data": {
                    "name": source.name,
                    "images": len(source),
                    "image_shape": source.image_shape,
                    "classes": len(source.classes),
                    "skipped": list(source.skipped),
                    "test_images": 0 if test is None else len(test),
                },
                "method": name_of(self.method),
                "processes": self.place.size,
                "parameters": sum(p.numel() for p in self.method.parameters() if p.requires_grad),
                "steps": self.schedule.steps,
            },
        }


def _leaves_weights(config: RunConfig) -> bool:
    """Whether some weights may get no gradient, which DDP has to be prepared for."""
    stop = config.settings.get("method", {}).get("stop_gradient")
    return stop == "online" or "transform" in config.parts


def _refuse_other_configuration(
    saved: dict[str, Any], present: dict[str, Any], directory: Path
) -> None:
    saved, present = json.loads(json.dumps(saved)), json.loads(json.dumps(present))
    differing = [k for k in sorted(saved | present) if saved.get(k) != present.get(k)]
    if differing:
        changes = ", ".join(f"{k} {saved.get(k)!r}, not {present.get(k)!r}" for k in differing)
        raise RunError(
            f"the checkpoint in {directory} is of another configuration: it has {changes}. "
            f"Restore {CONFIG_FILE} or the checkpoint, or start a new run."
        )
