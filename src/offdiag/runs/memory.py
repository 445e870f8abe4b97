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
def memory_may_run_out(batch_size: int | None = None) -> Iterator[None]:
    """Turn torch's and the system's refusal of memory into a RunError that says what to do.

    Where a card has said how much it has and `batch_size` is known, that is a batch that fits.
    """
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
            f"{_what_fits(told, batch_size)}"
        ) from error


UNITS = {"KiB": 2**10, "MiB": 2**20, "GiB": 2**30}
USED_SHARE = 0.9  # of what is there: pieces of memory cannot all be used


def _what_fits(told: str, batch_size: int | None) -> str:
    """A sentence with the halved batch that probably fits, by the numbers in CUDA's refusal."""

    def bytes_after(words: str) -> float | None:
        found = re.search(words + r" ([\d.]+) ([KMG]iB)", told)
        return None if found is None else float(found[1]) * UNITS[found[2]]

    asked, free, held = (
        bytes_after(words)
        for words in ("allocate", "capacity of [^ ]+ [KMG]iB of which", "this process has")
    )
    if batch_size is None or asked is None or free is None or held is None:
        return ""
    # Nearly all that a run holds grows with the batch; it had not come to its peak yet.
    share = USED_SHARE * (free + held) / (asked + held)
    fits = batch_size
    while fits > 2 and fits > share * batch_size:
        fits //= 2
    return f" --batch-size {fits} would probably fit."


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
