"""The old name of `offdiag.runs.fingerprint`."""

import warnings

from offdiag.runs.fingerprint import (
    fingerprint,
    name_of,
    refuse_other_images,
    refuse_other_method,
)

__all__ = ["fingerprint", "name_of", "refuse_other_images", "refuse_other_method"]

warnings.warn(
    "offdiag.runs.identity is offdiag.runs.fingerprint now.", DeprecationWarning, stacklevel=2
)
