"""How this library has Numba compile. Imported only by the files that are compiled."""

from collections.abc import Callable
from typing import Any, cast

from numba import njit

# Sums may be reordered and fused; nan and infinity keep their meaning.
FASTMATH = {"contract", "reassoc", "nsz", "arcp"}


def compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    """Compile on the first call, keep the machine code on disk, and release the GIL."""
    compile_on_call = njit(cache=True, nogil=True, error_model="numpy", fastmath=FASTMATH)
    return cast(Callable[..., Any], compile_on_call(function))
