"""How this library has Numba compile. Imported only by the files that are compiled."""

import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

from numba import njit
from numba.core import config

# Sums may be reordered and fused; nan and infinity keep their meaning.
FASTMATH = {"contract", "reassoc", "nsz", "arcp"}


def compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    """Compile on the first call, keep the machine code on disk, and release the GIL.

    The code is kept in NUMBA_CACHE_DIR if that is set, else beside the source, in the user's
    cache folder (XDG_CACHE_HOME), in a folder of our own among the temporary files, or, where
    none of these can be written, nowhere: it is then compiled anew in every process.

    Fast, and not the same to the last bit in the process that compiles and in one that finds
    the code on disk: they may link differently optimised copies of one function.
    """
    return _compile(function, fastmath=FASTMATH)


def compiled_exactly(function: Callable[..., Any]) -> Callable[..., Any]:
    """The same with every operation as it is written: the same bits in every process."""
    return _compile(function, fastmath=False)


_CONFIG: Any = config  # numba sets its attributes as it loads


def _compile(function: Callable[..., Any], *, fastmath: set[str] | bool) -> Callable[..., Any]:
    def compile_on_call(*, cache: bool) -> Callable[..., Any]:
        decorate = njit(cache=cache, nogil=True, error_model="numpy", fastmath=fastmath)
        return cast(Callable[..., Any], decorate(function))

    try:
        return compile_on_call(cache=True)
    except RuntimeError:  # Numba found no folder that it can write to
        pass
    kept, own = _CONFIG.CACHE_DIR, _own_temporary_folder()
    if own is not None:
        _CONFIG.CACHE_DIR = str(own)  # read only while the function is decorated
        try:
            return compile_on_call(cache=True)
        except RuntimeError:
            pass
        finally:
            _CONFIG.CACHE_DIR = kept
    return compile_on_call(cache=False)


def _own_temporary_folder() -> Path | None:
    """A folder that nobody else can write to: what lies in a cache is loaded and run."""
    if not hasattr(os, "getuid"):
        return None
    folder = Path(tempfile.gettempdir()) / f"offdiag-numba-{os.getuid()}"
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
        about = folder.lstat()
    except OSError:
        return None
    ours = about.st_uid == os.getuid() and about.st_mode & 0o077 == 0 and not folder.is_symlink()
    return folder if ours else None
