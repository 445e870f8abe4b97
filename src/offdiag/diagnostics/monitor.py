"""Watching any training run without changing it: readings of its parts, at a cadence.

monitor = Monitor(model, file="monitor.jsonl").attach_optimizer(optimizer)
...                                  # the training loop, as it was
monitor.remove()
"""

import math
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from jaxtyping import Float
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from offdiag._checks import ConfigError, RunError, at_least
from offdiag._types import Covariance, Embeddings
from offdiag.diagnostics.loggers import logging_to
from offdiag.diagnostics.parts import Tap, find_parts, unwrapped
from offdiag.diagnostics.pooling import Pooling, mean_of_tokens
from offdiag.diagnostics.readings import noise_readings
from offdiag.diagnostics.stream import Stream, head_matrix, read_predictor, read_stream
from offdiag.diagnostics.verdict import judge as _judge
from offdiag.results.observation import (
    PARTS,
    MonitorRecord,
    Observation,
    append_observation,
    start_file,
)
from offdiag.results.readings import NAN, Readings

KEPT_OBSERVATIONS = 1_000
"""Observations in memory: the first and the latest 999. The file has them all."""
COLLAPSED = ("complete collapse", "dimensional collapse")
"""The kinds of verdict that ask a run to stop."""


class Monitor:
    """Reads the parts of a model while somebody else's loop trains it.

    The parts are found by the names that lightly, solo-learn, stable-pretraining, simsiam,
    byol-pytorch, I-JEPA and DINO use (`parts.SCHEMES`), or are told, each as a module or a
    dotted name. `model` may be wrapped (DDP, torch.compile, Lightning), be a mapping of names
    to modules, or None for a loop that calls `observe` itself.

    **When.** A reading takes one optimiser step: what the parts give in the forward passes
    before it. `attach_optimizer` lets the optimiser tell the steps, otherwise call `step` after
    each. An observation's `step` is the number of optimiser steps that made the weights it
    read, so that 0 is the random start. Readings fall on multiples of `every`, and where they
    would take more than `budget` of the training time so far they are put off (`budget=None`:
    never). On other steps a hook compares two integers.

    **What counts.** Calls of a part in training mode (a target's, while the online network is
    in training mode: many keep it in eval). Of each forward pass the first two calls of a part
    are the two views; only these are read. A backward pass between calls tells one piece of an
    accumulated batch from the next. Calls during a backward pass are an activation checkpoint's
    second ones and are left out. A single call is one view, without alignment and LiDAR; if it
    holds several views one after the other, say how many: `views_concatenated=2`, or by part
    (DINO's multi-crop: `{"encoder": 2, "projector": 10, "target": 2}`). `pooling` turns outputs
    of more than two dimensions into rows: `mean_of_tokens`, `first_token`, `all_tokens` of
    `diagnostics.pooling`, or your own. Rows are read in float32 whatever the autocast, sums are
    kept in float64.

    **Processes.** In a torch.distributed group all processes must have a monitor: moments are
    summed and samples gathered over them, and the first process alone judges, writes and logs.
    `distributed=False` keeps a monitor to its own process.

    **What it leaves alone.** Weights, gradients, random numbers, modes, state dicts; a copy or
    pickle of the model carries no monitor. `remove`, or the end of a `with` block, takes all
    hooks off.

    **Memory.** Between readings: up to 1,000 observations of some 40 kB. During a reading, for
    each part of width dim: 16 to 24 dim^2 bytes of sums, and 8 dim bytes a row for
    `sample_rows` rows and for the rows of one forward pass (`held_bytes` says how much it was).

    `file` is a monitor.jsonl for `offdiag diagnose`; `first_step`, the steps taken before a run
    was resumed, continues it. `logger` is a function of (scalars, step), or anything with
    `log_metrics`, `add_scalar`, `log_dict` or `log` (Lightning's loggers, TensorBoard's
    SummaryWriter, wandb), or a list of those; names begin with `prefix`. `stop_after` verdicts
    of collapse in a row, as `judge` passes them, make `should_stop` true.
    """

    def __init__(
        self,
        model: nn.Module | Mapping[str, nn.Module] | None = None,
        *,
        encoder: nn.Module | str | None = None,
        projector: nn.Module | str | None = None,
        predictor: nn.Module | str | None = None,
        target: nn.Module | str | None = None,
        every: int = 100,
        budget: float | None = 0.02,
        file: str | Path | None = None,
        logger: Any = None,
        prefix: str = "offdiag/",
        name: str | None = None,
        pooling: Pooling = mean_of_tokens,
        views_concatenated: int | Mapping[str, int] = 1,
        sample_rows: int = 1024,
        first_step: int = 0,
        distributed: bool = True,
        judge: Callable[..., Any] = _judge,
        stop_after: int | None = None,
    ) -> None:
        at_least("the number of steps between readings", every, 1)
        at_least("the number of sampled rows", sample_rows, 1)
        at_least("the first step", first_step, 0)
        if budget is not None and not 0 < budget <= 1:
            raise ConfigError(f"the budget is a share of the time, in (0, 1]; got {budget:g}.")
        if stop_after is not None:
            at_least("the number of verdicts before a stop", stop_after, 1)
        told = {
            "encoder": encoder,
            "projector": projector,
            "predictor": predictor,
            "target": target,
        }
        watched = model is not None or any(where is not None for where in told.values())
        self.taps: dict[str, Tap] = find_parts(model, **told) if watched else {}
        self.steps = first_step
        self.next_reading = -(-first_step // every) * every
        self.history: list[Observation] = []
        self.noise: dict[str, Readings] = {}
        self.should_stop = False
        self.held_bytes = 0
        self.reading_seconds = 0.0
        self._every, self._budget = every, budget
        self._pooling = pooling
        self._concatenated = {
            part: views_concatenated.get(part, 1)
            if isinstance(views_concatenated, Mapping)
            else views_concatenated
            for part in PARTS
        }
        for views in self._concatenated.values():
            at_least("the number of views in one call", views, 1)
        self._sample_rows = sample_rows
        self._distributed = distributed
        self._judge, self._stop_after, self._collapsed = judge, stop_after, 0
        self._log = None if logger is None else logging_to(logger, prefix)
        self._name = name or ("run" if model is None else type(_inside(model)).__name__)
        self._file = None if file is None else Path(file)
        self._file_started = False
        self._first_step = first_step

        self._streams: dict[str, Stream] = {}
        self._head: Covariance | None = None
        self._batch = 0
        self._backward_ran = False
        self._gradient_handles: list[RemovableHandle] = []
        self._losses, self._loss_sum = 0, torch.zeros(())
        self._checkpoint: str | None = None
        self._clock: float | None = None
        self._clock_step, self._unclocked = 0, 0.0
        self._optimized = False
        self._warned = False
        online = [tap.module for part, tap in self.taps.items() if part != "target"]
        self._lead = online[0] if online else None
        self._handles: list[RemovableHandle] = [
            tap.module.register_forward_hook(_Hook(self, part, tap))
            for part, tap in self.taps.items()
        ]

    def attach_optimizer(self, optimizer: torch.optim.Optimizer) -> "Monitor":
        """Let each step of `optimizer` end a training step; then do not call `step`.

        A step that a gradient scaler skips counts for nothing.
        """
        if self._optimized:
            raise ConfigError(
                "this monitor has an optimiser already: attach the one that trains the encoder, "
                "or call step() once for each round of several."
            )
        self._optimized = True
        hook = _StepHook(self)
        self._handles.append(optimizer.register_step_post_hook(hook))
        return self

    def observe(
        self,
        z1: Tensor,
        z2: Tensor | None = None,
        p1: Tensor | None = None,
        p2: Tensor | None = None,
        *,
        h1: Tensor | None = None,
        h2: Tensor | None = None,
        t1: Tensor | None = None,
        t2: Tensor | None = None,
    ) -> None:
        """Give a forward pass's outputs by hand, each (batch, dim) or what `pooling` takes.

        z: projection, p: prediction, h: features, t: the target's projection; 1 and 2 are the
        two views of the same images. Once for each piece of an accumulated batch.
        """
        if self.steps != self.next_reading:
            return
        start = time.perf_counter()
        given = {"encoder": (h1, h2), "projector": (z1, z2), "predictor": (p1, p2)}
        self._batch += 1
        for part, views in {**given, "target": (t1, t2)}.items():
            for view in views:
                if view is not None:
                    self._see(part, view)
        self.reading_seconds += time.perf_counter() - start

    def note(self, *, loss: Tensor | float | None = None, checkpoint: str | None = None) -> None:
        """Tell the loss of a step, or the file or tag that holds the weights as they are now.

        An observation's loss is the mean of those told since the one before. In a single
        process the next forward pass after a checkpoint is read, so that its observation is of
        the very weights in the file; of several processes, which must agree when to read, the
        next planned reading takes the name.
        """
        if loss is not None:
            value = loss.detach() if isinstance(loss, Tensor) else loss
            self._loss_sum = self._loss_sum + value
            self._losses += 1
        if checkpoint is not None:
            self._checkpoint = checkpoint
            if self._world() == 1:
                self.next_reading = self.steps

    def step(
        self, *, loss: Tensor | float | None = None, checkpoint: str | None = None
    ) -> Observation | None:
        """End a training step: call it after the optimiser's. The observation, if one was made.

        `loss` is this step's, `checkpoint` names what holds the weights that the step made.
        """
        if self._optimized:
            raise ConfigError(
                "the attached optimiser tells the steps: give loss and checkpoint to note()."
            )
        self.note(loss=loss)
        observation = self._end_step()
        self.note(checkpoint=checkpoint)
        return observation

    def verdict(self) -> Any:
        """What `judge` says of the observations so far."""
        return self._judge(self.history, noise=self.noise)

    def remove(self) -> None:
        """Take every hook off and let go of all tensors; the history stays."""
        for handle in (*self._handles, *self._gradient_handles):
            handle.remove()
        self._handles, self._gradient_handles = [], []
        self._streams, self._head = {}, None
        self.next_reading = -1  # a graph compiled with the hooks goes on calling them

    def __enter__(self) -> "Monitor":
        return self

    def __exit__(self, *_: object) -> None:
        self.remove()

    def _heard(
        self, part: str, tap: Tap, module: nn.Module, arguments: tuple[Any, ...], output: Any
    ) -> None:
        """One call of a part, on a step that is read."""
        if self.steps != self.next_reading:  # a compiled graph calls whatever the step
            return
        decides = self._lead if part == "target" and self._lead is not None else module
        if not unwrapped(decides).training:  # wrappers may keep a flag of their own
            return
        if torch._C._current_graph_task_id() != -1:
            self._backward_ran = True
            return
        tensor = tap.pick(arguments, output)
        if tensor is None:
            return
        start = time.perf_counter()
        if self._backward_ran:
            self._batch, self._backward_ran = self._batch + 1, False
        self._see(part, tensor)
        if part == "predictor":
            self._head = head_matrix(module)
        if tensor.requires_grad:
            handle = tensor.register_hook(self._heard_backward)  # type: ignore[no-untyped-call]
            self._gradient_handles.append(handle)
        self.reading_seconds += time.perf_counter() - start

    def _heard_backward(self, gradient: Tensor) -> None:
        self._backward_ran = True

    @torch.no_grad()
    def _see(self, part: str, output: Tensor) -> None:
        """Keep a copy: an in-place ReLU behind the part would write into the output itself."""
        output = output.detach()
        with torch.autocast(output.device.type, enabled=False):
            pieces = self._concatenated[part]
            if len(output) % pieces:
                raise ConfigError(
                    f"the {part} gave {len(output)} rows, which do not split into "
                    f"{pieces} views: correct views_concatenated."
                )
            for view in output.chunk(pieces):
                rows = self._pooling(view.to(torch.float32, copy=True))
                if rows.ndim != 2:
                    raise ConfigError(
                        f"pooling must give rows, shape (rows, dim); it gave {tuple(rows.shape)} "
                        f"for the {part}."
                    )
                if part not in self._streams:
                    capacity = max(1, self._sample_rows // self._world())
                    self._streams[part] = Stream(rows, capacity=capacity, seed=self._rank())
                self._streams[part].see(rows, self._batch)

    def _end_step(self) -> Observation | None:
        observation = None
        now = time.perf_counter()
        if self.steps == self.next_reading:
            observation = self._read()
            self.reading_seconds += time.perf_counter() - now
            self._plan()
        if self._clock is None:  # the first step is warm-up, and its reading has no measure
            self._clock = time.perf_counter()
            self._clock_step, self._unclocked = self.steps, self.reading_seconds
        self.steps += 1
        return observation

    def _read(self) -> Observation | None:
        for handle in self._gradient_handles:
            handle.remove()
        self._gradient_handles = []
        streams = {part: self._streams[part] for part in PARTS if part in self._streams}
        head, self._head, self._streams = self._head, None, {}
        if not streams:
            self._checkpoint = None  # those weights went by unread; the next are others
            self._warn_of_silence()
            return None
        for stream in streams.values():
            stream.close()
        self.held_bytes = sum(stream.bytes for stream in streams.values())
        spread = self._world() > 1
        moments = {
            part: stream.moments.all_reduced() if spread else stream.moments
            for part, stream in streams.items()
        }
        samples = {
            part: tuple(_gathered(rows) for rows in stream.sample.rows)
            if spread
            else stream.sample.rows
            for part, stream in streams.items()
        }
        loss = float(self._loss_sum) / self._losses if self._losses else NAN
        checkpoint, self._checkpoint = self._checkpoint, None
        self._losses, self._loss_sum = 0, torch.zeros(())
        if self._rank() != 0:
            return None
        observation = Observation(
            step=self.steps,
            parts={part: read_stream(moments[part], samples[part]) for part in streams},
            head=None if head is None else read_predictor(head, moments),
            loss=loss,
            checkpoint=checkpoint,
        )
        self._refer({part: len(rows) for part, rows in samples.items()}, observation)
        self._keep(observation)
        return observation

    def _refer(self, views: Mapping[str, int], observation: Observation) -> None:
        """Noise of the shape that each part had when it was first read."""
        for part, readings in observation.parts.items():
            if part not in self.noise and readings.rows > 0:
                self.noise[part] = noise_readings(readings.rows, readings.dim, views=views[part])

    def _keep(self, observation: Observation) -> None:
        self.history.append(observation)
        if len(self.history) > KEPT_OBSERVATIONS:
            del self.history[1]
        self._write(observation)
        if self._log is not None:
            self._log(observation.scalars(), observation.step)
        if self._stop_after is not None:
            collapsed = str(self.verdict().kind) in COLLAPSED
            self._collapsed = self._collapsed + 1 if collapsed else 0
            self.should_stop = self._collapsed >= self._stop_after

    def _write(self, observation: Observation) -> None:
        """A full disk ends the file, with a warning, and not the training."""
        if self._file is None:
            return
        try:
            if not self._file_started:
                self._start_file(self._file)
            append_observation(self._file, observation)
        except RunError as error:
            self._file = None
            warnings.warn(f"the monitor stops writing: {error}", stacklevel=2)

    def _start_file(self, file: Path) -> None:
        before: Sequence[Observation] = ()
        if self._first_step > 0 and file.exists():
            record = MonitorRecord.load(file)
            before = [row for row in record.history if row.step < self._first_step]
            self.noise = {**self.noise, **record.noise}
            self.history = [*before[:1], *before[1:][2 - KEPT_OBSERVATIONS :], *self.history]
        about = {
            "parts": {part: tap.name for part, tap in self.taps.items()},
            "every": self._every,
            "processes": self._world(),
            "torch": str(torch.__version__),
        }
        start_file(file, name=self._name, noise=self.noise, about=about)
        for row in before:
            append_observation(file, row)
        self._file_started = True

    def _plan(self) -> None:
        """The step of the next reading: the first process decides, with the verdict's word."""
        self.next_reading = (self.steps // self._every + 1) * self._every
        if self._budget is not None and self._clock is not None:
            steps = self.steps - self._clock_step
            spent = self.reading_seconds
            trained = time.perf_counter() - self._clock - (spent - self._unclocked)
            if steps > 0 and trained > 0:
                owed = (spent / self._budget - trained) / (trained / steps)
                late = self.steps + math.ceil(owed)
                self.next_reading = max(self.next_reading, -(-late // self._every) * self._every)
        if self._world() > 1:
            plan = torch.tensor([self.next_reading, int(self.should_stop)], device=_device())
            dist.broadcast(plan, src=0)
            self.next_reading, self.should_stop = int(plan[0]), bool(plan[1])

    def _warn_of_silence(self) -> None:
        if self._warned:
            return
        self._warned = True
        parts = ", ".join(f"{part} ({tap.name})" for part, tap in self.taps.items())
        warnings.warn(
            f"the monitor heard nothing at step {self.steps}: none of {parts or 'its parts'} was "
            "called in training mode. A model that is compiled as a whole must be watched before "
            "its first step; a loop that calls other modules needs them told, or observe().",
            stacklevel=2,
        )

    def _world(self) -> int:
        return dist.get_world_size() if self._distributed and _grouped() else 1

    def _rank(self) -> int:
        return dist.get_rank() if self._distributed and _grouped() else 0


class _Hook:
    """A forward hook; a copy or a pickle of the module that it is on gets a deaf one."""

    def __init__(self, monitor: Monitor, part: str, tap: Tap) -> None:
        self.monitor, self.part, self.tap = monitor, part, tap
        # Traced, the step number would become part of the graph and recompile it each step.
        self.hear = torch.compiler.disable(monitor._heard)  # type: ignore[no-untyped-call]

    def __call__(self, module: nn.Module, arguments: tuple[Any, ...], output: Any) -> None:
        monitor = self.monitor
        if not torch.compiler.is_compiling() and monitor.steps != monitor.next_reading:
            return
        self.hear(self.part, self.tap, module, arguments, output)

    def __reduce__(self) -> tuple[Callable[[], Any], tuple[()]]:
        return _Deaf, ()


class _StepHook:
    """An optimiser's step hook; copies and pickles like `_Hook`."""

    def __init__(self, monitor: Monitor) -> None:
        self.monitor = monitor

    def __call__(self, *_: Any) -> None:
        self.monitor._end_step()

    def __reduce__(self) -> tuple[Callable[[], Any], tuple[()]]:
        return _Deaf, ()


class _Deaf:
    def __call__(self, *_: Any) -> None:
        return None


def _inside(model: nn.Module | Mapping[str, nn.Module]) -> object:
    return unwrapped(model) if isinstance(model, nn.Module) else model


def _grouped() -> bool:
    return dist.is_available() and dist.is_initialized()


def _device() -> torch.device:
    """Where this group's collectives take their tensors."""
    return torch.device("cuda" if dist.get_backend() == "nccl" else "cpu")


def _gathered(rows: Embeddings) -> Float[Tensor, "gathered dim"]:
    """The rows of all processes, in their order; each may have another number of them."""
    mine = torch.tensor([len(rows)], device=_device())
    counts = [torch.empty_like(mine) for _ in range(dist.get_world_size())]
    dist.all_gather(counts, mine)
    most = max(int(count) for count in counts)
    padded = torch.zeros(most, rows.shape[1], device=_device())
    padded[: len(rows)] = rows.to(_device())
    pieces = [torch.empty_like(padded) for _ in counts]
    dist.all_gather(pieces, padded)
    whole = [piece[: int(count)] for piece, count in zip(pieces, counts, strict=True)]
    return torch.cat(whole).to(rows.device)
