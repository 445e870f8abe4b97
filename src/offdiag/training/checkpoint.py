"""Checkpoints that appear whole or not at all, and are never unpickled."""

import io
import pickle
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from offdiag._checks import RunError
from offdiag._files import write_whole

CHECKPOINT_FILE = "checkpoint.pt"
FORMAT = 1


def save_checkpoint(directory: Path, state: Mapping[str, Any]) -> None:
    """Write `state` (tensors and plain values) as the directory's one checkpoint."""
    # Through memory: torch's own writer turns a full disk into an opaque RuntimeError.
    buffer = io.BytesIO()
    torch.save({"format": FORMAT, **state}, buffer)
    write_whole(directory / CHECKPOINT_FILE, buffer.getvalue())


def load_checkpoint(directory: Path, *, device: torch.device | str = "cpu") -> dict[str, Any]:
    """Read the directory's checkpoint; RunError if there is none or it is not ours."""
    path = directory / CHECKPOINT_FILE
    try:
        with warnings.catch_warnings():  # torch comments on files that it then refuses
            warnings.simplefilter("ignore")
            state = torch.load(path, map_location=device, weights_only=True)
        known = state["format"]
    except FileNotFoundError:
        raise RunError(
            f"{directory} has no {CHECKPOINT_FILE}: the run ended before its first checkpoint. "
            "Start it anew in another directory."
        ) from None
    except (
        RuntimeError,
        pickle.UnpicklingError,
        EOFError,
        KeyError,
        TypeError,
        ValueError,
        OSError,
    ) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise RunError(
            f"{path} cannot be read as a checkpoint of offdiag ({reason}): "
            "it was cut short or written by something else. Restore it or start anew."
        ) from error
    if known != FORMAT:
        raise RunError(
            f"{path} has format {known}, this version of offdiag reads {FORMAT}: "
            "use the version that wrote it."
        )
    return dict(state)
