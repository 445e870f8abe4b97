"""Watching any training run without changing it: readings of its parts, at a cadence.

monitor = Monitor(model, file="monitor.jsonl").attach_optimizer(optimizer)
...                                  # the training loop, as it was
monitor.remove()
"""

import logging
import math
import time
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from offdiag._checks import ConfigError, at_least
from offdiag._types import Covariance
from offdiag.diagnostics.cadence import Cadence
from offdiag.diagnostics.causes.cause import Finding, Strength
from offdiag.diagnostics.causes.find import alarms, find_causes
from offdiag.diagnostics.head_matrix import head_matrix
from offdiag.diagnostics.hooks import ForwardHook, Handles, StepHook, forget_compiled
from offdiag.diagnostics.hooks import optimizer_inside as _optimizer_inside
from offdiag.diagnostics.loggers import logging_to
from offdiag.diagnostics.marks.collector import Collector
from offdiag.diagnostics.parts import Found, Tap, look, unwrapped
from offdiag.diagnostics.pooling import Pooling, mean_of_tokens
from offdiag.diagnostics.processes import Presence, agreed, gathered, grouped
from offdiag.diagnostics.readings import noise_readings
from offdiag.diagnostics.record_file import RecordFile
from offdiag.diagnostics.rows import Rows
from offdiag.diagnostics.stream import Stream, read_predictor, read_stream
from offdiag.diagnostics.verdict import judge as _judge
from offdiag.results.observation import PARTS, Check, MonitorRecord, Note, Observation
from offdiag.results.readings import NAN, Readings

KEPT_OBSERVATIONS = 1_000
"""Observations in memory: the first and the latest 999. The file has them all."""
COLLAPSED = ("complete collapse", "dimensional collapse")
"""The kinds of verdict that ask a run to stop."""
CHECKED = 5
"""The last step, from the first that a monitor sees, that is looked at for what shows at once."""
LOG = logging.getLogger("offdiag")

TRAINED, TRAINED_IN_EVALUATION, WITHOUT_GRADIENT = 3, 2, 1
"""What kind of pass a call belongs to. The best kind that a part has in a step is read: a pass
without gradient is the training pass only where there is no other."""


