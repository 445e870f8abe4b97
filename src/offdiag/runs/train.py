"""Train one run into a directory, and continue one that stopped, to the same bits."""

import json
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from lightning_fabric.loggers.tensorboard import TensorBoardLogger

from offdiag._checks import ConfigError, RunError
from offdiag._files import remove_parts, write_json
from offdiag._precision import tensor_float32
from offdiag.batchnorm import share_batchnorm
from offdiag.data.data import Data
from offdiag.data.dataset import ImageSource
from offdiag.data.image_views import ImageViews
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
    OwnEncoder,
    build_loader,
    build_method,
    build_schedule,
    channels_of,
    load_data,
    own_data_needed,
    pick_device,
)
from offdiag.runs.circumstances import circumstances
from offdiag.runs.config import NOT_OF_OWN, OWN, RunConfig, is_own_file
from offdiag.runs.device import described, refuse_full_card, resolved
from offdiag.runs.fingerprint import (
    fingerprint,
    name_of,
    refuse_other_images,
    refuse_other_method,
    shape_of,
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
    data: Data | None = None,
    encoder: OwnEncoder | None = None,
    method: AbstractMethod | None = None,
    watcher: Watcher = SILENT,
) -> RunRecord:
    """Train into the new directory `out`, evaluate if there are labels, return the record.

    `data` takes the place of those that `config` names: samples of any kind with their views.
    `encoder`, or one that comes with the data, takes the place of config's; it is a module, or
    a function that builds one, from the run's seed then. `method` takes the place of the whole
    method, with an encoder, projector and head of your own. config's words for what is given
    are then not used.

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
        if data is not None:
            config = replace(config, data=OWN)
        run = _Run(config, data, encoder, method)
        run.settle(out)
        return run.finish(watcher)


def resume(
    directory: Path,
    *,
    data: Data | None = None,
    encoder: OwnEncoder | None = None,
    method: AbstractMethod | None = None,
    watcher: Watcher = SILENT,
) -> RunRecord:
    """Continue the run in `directory` from its checkpoint, with the settings it began with.

    A run of your own data, encoder or method needs them again, built in the same way: data
    from a file too, whose code is not run because a directory names it. On a CPU the
    weights come out bit for bit as those of a run that never stopped.
    A run that had trained to its end is evaluated if that was missing.
    """
    config = RunConfig.from_dict(read_config(directory)["config"])
    state = load_checkpoint(directory)
    trained = RunConfig.from_dict(state["config"])  # of any version
    _refuse_other_configuration(trained.to_dict(), config.to_dict(), directory)
    with memory_may_run_out(config.batch_size):
        if data is None and (config.data == OWN or is_own_file(config.data)):
            raise RunError(own_data_needed(directory, config))
        run = _Run(config, data, encoder, method)
        run.restore(directory, state)
        return run.finish(watcher)


class _Run:
    """The parts of one run, its directory, and where it stands."""

    def __init__(
        self,
        config: RunConfig,
        data: Data | None,
        encoder: OwnEncoder | None,
        method: AbstractMethod | None,
    ) -> None:
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
            unused_weights=_leaves_weights(config)
            or any(part is not None for part in (encoder, method))
            or (data.encoder is not None if data is not None else is_own_file(config.data)),
        )
        start_peak(self.device)
        self.data = (self._loaded() if data is None else data).to(self.device)
        self.images = fingerprint(self.data)
        self.loader = build_loader(
            config,
            self.data,
            device=self.device,
            rank=self.place.rank,
            world_size=self.place.size,
        )
        if method is not None and encoder is not None:
            raise ConfigError("a method brings its own encoder: give method=... or encoder=....")
        if method is None:
            method = self._built(self.data.encoder if encoder is None else encoder)
        self.method = method.to(self.device)
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

    def _built(self, encoder: OwnEncoder | None) -> AbstractMethod:
        if encoder is not None:
            self.config = replace(self.config, encoder=OWN)
            return build_method(self.config, encoder=encoder)
        if self.config.encoder == OWN:
            raise ConfigError("the encoder is given as an object here: give encoder=... again.")
        return build_method(self.config, image_channels=channels_of(self.config, self.data))

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
        if not (self.directory / EVALUATION_FILE).exists() and self.data.test is not None:
            write_json(self.directory / EVALUATION_FILE, self._evaluated())

    def _settings(self) -> dict[str, Any]:
        """The settings that this run has; those of a method of one's own are not the config's."""
        plain = self.config.to_dict()
        if self.own:
            plain = {key: value for key, value in plain.items() if key not in NOT_OF_OWN}
            plain["own"] = self.method.describe()
        return plain

    def _normalisation(self) -> dict[str, Any] | None:
        """That of images, which is kept with the weights; other data bring their own."""
        views = self.data.views
        if not isinstance(views, ImageViews):
            return None
        return {"mean": views.normalisation.mean, "std": views.normalisation.std}

    def checkpoint(self) -> None:
        """Write the checkpoint and, if the head is a matrix, its pictures so far."""
        save_checkpoint(
            self.directory,
            {
                "config": self._settings(),
                "images": self.images,
                "method_name": name_of(self.method),
                "image_shape": shape_of(self.data.pretrain),
                "normalisation": self._normalisation(),
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
            observer = Observer(self.data)
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

    def _loaded(self) -> Data:
        if not self.config.download:
            return load_data(self.config, device=self.device)
        with self.fabric.rank_zero_first(local=True):  # one process of each machine downloads
            return load_data(self.config, device=self.device)

    def _evaluated(self) -> dict[str, Any]:
        assert self.data.train is not None and self.data.test is not None
        with tensor_float32(False, self.device):
            train, test = (
                extract(self.method, source, whole=self.data.whole)
                for source in (self.data.train, self.data.test)
            )
        return evaluate(train, test)

    def _described(self) -> dict[str, Any]:
        source, test = self.data.pretrain, self.data.test
        shape = "image_shape" if isinstance(source, ImageSource) else "shape"
        return {
            "config": self._settings(),
            "circumstances": {
                **circumstances(self.device),
                **described(self.device),
                "data": {
                    "name": source.name,
                    "images": len(source),
                    shape: shape_of(source),
                    "classes": len(source.classes),
                    "skipped": list(getattr(source, "skipped", ())),
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
