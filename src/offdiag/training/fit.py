"""The one training loop."""

import inspect
import itertools
import math
import time
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

import torch
from lightning_fabric import Fabric
from torch import Tensor, nn
from torch.optim import Optimizer

from offdiag._checks import ConfigError, TrainingError, at_least
from offdiag._distributed import mean_over_processes
from offdiag._types import Scalar
from offdiag.data.nest import is_named_tuple, moved
from offdiag.methods.method import AbstractMethod, Embedded, Output
from offdiag.training.schedules import Schedule


@runtime_checkable
class ViewBatch(Protocol):
    """A batch that says how long it was waited for; any tuple of views will do as well."""

    @property
    def views(self) -> tuple[Any, ...]: ...

    @property
    def waited_seconds(self) -> float: ...


@runtime_checkable
class SeekableBatches(Protocol):
    """Batches that are a function of the step alone, so that a run can go on where it stopped."""

    @property
    def steps_per_epoch(self) -> int: ...

    def batches(self, *, first_step: int, last_step: int) -> Iterator[ViewBatch]: ...


@dataclass
class Progress:
    """Where a run stands; with the weights and the optimiser's state it is all a resume needs."""

    step: int = 0
    seconds: float = 0.0
    loss_sum: float = 0.0
    loss_steps: int = 0
    step_seconds: float = 0.0
    waited_seconds: float = 0.0
    term_sums: dict[str, float] = field(default_factory=dict)

    def state(self) -> dict[str, Any]:
        return dict(vars(self))


@dataclass(frozen=True, kw_only=True)
class LoopMetrics:
    """What the loop alone knows at a log step: `loss`, `terms` and speed are means since the last.

    `terms` are the loss's named terms, without their weights. `waiting_share` is the share of
    the steps' time, in [0, 1], spent waiting for data.
    """

    step: int
    epoch: float
    seconds: float
    loss: float
    terms: Mapping[str, float]
    learning_rate: float
    head_learning_rate: float
    steps_per_second: float
    waiting_share: float


@dataclass
class LossWatch:
    """Sums loss and terms on their device and remembers the first step with a bad loss.

    Reading a value from an accelerator waits for it, so that happens in `check`
    only, at log steps and before checkpoints, not at each step.
    """

    progress: Progress
    device: torch.device
    total: Tensor = field(init=False)
    first_bad: Tensor = field(init=False)
    terms: Tensor | None = field(init=False, default=None)
    names: tuple[str, ...] = field(init=False, default=())

    def __post_init__(self) -> None:
        self.total = torch.tensor(self.progress.loss_sum, dtype=torch.float64, device=self.device)
        self.first_bad = torch.tensor(-1, device=self.device)

    def add(self, loss: Scalar, terms: Mapping[str, Scalar], step: int) -> None:
        self.total += loss
        self.progress.loss_steps += 1
        if terms:
            if self.terms is None or tuple(terms) != self.names:
                self.names = tuple(terms)
                sums = [self.progress.term_sums.get(name, 0.0) for name in self.names]
                self.terms = torch.tensor(sums, dtype=torch.float64, device=self.device)
            self.terms += torch.stack([term.detach() for term in terms.values()])
        new = (self.first_bad < 0) & ~torch.isfinite(loss)
        self.first_bad = torch.where(new, step, self.first_bad)

    def check(self, steps: int) -> None:
        """TrainingError if some loss was not finite; otherwise the sums move to `progress`."""
        first_bad = int(self.first_bad)
        if first_bad >= 0:
            raise _diverged("the loss", first_bad, steps)
        self.progress.loss_sum = self.total.item()
        if self.terms is not None:
            self.progress.term_sums = dict(zip(self.names, self.terms.tolist(), strict=True))

    def restart(self) -> None:
        self.total.zero_()
        if self.terms is not None:
            self.terms.zero_()
        progress = self.progress
        progress.loss_sum, progress.loss_steps, progress.term_sums = 0.0, 0, {}
        progress.step_seconds, progress.waited_seconds = 0.0, 0.0


