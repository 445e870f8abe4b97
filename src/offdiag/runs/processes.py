"""The processes that share one run: where this one stands, how they start, how they end.

Starting, watching and stopping them is torch's elastic agent, whether `launch`
asks for it or the user's `torchrun` does; the gradients are DDP's, through Fabric.
"""

import inspect
import logging
import os
import signal
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from lightning_fabric import Fabric
from lightning_fabric.strategies.ddp import DDPStrategy
from torch.nn.parallel import DistributedDataParallel

from offdiag import _checks
from offdiag._checks import ConfigError, OffdiagError, RunError

PATIENCE = timedelta(minutes=30)
"""The longest that one process waits for the others: for rank 0 to make its readings, or for
a machine that has vanished. One that has ended is noticed at once."""


GRACE_SECONDS = 3.0
HANDLED = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT)


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where a process stands: `rank` of `size` in all, `local_rank` of `local_size` here.

    `started` if `launch`, `torchrun` or `fabric run` started it; alone otherwise.
    """

    rank: int = 0
    size: int = 1
    local_rank: int = 0
    local_size: int = 1
    started: bool = False

    @classmethod
    def here(cls) -> "Place":
        """As the one who started this process has told it."""
        if not (dist.is_available() and dist.is_torchelastic_launched()):
            return cls()
        told = (
            int(os.environ[k]) for k in ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE")
        )
        rank, size, local_rank, local_size = told
        return cls(rank=rank, size=size, local_rank=local_rank, local_size=local_size, started=True)


class ProcessEnded(RunError):
    """Another process of this run ended before its time."""


FABRIC_LOGGERS = (
    "lightning_fabric.utilities.rank_zero",
    "pytorch_lightning.utilities.rank_zero",
    "lightning.fabric.utilities.rank_zero",
    "lightning.pytorch.utilities.rank_zero",
)
"""Where Fabric gives its advice: its own logger, or that of Lightning once that is imported."""


def _no_advice(record: logging.LogRecord) -> bool:
    """Whether a message is not Fabric's advice on TensorFloat-32, which `runs.device` decides."""
    return "set_float32_matmul_precision" not in record.getMessage()


def open_fabric(
    device: torch.device, precision: Any, place: Place, *, unused_weights: bool = False
) -> Fabric:
    """Fabric on `device`: alone, or with DDP over gloo or nccl once all processes have come.

    DDP must be told if there are `unused_weights`, which get no gradient, such as
    those of a head that a stop-gradient cuts off.
    """
    logging.getLogger("lightning_fabric").setLevel(logging.WARNING)
    for name in FABRIC_LOGGERS:
        logging.getLogger(name).addFilter(_no_advice)
    if place.size == 1:
        return Fabric(accelerator=device.type, devices=1, precision=precision)
    if device.type == "mps":
        raise ConfigError("several processes cannot share one mps device: use --device cpu.")
    # BatchNorm's buffers agree already and need no broadcast; torch has renamed that option.
    known = inspect.signature(DistributedDataParallel.__init__).parameters
    broadcast = "forward_sync_buffers" if "forward_sync_buffers" in known else "broadcast_buffers"
    options: dict[str, Any] = {"find_unused_parameters": unused_weights, broadcast: False}
    strategy = DDPStrategy(timeout=PATIENCE, **options)
    try:
        fabric = Fabric(
            accelerator=device.type,
            devices=place.local_size,
            num_nodes=place.size // place.local_size,
            strategy=strategy,
            precision=precision,
        )
    except ValueError as error:  # an option of `fabric run` at odds with ours
        raise ConfigError(f"Fabric refuses the processes it was given: {error}") from error
    if "LT_CLI_USED" not in os.environ:  # under `fabric run` the line above has done it
        fabric.launch()
    return fabric


def launch(
    work: Callable[..., None], *arguments: Any, processes: int, start_method: str = "spawn"
) -> None:
    """Call `work(*arguments)` in `processes` new processes on this machine and wait for them.

    `Place.here()` tells each which it is. When one fails, the others are stopped:
    its OffdiagError is raised here; if it was killed, ProcessEnded says by what.
    """
    from torch.distributed.elastic.multiprocessing import DefaultLogsSpecs, SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    with tempfile.TemporaryDirectory() as folder, _agent_undone():
        settings = LaunchConfig(
            min_nodes=1,
            max_nodes=1,
            nproc_per_node=processes,
            run_id="offdiag",
            rdzv_backend="c10d",
            rdzv_endpoint="localhost:0",
            local_addr="localhost",
            max_restarts=0,
            start_method=start_method,
            signals_to_handle=",".join(number.name for number in HANDLED),
            logs_specs=DefaultLogsSpecs(log_dir=folder),
        )
        try:
            elastic_launch(settings, work)(*arguments)
        except ChildFailedError as error:
            raise _cause(error, processes) from None
        except SignalException as error:
            if error.sigval.name == "SIGINT":
                raise KeyboardInterrupt from None
            raise ProcessEnded(f"the run was stopped by {error.sigval.name}.") from None


@contextmanager
def _agent_undone() -> Iterator[None]:
    """Keep the agent quiet, whose news is in its exception, and put its signal handlers back."""
    before = logging.root.manager.disable
    handlers = {s: signal.getsignal(s) for s in HANDLED} if _in_main_thread() else {}
    logging.disable(logging.ERROR)
    try:
        yield
    finally:
        logging.disable(before)
        for number, handler in handlers.items():
            signal.signal(number, handler)


def _in_main_thread() -> bool:
    return threading.current_thread() is threading.main_thread()


def _cause(error: Any, processes: int) -> Exception:
    rank, failure = error.get_first_failure()
    if failure.exitcode < 0:
        name = failure.signal_name()
        memory = ", as the system does when memory runs out" if name == "SIGKILL" else ""
        return ProcessEnded(
            f"process {rank} of {processes} was killed ({name}{memory}) and the others stopped."
        )
    told = failure.message if isinstance(failure.message, dict) else {"message": failure.message}
    name, _, sentence = told["message"].partition(": ")
    kind = ProcessEnded if name == ProcessEnded.__name__ else getattr(_checks, name, None)
    if isinstance(kind, type) and issubclass(kind, OffdiagError):
        return kind(sentence)
    stack = told.get("extraInfo", {}).get("py_callstack", told["message"])
    return RuntimeError(f"process {rank} of {processes} failed:\n{stack}")


@contextmanager
def peers_may_end(place: Place) -> Iterator[None]:
    """Turn what torch.distributed says when another process is gone into a sentence."""
    try:
        yield
    except RuntimeError as error:
        if place.size == 1 or not _says_that_a_peer_is_gone(error):
            raise
        # Whoever started us knows which process it was, and stops us while we wait.
        time.sleep(GRACE_SECONDS)
        raise ProcessEnded("another process of this run ended, so this one stopped too.") from error


def _says_that_a_peer_is_gone(error: RuntimeError) -> bool:
    return isinstance(error, dist.DistError) or "gloo" in str(error)


def first_to_speak() -> bool:
    """Whether no other process of this run has asked before: one sentence is enough for all."""
    place = Place.here()
    if place.size == 1:
        return True
    try:
        store = dist.TCPStore(  # type: ignore[attr-defined]
            os.environ["MASTER_ADDR"],
            int(os.environ["MASTER_PORT"]),
            is_master=False,
            timeout=timedelta(seconds=10),
        )
        key = f"offdiag/spoken/{os.environ.get('TORCHELASTIC_RESTART_COUNT', 0)}"
        return store.add(key, 1) == 1
    except RuntimeError:  # the store is gone with whoever held it
        return place.local_rank == 0
