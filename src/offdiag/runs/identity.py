"""The home of fingerprints in the first version: see `offdiag.runs.fingerprint`."""

import warnings
from typing import Any

from offdiag.runs import fingerprint as _fingerprint


def __getattr__(name: str) -> Any:
    if name.startswith("_") or not hasattr(_fingerprint, name):
        raise AttributeError(f"module 'offdiag.runs.identity' has no attribute {name!r}")
    warnings.warn(
        "offdiag.runs.identity is offdiag.runs.fingerprint now.", DeprecationWarning, stacklevel=2
    )
    return getattr(_fingerprint, name)