def fit(
    method: AbstractMethod,
    batches: SeekableBatches | Iterable[Any],
    optimizer: Optimizer,
    *,
    steps: int,
    schedule: Schedule | None = None,
    fabric: Fabric | None = None,
    progress: Progress | None = None,
    log_every: int | None = None,
    checkpoint_seconds: float = math.inf,
    on_log: Callable[[LoopMetrics], None] = lambda metrics: None,
    on_checkpoint: Callable[[], None] = lambda: None,
    on_step: Callable[[int], None] = lambda step: None,
) -> Progress:
    """Train `method` to step `steps`: `fit(method, loader, optimizer, steps=200)`.

    `batches` is anything that gives batches again and again: a DataLoader, a list. A batch is
    the tuple of its views, or a tuple that starts with such a tuple, labels after it. Batches
    that can be asked for by step (`SeekableBatches`) let a run go on from `progress`.

    Without a `schedule` the optimiser's rates are left alone; without a `fabric` it trains in
    this process, where the method's weights are. Where `fabric` has several processes, all call
    this with their part of each batch; the loss is that of the whole batch, and only the first
    of them is called back.

    Every `log_every` steps (by default about a hundred times), and at the end, `on_log` gets
    `LoopMetrics`; once `checkpoint_seconds` have passed since the last time, and at the end,
    `on_checkpoint` is called with `progress` up to date. TrainingError says at which step a loss
    or a weight stopped being finite; no checkpoint is written from such weights.
    """
    at_least("the number of steps", steps, 1)
    progress = Progress() if progress is None else progress
    log_every = max(1, steps // 100) if log_every is None else log_every
    device = next(iter(method.parameters())).device
    if fabric is None:
        fabric = Fabric(accelerator=device.type, devices=1)
    first = fabric.is_global_zero
    loss_of = _LossOf(method)
    network, stepper = fabric.setup(loss_of, optimizer)
    watch = LossWatch(progress, fabric.device)
    after_step = _after_step_of(method)
    per_epoch = batches.steps_per_epoch if isinstance(batches, SeekableBatches) else math.nan
    last_checkpoint = before = time.perf_counter()

    method.train()
    for views, waited_seconds in _taken(batches, progress.step, steps, fabric.device):
        if schedule is not None:
            schedule.apply(optimizer, progress.step)
        loss = network(*views)
        fabric.backward(loss)
        stepper.step()
        stepper.zero_grad(set_to_none=True)
        terms, embedded = loss_of.take()
        after_step(embedded, step=progress.step, steps=steps)
        watch.add(mean_over_processes(loss.detach()), terms, progress.step)
        progress.step += 1
        on_step(progress.step)

        now = time.perf_counter()
        progress.seconds += now - before
        progress.step_seconds += now - before
        progress.waited_seconds += waited_seconds
        before = now

        last = progress.step == steps
        if progress.step % log_every == 0 or last:
            watch.check(steps)
            _refuse_bad_weights(method, progress.step, steps)
            if first:
                on_log(_metrics(progress, optimizer, epoch=progress.step / per_epoch))
            watch.restart()
        if first and (time.perf_counter() - last_checkpoint >= checkpoint_seconds or last):
            watch.check(steps)
            _refuse_bad_weights(method, progress.step, steps)
            on_checkpoint()
            last_checkpoint = time.perf_counter()
        now = time.perf_counter()
        progress.seconds += now - before
        before = now
    return progress


class _LossOf(nn.Module):
    """A method as DDP must see it: nothing comes out but what the gradient goes through.

    The terms and the embeddings are taken by another door, without a gradient.
    """

    def __init__(self, method: AbstractMethod) -> None:
        super().__init__()
        self.method = method
        self._last: tuple[Mapping[str, Scalar], Embedded] | None = None

    def forward(self, *views: Any) -> Scalar:
        output: Output = self.method(*views)
        self._last = output.terms, output.embedded.detached()
        return output.loss

    def take(self) -> tuple[Mapping[str, Scalar], Embedded]:
        assert self._last is not None
        last, self._last = self._last, None
        return last


def _taken(
    batches: SeekableBatches | Iterable[Any], first_step: int, last_step: int, device: torch.device
) -> Iterator[tuple[tuple[Any, ...], float]]:
    """The views of each batch, and the seconds that they were waited for."""
    if isinstance(batches, SeekableBatches):
        for batch in batches.batches(first_step=first_step, last_step=last_step):
            yield batch.views, batch.waited_seconds
        return
    if first_step:
        raise ConfigError(
            "a run can go on from a checkpoint only if its batches can be asked for by step."
        )
    step, start = 0, time.perf_counter()
    for epoch in itertools.count():
        before = step
        for batch in batches:
            yield views_of(batch, device), time.perf_counter() - start
            step, start = step + 1, time.perf_counter()
            if step == last_step:
                return
        if step == before:
            what = "gave no batch" if epoch == 0 else "can be gone through only once"
            raise ConfigError(f"the batches {what}: give a list, a DataLoader or a loader.")


def views_of(batch: Any, device: torch.device | str) -> tuple[Any, ...]:
    """The views of a batch on a device: of (views, labels, ...), of a tuple of views, of `.views`.

    ConfigError for anything else.
    """
    views = getattr(batch, "views", batch)
    if _is_several(views) and views and _is_several(views[0]):
        views = views[0]
    if not _is_several(views) or len(views) < 2:
        raise ConfigError(
            "a batch must be a tuple of two views or more, or start with one; got "
            f"{type(batch).__name__}{_length(batch)}."
        )
    return tuple(moved(view, device) for view in views)


def _is_several(value: Any) -> bool:
    """Whether `value` is several things; a named tuple is one, such as a graph."""
    return isinstance(value, tuple | list) and not is_named_tuple(value)


def _length(batch: Any) -> str:
    return f" of length {len(batch)}" if isinstance(batch, tuple | list) else ""


def _after_step_of(method: AbstractMethod) -> Callable[..., None]:
    """The method's hook; one of the first version, which took `progress`, goes on working."""
    parameters = list(inspect.signature(method.after_step).parameters)
    if parameters != ["progress"]:
        return method.after_step
    warnings.warn(
        f"{type(method).__name__}.after_step(progress) is called as "
        "after_step(embedded, *, step, steps) now.",
        DeprecationWarning,
        stacklevel=3,
    )
    old: Callable[[float], None] = method.after_step  # type: ignore[assignment]

    def after_step(embedded: Embedded, *, step: int, steps: int) -> None:
        old((step + 1) / steps)

    return after_step


def _metrics(progress: Progress, optimizer: Optimizer, *, epoch: float) -> LoopMetrics:
    rates = {group.get("name", "weights"): group["lr"] for group in optimizer.param_groups}
    return LoopMetrics(
        step=progress.step,
        epoch=epoch,
        seconds=progress.seconds,
        loss=progress.loss_sum / progress.loss_steps,
        terms={name: total / progress.loss_steps for name, total in progress.term_sums.items()},
        learning_rate=rates.get("weights", math.nan),
        head_learning_rate=rates.get("head", rates.get("head biases", 0.0)),
        steps_per_second=progress.loss_steps / max(progress.step_seconds, 1e-9),
        waiting_share=min(1.0, progress.waited_seconds / max(progress.step_seconds, 1e-9)),
    )


def _refuse_bad_weights(method: AbstractMethod, step: int, steps: int) -> None:
    state = [tensor for tensor in method.state_dict().values() if tensor.is_floating_point()]
    if not torch.stack([torch.isfinite(tensor).all() for tensor in state]).all():
        raise _diverged("a weight", step - 1, steps)


def _diverged(what: str, step: int, steps: int) -> TrainingError:
    return TrainingError(
        f"{what} is not finite at step {step + 1} of {steps}: try a smaller learning rate "
        "or a longer warm-up. The last good checkpoint is kept."
    )