class Monitor:
    """Reads the parts of a model while somebody else's loop trains it.

    The parts are found by the names that lightly, solo-learn, stable-pretraining, simsiam,
    byol-pytorch, BGRL, I-JEPA, DINO and others use (`parts.SCHEMES`), or are given, each as a
    module or a dotted name. `model` may be wrapped (DDP, torch.compile, Lightning), be a mapping
    of names to modules, or None for a loop that calls `observe` itself.

    **When.** A reading takes one optimiser step: what the parts give in the forward passes
    before it. `attach_optimizer` lets the optimiser end the steps, otherwise call `step` after
    each. An observation's `step` is the number of optimiser steps that made the weights it
    read, so that 0 is the initialisation. The first dozen readings come early (`cadence.EARLY`),
    then at multiples of `every`. Where a reading costs more than `budget` of the training,
    counted in multiplications and not by the clock, the gaps widen, at most to a quarter of the
    steps so far; what is put off is counted and noted. `budget=None` reads every multiple of
    `every` and nowhere else. On other steps a hook compares integers.

    **What counts.** Calls of a part in training mode (a target's, while the online network is
    in training mode: many keep it in eval). A pass under no_grad counts only for a part that has
    no other, and so does one in evaluation mode with gradient, which is then noted. Of each
    forward pass the first two calls of a part are the two views; only these are read. A backward
    pass between calls separates the pieces of an accumulated batch. Calls during a backward pass
    are an activation checkpoint's second ones and are left out. A single call is one view, without
    alignment and LiDAR; if it holds several views, say how many: `views_concatenated=2`, or by
    part (DINO's multi-crop: `{"encoder": 2, "projector": 10, "target": 2}`); whether they lie one
    after the other or side by side is found at the first reading. `pooling` turns outputs of more
    than two dimensions into rows: `mean_of_tokens`, `first_token`, `all_tokens` of
    `diagnostics.pooling`, or your own, or a mapping from parts to those. The axes of images and
    width are found (`layout`), padding is left out where the encoder is given a mask. Rows are read
    in float32 whatever the autocast, sums are kept in float64.

    **Marks.** With each reading, and in the first six steps, numbers that separate causes are
    kept (`diagnostics.marks`; `marks=False` leaves them out). What shows at once is logged by step
    5; `check` returns it. `criterion` is the loss module, where it holds temperatures and a centre
    that are not below `model`.

    **Processes.** In a torch.distributed group all processes must have a monitor: moments are
    summed and samples gathered over them, and the first process alone judges, writes and logs. If
    some have none, each reads its own and says so. `distributed=False` does so from the start.
    Marks are those of the first process.

    **What it leaves alone.** Weights, gradients, random numbers, modes, state dicts; a copy or
    pickle of the model carries no monitor. What cannot be read is noted once and never ends the
    run. `remove`, or the end of a `with` block, takes all hooks off.

    **Memory.** Between readings: up to 1,000 observations of some 40 kB. During a reading, for
    each part of width dim: 16 to 24 dim^2 bytes of sums, and 8 dim bytes a row for
    `sample_rows` rows and for the rows of one forward pass (`held_bytes` says how much it was);
    for marks 256 kB a part, and two gradients of the outputs.

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
        pooling: Pooling | Mapping[str, Pooling] = mean_of_tokens,
        views_concatenated: int | Mapping[str, int] = 1,
        sample_rows: int = 1024,
        first_step: int = 0,
        distributed: bool = True,
        judge: Callable[..., Any] = _judge,
        stop_after: int | None = None,
        marks: bool = True,
        criterion: nn.Module | None = None,
    ) -> None:
        at_least("the number of steps between readings", every, 1)
        at_least("the number of sampled rows", sample_rows, 1)
        at_least("the first step", first_step, 0)
        if budget is not None and not 0 < budget <= 1:
            raise ConfigError(f"the budget is a share of the time, in (0, 1]; got {budget:g}.")
        if stop_after is not None:
            at_least("the number of verdicts before a stop", stop_after, 1)
        given = {
            "encoder": encoder,
            "projector": projector,
            "predictor": predictor,
            "target": target,
        }
        watched = model is not None or any(where is not None for where in given.values())
        self._found = look(model, **given) if watched else Found(taps={})
        self.taps: dict[str, Tap] = dict(self._found.taps)
        self.cadence = Cadence(every=every, budget=budget)
        self.steps = first_step
        self.next_reading = self.cadence.first(first_step)
        self.history: list[Observation] = []
        self.checks: list[Check] = []
        self.notes: list[Note] = []
        self.noise: dict[str, Readings] = {}
        self.should_stop = False
        self.held_bytes = 0
        self.reading_seconds = 0.0
        self._rows = Rows(pooling, views_concatenated)
        for views in self._rows.pieces.values():
            at_least("the number of views in one call", views, 1)
        self._sample_rows = sample_rows
        self._distributed = distributed
        self._judge, self._stop_after, self._collapsed = judge, stop_after, 0
        self._log = None if logger is None else logging_to(logger, prefix)
        self._name = name or ("run" if model is None else type(_inside(model)).__name__)
        self._first_step = first_step
        self._file = (
            None
            if file is None
            else RecordFile(Path(file), first_step=first_step, on_taken=self.remove)
        )
        self._presence = Presence() if distributed and grouped() else None

        self._streams: dict[str, Stream] = {}
        self._kinds: dict[str, int] = {}
        self._waiting: list[tuple[Tensor, Mapping[str, Any], Callable[[Tensor], None]]] = []
        self._head: Covariance | None = None
        self._batch = 0
        self._backward_ran = False
        self._gradient_handles: Handles = []
        self._losses, self._loss_sum = 0, torch.zeros(())
        self._checkpoint: str | None = None
        self._started: float | None = None
        self._optimized = False
        self._silence_noted = False
        self._silent: dict[str, int] = {}
        self._troubles: dict[str, int] = {}
        self._named_causes: set[str] = set()
        self._work = 0.0
        self._collector = (
            Collector(self._found, criterion=criterion) if marks and self.taps else None
        )
        online = [tap.module for part, tap in self.taps.items() if part != "target"]
        self._lead = online[0] if online else None
        self._handles: Handles = []
        for part, tap in self.taps.items():
            hook = ForwardHook(self, self._on_call, part, tap)
            self._handles.append(tap.module.register_forward_hook(hook, with_kwargs=True))
        for module in (model, *(tap.module for tap in self.taps.values())):
            if isinstance(module, nn.Module) and _is_compiled(module):
                forget_compiled(module)
        for note in self._found.notes:
            self._note(note)

    def attach_optimizer(self, optimizer: Any) -> "Monitor":
        """Let each step of `optimizer` end a training step; then do not call `step`.

        A step that a gradient scaler skips counts for nothing. Of a wrapper (LARC, Accelerate's)
        the optimiser within is taken; if there is none that takes hooks, a warning says to call
        `step`.
        """
        if self._optimized:
            raise ConfigError(
                "this monitor has an optimiser already: attach the one that trains the encoder, "
                "or call step() once for each round of several."
            )
        inside = _optimizer_inside(optimizer)
        if inside is None:
            self._note(
                f"{type(optimizer).__name__} takes no hooks: call monitor.step() after each of its "
                "steps."
            )
            return self
        self.hold(inside)
        self._optimized = True
        self._handles.append(inside.register_step_post_hook(StepHook(self._end_step)))
        return self

    def hold(self, *optimizers: Any) -> "Monitor":
        """Look at what these optimisers hold and how they step, and let `step` end the steps."""
        for optimizer in optimizers:
            inside = _optimizer_inside(optimizer)
            if inside is not None and self._collector is not None:
                self._collector.optimizers.append(inside)
                self._handles.append(inside.register_step_pre_hook(StepHook(self._before_update)))
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
                    try:
                        with torch.inference_mode(False), torch.no_grad():
                            self._rows.learn(part, view, nn.Identity())
                            self._see(part, view, {})
                    except Exception as error:
                        self._trouble(f"the {part} given by hand could not be read", error)
        self.reading_seconds += time.perf_counter() - start

    def note(
        self,
        *,
        loss: Tensor | float | None = None,
        checkpoint: str | None = None,
        terms: Mapping[str, Tensor] | None = None,
    ) -> None:
        """Give the loss of a step, or the file or tag that holds the weights as they are now.

        An observation's loss is the mean of those given since the one before. In a single
        process the next forward pass after a checkpoint is read, so that its observation is of
        the very weights in the file; of several processes, which must agree when to read, the
        next planned reading takes the name. `terms`, the named parts of the loss before its
        backward pass, are measured by their gradients at the projection on the steps that are
        read; the graph is kept for the pass that follows.
        """
        if loss is not None:
            value = loss.detach() if isinstance(loss, Tensor) else loss
            self._loss_sum = self._loss_sum + value
            self._losses += 1
        if terms is not None and self._collector is not None and not self.idle():
            try:
                self._collector.terms(terms)
            except Exception as error:
                self._trouble("the terms of the loss could not be measured", error)
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
                "the attached optimiser ends the steps: give loss and checkpoint to note()."
            )
        self.note(loss=loss)
        observation = self._end_step()
        self.note(checkpoint=checkpoint)
        return observation

    def verdict(self) -> Any:
        """What `judge` says of the observations so far."""
        return self._judge(self.history, noise=self.noise)

    def record(self) -> MonitorRecord:
        """What the file holds, of the observations in memory."""
        return MonitorRecord(
            name=self._name,
            history=tuple(self.history),
            noise=dict(self.noise),
            about=self._about(),
            checks=tuple(self.checks),
            notes=tuple(self.notes),
        )

    def check(self) -> tuple[Finding, ...]:
        """What is wrong by what was seen so far, the strongest evidence first; nothing: empty.

        Most faults show in the first steps: call it after two to five of them, before the run
        goes on for days.
        """
        return alarms(find_causes(self.record()))

    def cost_share(self) -> float:
        """The share of the time since the first step that readings took; nan before that."""
        if self._started is None:
            return NAN
        passed = time.perf_counter() - self._started
        return self.reading_seconds / passed if passed > 0 else NAN

    def remove(self) -> None:
        """Take every hook off and let go of all tensors; the history stays."""
        if self.next_reading >= 0 and self.cadence.put_off:
            self._keep_note(
                f"{self.cadence.put_off} readings at multiples of {self.cadence.every} steps were "
                "put off, because they would have cost more than the budget."
            )
        for what, times in self._troubles.items():
            if times > 1 and self.next_reading >= 0:
                self._keep_note(f"{what}: {times} times in all.")
        for handle in (*self._handles, *self._gradient_handles):
            handle.remove()
        self._handles, self._gradient_handles = [], []
        self._streams, self._kinds, self._waiting, self._head = {}, {}, [], None
        if self._collector is not None:
            self._collector.close()
        if self._file is not None:
            self._file.close()
        self.next_reading = -1  # a graph compiled with the hooks goes on calling them

    def __enter__(self) -> "Monitor":
        return self

    def __exit__(self, *_: object) -> None:
        self.remove()

    def idle(self) -> bool:
        """Is nothing recorded on this step?"""
        step, reading = self.steps, self.next_reading
        if step == reading:
            return False
        if self._collector is None or reading < 0:
            return True
        return step != reading - 1 and step - self._first_step > CHECKED

    def _on_call(
        self,
        part: str,
        tap: Tap,
        module: nn.Module,
        arguments: tuple[Any, ...],
        named: Mapping[str, Any],
        output: Any,
    ) -> None:
        """One call of a part; whatever goes wrong here is noted, and the run goes on."""
        if self.idle():  # a compiled graph calls whatever the step
            return
        start = time.perf_counter()
        try:
            self._take_call(part, tap, module, arguments, named, output)
        except Exception as error:
            self._trouble(f"the {part} ({tap.name}) could not be read", error)
        self.reading_seconds += time.perf_counter() - start

    def _take_call(
        self,
        part: str,
        tap: Tap,
        module: nn.Module,
        arguments: tuple[Any, ...],
        named: Mapping[str, Any],
        output: Any,
    ) -> None:
        if torch._C._current_graph_task_id() != -1:
            self._backward_ran = True
            return
        tensor = tap.pick(arguments, output)
        if tensor is None or len(tensor) == 0:
            return
        kind = self._kind(part, module, tensor)
        if kind < self._kinds.get(part, WITHOUT_GRADIENT):
            return
        if self._collector is not None:
            self._collector.begin(self.steps)
            checked = self.steps - self._first_step <= CHECKED
            if self.steps != self.next_reading and not checked:
                return  # the weights alone, for the step that is read next
        if kind > self._kinds.get(part, kind):
            self._streams.pop(part, None)
            if self._collector is not None:
                self._collector.forget(part)
        self._kinds[part] = kind
        if self._backward_ran:
            self._batch, self._backward_ran = self._batch + 1, False
        if tensor.requires_grad:
            handle = tensor.register_hook(self._on_backward)  # type: ignore[no-untyped-call]
            self._gradient_handles.append(handle)
        batch = self._batch

        def read(output: Tensor) -> None:
            rows = self._see(part, output, named, batch)
            if self._collector is not None:
                self._collector.called(
                    part, module, arguments, named, tensor, rows, evaluated=kind == 2
                )

        # An in-place layer behind the part would write into the output itself, and what is made
        # in inference mode could not be summed outside it.
        with torch.inference_mode(False), torch.no_grad():
            kept = tensor.detach().clone()
            if self._waiting and part != "encoder":
                given = next((a for a in arguments if isinstance(a, Tensor)), None)
                if part != "target":
                    self._read_waiting(given)
            if part == "encoder" and not self._rows.knows(part, tensor.ndim):
                self._waiting.append((kept, named, read))
            else:
                self._rows.learn(part, kept, unwrapped(module))
                read(kept)
        if part == "predictor":
            self._head = head_matrix(unwrapped(module))
        self._count_work(part, module, arguments, tensor)

    def _kind(self, part: str, module: nn.Module, tensor: Tensor) -> int:
        """What kind of pass this call belongs to; 0: none that trains."""
        decides = self._lead if part == "target" and self._lead is not None else module
        training = unwrapped(decides).training  # wrappers may keep a flag of their own
        if part == "target":
            return TRAINED if training else WITHOUT_GRADIENT
        if training:
            return TRAINED if torch.is_grad_enabled() else WITHOUT_GRADIENT
        return TRAINED_IN_EVALUATION if tensor.requires_grad else 0

    def _read_waiting(self, given: Tensor | None = None) -> None:
        """Read the encoder's first outputs, whose axes what comes next may decide."""
        waiting, self._waiting = self._waiting, []
        for output, _, read in waiting:
            self._rows.learn("encoder", output, self.taps["encoder"].module, next_input=given)
            read(output)

    def _on_backward(self, gradient: Tensor) -> None:
        self._backward_ran = True

    def _see(
        self, part: str, output: Tensor, named: Mapping[str, Any], batch: int | None = None
    ) -> Tensor:
        """Put the rows of one call into the part's stream, if this step is read."""
        with torch.autocast(output.device.type, enabled=False):
            rows = self._rows.of(part, output.detach(), named)
            try:
                views = self._rows.views(part, rows)
            except ConfigError as error:
                self._trouble("the views of one call were read as one", error)
                views = (rows,)
            if self.steps == self.next_reading:
                for view in views:
                    if part not in self._streams:
                        capacity = max(1, self._sample_rows // self._world())
                        self._streams[part] = Stream(view, capacity=capacity, seed=self._rank())
                    self._streams[part].see(view, self._batch if batch is None else batch)
        return rows

    def _before_update(self) -> None:
        if self._collector is None or self.next_reading < 0:
            return
        start = time.perf_counter()
        try:
            self._collector.before_update(self.steps)
        except Exception as error:
            self._trouble("the gradients could not be read", error)
        self.reading_seconds += time.perf_counter() - start

    def _end_step(self) -> Observation | None:
        observation = None
        start = time.perf_counter()
        if self._started is None:
            self._started = start
        if not self.idle():
            try:
                observation = self._end_recorded_step()
            except dist.DistBackendError:
                raise
            except Exception as error:
                self._trouble(f"nothing could be read at step {self.steps}", error)
            self._kinds, self._waiting = {}, []
        self.reading_seconds += time.perf_counter() - start
        self.steps += 1
        return observation

    def _end_recorded_step(self) -> Observation | None:
        read = self.steps == self.next_reading
        if self._waiting:
            with torch.inference_mode(False), torch.no_grad():
                self._read_waiting()
        for handle in self._gradient_handles:
            handle.remove()
        self._gradient_handles = []
        marks = self._marks(read)
        observation = None
        if read:
            try:
                observation = self._read(marks)
            finally:
                self._plan()
        elif marks and self._rank() == 0:
            self.checks.append(Check(step=self.steps, marks=marks))
            self._write(self.checks[-1])
        if marks and self.steps - self._first_step <= CHECKED and self._rank() == 0:
            self._log_causes()
        return observation

    def _marks(self, read: bool) -> dict[str, float]:
        if self._collector is None:
            return {}
        if not read and self.steps - self._first_step > CHECKED:
            return {}
        if max(self._kinds.values(), default=0) < TRAINED_IN_EVALUATION:
            self._collector.drop()
            return {}
        marks = self._collector.end()
        if self._losses:
            marks["loss/finite"] = float(math.isfinite(float(self._loss_sum)))
        return marks

    def _read(self, marks: Mapping[str, float]) -> Observation | None:
        streams = {part: self._streams[part] for part in PARTS if part in self._streams}
        if "target" in streams and len(streams) > 1 and self._kinds:
            online = max((k for part, k in self._kinds.items() if part != "target"), default=3)
            if online == WITHOUT_GRADIENT and self._kinds.get("target") == WITHOUT_GRADIENT:
                del streams["target"]
        head, self._head, self._streams = self._head, None, {}
        if not streams:
            self._checkpoint = None  # those weights went by unread; the next are others
            self._warn_of_silence()
            return None
        self._warn_of_silent_parts(streams)
        for stream in streams.values():
            stream.close()
        self.held_bytes = sum(stream.bytes for stream in streams.values())
        self._find_processes()
        spread = self._world() > 1
        moments = {
            part: stream.moments.all_reduced() if spread else stream.moments
            for part, stream in streams.items()
        }
        samples = {
            part: tuple(gathered(rows) for rows in stream.sample.rows)
            if spread
            else stream.sample.rows
            for part, stream in streams.items()
        }
        loss = float(self._loss_sum) / self._losses if self._losses else NAN
        if self._losses and not math.isfinite(loss):
            self._note(f"the loss is {loss:g} at step {self.steps}.")
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
            marks=marks,
        )
        self._refer({part: len(rows) for part, rows in samples.items()}, observation)
        self._count_reading(observation)
        self._keep(observation)
        return observation

    def _refer(self, views: Mapping[str, int], observation: Observation) -> None:
        """Noise of the shape that each part had when it was first read."""
        for part, readings in observation.parts.items():
            if part not in self.noise and readings.rows > 0:
                self.noise[part] = noise_readings(readings.rows, readings.dim, views=views[part])

    def _keep(self, observation: Observation) -> None:
        self._continue_record()
        self.history.append(observation)
        if len(self.history) > KEPT_OBSERVATIONS:
            del self.history[1]
        self._write(observation)
        if self._log is not None:
            try:
                self._log(observation.scalars(), observation.step)
            except Exception as error:
                self._trouble("the logger refused the readings", error)
        if self._stop_after is not None:
            try:
                collapsed = str(self.verdict().kind) in COLLAPSED
            except Exception as error:
                self._trouble("the verdict could not be passed", error)
                return
            self._collapsed = self._collapsed + 1 if collapsed else 0
            self.should_stop = self._collapsed >= self._stop_after

    def _continue_record(self) -> None:
        """At the first observation of a resumed run: what came before it."""
        if self._file is None or self._file.started:
            return
        record = self._file.before()
        if record is not None:
            before = [row for row in record.history if row.step < self._first_step]
            self.noise = {**self.noise, **record.noise}
            self.history = [*before[:1], *before[1:][2 - KEPT_OBSERVATIONS :], *self.history]
            self.checks = [c for c in record.checks if c.step < self._first_step] + self.checks
        self._file.start(name=self._name, noise=self.noise, about=self._about())

    def _write(self, row: Observation | Check | Note) -> None:
        if self._file is not None and self._rank() == 0:
            self._file.append(row)

    def _about(self) -> dict[str, Any]:
        return {
            "parts": {part: tap.name for part, tap in self.taps.items()},
            "every": self.cadence.every,
            "processes": self._world(),
            "torch": str(torch.__version__),
            "library": self._found.library,
        }

    def _plan(self) -> None:
        """The step of the next reading, the same in all processes, with the verdict's word."""
        self.next_reading = self.cadence.after(self.steps)
        if self._world() > 1:
            self.next_reading, stop = agreed([self.next_reading, int(self.should_stop)])
            self.should_stop = bool(stop)

    def _count_work(
        self, part: str, module: nn.Module, arguments: tuple[Any, ...], output: Tensor
    ) -> None:
        """Add a call to the work of a training step, in multiplications, roughly."""
        if self.cadence.step or self.steps != self.next_reading:
            return
        parameters = sum(p.numel() for p in unwrapped(module).parameters())
        given = next((a for a in arguments if isinstance(a, Tensor)), None)
        places = 1.0
        if given is not None and given.ndim == 4:
            # A network halves the sides on its way: a sixteenth of the places is typical.
            places = min(max(given.shape[2] * given.shape[3] / 16, 1.0), 200.0)
        elif output.ndim == 3:
            places = float(output.shape[1])
        passes = 1 if part == "target" else 3  # backward takes as much as two forward passes
        self._work += passes * len(output) * places * parameters

    def _count_reading(self, observation: Observation) -> None:
        """The work of a reading in the same unit: a decomposition runs slower than a product."""
        if self.cadence.step or self._work <= 0:
            return
        cuda = any(p.is_cuda for tap in self.taps.values() for p in tap.module.parameters())
        slower = 100.0 if cuda else 10.0
        for readings in observation.parts.values():
            inner = min(readings.dim, max(readings.rows, 1))
            products = 4.0 * readings.rows * readings.dim * inner
            self.cadence.reading += slower * 20.0 * inner**3 + products + 2e7 * slower
        self.cadence.step = self._work

    def _log_causes(self) -> None:
        """What is wrong for certain, each cause once, as soon as it is seen."""
        for finding in self.check():
            if finding.cause.strength is Strength.DIRECT:
                if finding.cause.key not in self._named_causes:
                    LOG.warning("step %d: %s %s", self.steps, finding.sentence, finding.change)
                self._named_causes.add(finding.cause.key)

    def _find_processes(self) -> None:
        """Before the first collective: do all processes have a monitor?"""
        if self._presence is None or self._world() == 1:
            return
        missing = self._presence.missing()
        self._presence = None
        if missing:
            self._distributed = False
            self._note(
                f"processes {', '.join(map(str, missing))} have no monitor: process "
                f"{dist.get_rank()} reads its own batch alone. Build one in each process."
            )

    def _warn_of_silence(self) -> None:
        if self._silence_noted or self._troubles:  # what could not be read has its note already
            return
        self._silence_noted = True
        parts = ", ".join(f"{part} ({tap.name})" for part, tap in self.taps.items())
        self._note(
            f"the monitor saw nothing at step {self.steps}: none of {parts or 'its parts'} was "
            "called with gradient or in training mode. Name the modules that the loop calls, or "
            "use observe()."
        )

    def _warn_of_silent_parts(self, streams: Mapping[str, Stream]) -> None:
        """A part that was found and is not called is another module than the loop's."""
        for part, tap in self.taps.items():
            if part in streams:
                self._silent[part] = -1_000_000
                continue
            self._silent[part] = self._silent.get(part, 0) + 1
            if self._silent[part] == 2:
                self._note(
                    f"the {part} ({tap.name}) was found and never ran: name the module that the "
                    f"loop calls, {part}=..."
                )

    def _trouble(self, what: str, error: Exception) -> None:
        """Note once what went wrong, and count it."""
        self._troubles[what] = self._troubles.get(what, 0) + 1
        if self._troubles[what] == 1:
            self._note(f"{what}: {error} Training goes on.")

    def _note(self, text: str) -> None:
        self._keep_note(text)
        warnings.warn(text, stacklevel=3)

    def _keep_note(self, text: str) -> None:
        note = Note(step=self.steps, text=text)
        self.notes.append(note)
        self._write(note)

    def _world(self) -> int:
        return dist.get_world_size() if self._distributed and grouped() else 1

    def _rank(self) -> int:
        return dist.get_rank() if self._distributed and grouped() else 0


def _inside(model: nn.Module | Mapping[str, nn.Module]) -> object:
    return unwrapped(model) if isinstance(model, nn.Module) else model


def _is_compiled(module: nn.Module) -> bool:
    return any(hasattr(inner, "_orig_mod") for inner in module.modules())
