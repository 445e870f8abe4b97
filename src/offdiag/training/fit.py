"""The one training loop."""

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

import torch
from lightning_fabric import Fabric
from torch import Tensor, nn
from torch.optim import Optimizer

from offdiag._checks import TrainingError
from offdiag._types import Scalar, View
from offdiag.batchnorm import mean_over_processes
from offdiag.methods.method import AbstractMethod, Output
from offdiag.training.schedules import Schedule


@runtime_checkable
class TwoViews(Protocol):
    """What the loop needs of a batch."""

    @property
    def view_a(self) -> View: ...

    @property
    def view_b(self) -> View: ...

    @property
    def waited_seconds(self) -> float: ...


@runtime_checkable
class TwoViewBatches(Protocol):
    """What the loop needs of a loader: batches that are a function of the step alone."""

    @property
    def steps_per_epoch(self) -> int: ...

    def batches(self, *, first_step: int, last_step: int) -> Iterator[TwoViews]: ...


@dataclass
class Progress:
    """Where a run stands; with the weights and the optimiser's state it is all a resume needs."""

    step: int = 0
    seconds: float = 0.0
    loss_sum: float = 0.0
    loss_steps: int = 0
    step_seconds: float = 0.0
    waited_seconds: float = 0.0

    def state(self) -> dict[str, Any]:
        return dict(vars(self))


@dataclass(frozen=True, kw_only=True)
class Pulse:
    """What the loop alone knows at a reading: `loss` and speed are means since the one before.

    `waiting_share` is the share of the steps' time, in [0, 1], spent waiting for images.
    """

    step: int
    epoch: float
    seconds: float
    loss: float
    learning_rate: float
    head_learning_rate: float
    steps_per_second: float
    waiting_share: float


@dataclass
class LossWatch:
    """Sums the loss on its device and remembers the first step at which it was not finite.

    Reading a value from an accelerator waits for it, so that happens in `check`
    only, at readings and before checkpoints, not at each step.
    """

    progress: Progress
    device: torch.device
    total: Tensor = field(init=False)
    first_bad: Tensor = field(init=False)

    def __post_init__(self) -> None:
        self.total = torch.tensor(self.progress.loss_sum, dtype=torch.float64, device=self.device)
        self.first_bad = torch.tensor(-1, device=self.device)

    def add(self, loss: Scalar, step: int) -> None:
        self.total += loss
        self.progress.loss_steps += 1
        new = (self.first_bad < 0) & ~torch.isfinite(loss)
        self.first_bad = torch.where(new, step, self.first_bad)

    def check(self, steps: int) -> None:
        """TrainingError if some loss was not finite; otherwise the sum moves to `progress`."""
        first_bad = int(self.first_bad)
        if first_bad >= 0:
            raise _diverged("the loss", first_bad, steps)
        self.progress.loss_sum = self.total.item()

    def restart(self) -> None:
        self.total.zero_()
        progress = self.progress
        progress.loss_sum, progress.loss_steps = 0.0, 0
        progress.step_seconds, progress.waited_seconds = 0.0, 0.0


def fit(
    method: AbstractMethod,
    loader: TwoViewBatches,
    optimizer: Optimizer,
    *,
    fabric: Fabric,
    schedule: Schedule,
    progress: Progress,
    read_every: int,
    checkpoint_seconds: float,
    on_reading: Callable[[Pulse], None],
    on_checkpoint: Callable[[], None],
    on_step: Callable[[int], None] = lambda step: None,
) -> None:
    """Train `method` from `progress.step` to `schedule.steps`; moves `progress` along.

    Where `fabric` has several processes, all call this with their part of each batch;
    the loss is that of the whole batch, and only the first of them is called back.

    `read_every` is in steps. At each reading, and at the end, `on_reading` gets a
    `Pulse`; once `checkpoint_seconds` have passed since the last time, and at the
    end, `on_checkpoint` is called with `progress` up to date. TrainingError says at
    which step a loss or a weight stopped being finite; no checkpoint is written
    from such weights.
    """
    steps, first = schedule.steps, fabric.is_global_zero
    network, stepper = fabric.setup(_LossOf(method), optimizer)
    watch = LossWatch(progress, fabric.device)
    last_checkpoint = before = time.perf_counter()

    method.train()
    for batch in loader.batches(first_step=progress.step, last_step=steps):
        schedule.apply(optimizer, progress.step)
        loss = network(batch.view_a, batch.view_b)
        fabric.backward(loss)
        stepper.step()
        stepper.zero_grad(set_to_none=True)
        method.after_step((progress.step + 1) / steps)
        watch.add(mean_over_processes(loss.detach()), progress.step)
        progress.step += 1
        on_step(progress.step)

        now = time.perf_counter()
        progress.seconds += now - before
        progress.step_seconds += now - before
        progress.waited_seconds += batch.waited_seconds
        before = now

        last = progress.step == steps
        if progress.step % read_every == 0 or last:
            watch.check(steps)
            _refuse_bad_weights(method, progress.step, steps)
            if first:
                epoch = progress.step / loader.steps_per_epoch
                on_reading(_pulse(progress, optimizer, epoch=epoch))
            watch.restart()
        if first and (time.perf_counter() - last_checkpoint >= checkpoint_seconds or last):
            watch.check(steps)
            _refuse_bad_weights(method, progress.step, steps)
            on_checkpoint()
            last_checkpoint = time.perf_counter()
        now = time.perf_counter()
        progress.seconds += now - before
        before = now


class _LossOf(nn.Module):
    """A method as DDP must see it: nothing comes out but what the gradient goes through."""

    def __init__(self, method: AbstractMethod) -> None:
        super().__init__()
        self.method = method

    def forward(self, view_a: View, view_b: View) -> Scalar:
        output: Output = self.method(view_a, view_b)
        return output.loss


def _pulse(progress: Progress, optimizer: Optimizer, *, epoch: float) -> Pulse:
    rates = {group["name"]: group["lr"] for group in optimizer.param_groups}
    return Pulse(
        step=progress.step,
        epoch=epoch,
        seconds=progress.seconds,
        loss=progress.loss_sum / progress.loss_steps,
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
