"""How much memory a run holds, and what is said when there is no more."""

import math
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec

import torch

from offdiag._checks import RunError

NO_MEMORY = ("out of memory", "can't allocate memory", "not enough memory")
"""Words of torch's allocators, on accelerators and CPUs, as they give up."""


@contextmanager
def memory_may_run_out() -> Iterator[None]:
    """Turn torch's and the system's refusal of memory into a RunError that says what to do."""
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        told = str(error)
        if not isinstance(error, MemoryError) and not any(word in told for word in NO_MEMORY):
            raise
        size = re.search(r"to allocate ([\d.]+ \w+)", told)
        raise RunError(
            f"memory ran out{f' when {size[1]} more were asked for' if size else ''}: lower "
            "--batch-size or the widths of the projector, or stream the images (--stream True)."
        ) from error


def start_peak(device: torch.device) -> None:
    """Forget what earlier runs of this process held on the device."""
    # Before CUDA is initialised nothing was held, and torch refuses: "Invalid device argument".
    if device.type == "cuda" and torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
        torch.cuda.reset_peak_memory_stats(device)


def peak_memory_gib(device: torch.device) -> float:
    """The most memory held so far: by torch on a CUDA device, elsewhere by this process.

    On a CPU that includes what earlier runs of the same process held. Nan where the system
    does not tell. Decoding workers are processes of their own and not counted.
    """
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**30
    if find_spec("resource") is None:  # Windows
        return math.nan
    import resource

    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most / (2**30 if sys.platform == "darwin" else 2**20)
