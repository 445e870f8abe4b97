"""How this library has Numba compile. Imported only by the files that are compiled."""

from collections.abc import Callable
from typing import Any, cast

from numba import njit

# Sums may be reordered and fused; nan and infinity keep their meaning.
FASTMATH = {"contract", "reassoc", "nsz", "arcp"}


def compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    """Compile on the first call, keep the machine code on disk, and release the GIL.

    Fast, and not the same to the last bit in the process that compiles and in one that finds
    the code on disk: they may link differently optimised copies of one function.
    """
    return _compile(function, fastmath=FASTMATH)


def compiled_exactly(function: Callable[..., Any]) -> Callable[..., Any]:
    """The same with every operation as it is written: the same bits in every process."""
    return _compile(function, fastmath=False)


def _compile(function: Callable[..., Any], *, fastmath: set[str] | bool) -> Callable[..., Any]:
    compile_on_call = njit(cache=True, nogil=True, error_model="numpy", fastmath=fastmath)
    return cast(Callable[..., Any], compile_on_call(function))
