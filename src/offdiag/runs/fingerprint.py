"""Is this still the same run: the same samples in the same splits, the same method?"""

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from offdiag._checks import DataError, RunError
from offdiag.data.data import Data
from offdiag.data.dataset import Dataset, ImageSource, Source, Splits, in_order
from offdiag.data.folder import FolderStream
from offdiag.data.nest import leaves
from offdiag.methods.method import AbstractMethod

ROWS_PER_READ = 8192


def fingerprint(data: Data | Splits) -> dict[str, str]:
    """For each split its number of samples, their shape, and a digest of what they are.

    The digest is of the values and labels of the samples, and of streamed files only of the
    names and labels: reading those again would take an epoch. The samples of a source of your
    own are read once, in order: they must be the same at each reading.
    """
    digests = {"pretrain": _digest(data.pretrain)}
    if data.train is not None:
        same = data.train is data.pretrain
        digests["train"] = digests["pretrain"] if same else _digest(data.train)
    if data.test is not None:
        digests["test"] = _digest(data.test)
    return digests


def refuse_other_images(saved: dict[str, str], now: dict[str, str], directory: Path) -> None:
    """RunError if the fingerprint `now` is not the one that the run began with.

    A changed folder is split anew, and images held out then may have been trained on.
    """
    for name in saved.keys() | now.keys():
        if saved.get(name) != now.get(name):
            raise RunError(
                f"the samples are not those that {directory} was trained on: its {name} samples "
                f"were {saved.get(name)}, and are {now.get(name)}. Restore them, or start a new "
                "run."
            )


def name_of(method: AbstractMethod) -> str:
    """The method's class with its module."""
    return f"{type(method).__module__}.{type(method).__qualname__}"


def refuse_other_method(saved: str, method: AbstractMethod, directory: Path) -> None:
    """RunError if the run was trained by another class of method."""
    if saved != name_of(method):
        raise RunError(
            f"{directory} was trained by {saved}, not by {name_of(method)}: give the method that "
            "the run was started with."
        )


def shape_of(source: Source) -> Any:
    """The shape of one sample: of an image channels, height and width; None if it is not known."""
    return source.image_shape if isinstance(source, ImageSource) else getattr(source, "shape", None)


def _digest(source: Source) -> str:
    digest = hashlib.sha256()
    if source.labels is not None:
        digest.update(source.labels.cpu().numpy().astype(np.int64).data)
    if isinstance(source, FolderStream):
        # The last three parts: a folder that has moved is the same folder.
        digest.update("\n".join("/".join(p.parts[-3:]) for p in source.files.paths).encode())
    elif isinstance(source, Dataset):
        digest.update(source.images.cpu().contiguous().numpy().data)
    else:
        for samples, _ in in_order(source, batch_size=ROWS_PER_READ):
            for leaf in leaves(samples):
                _update(digest, leaf)
    return f"{len(source)} x {shape_of(source)} ({digest.hexdigest()[:12]})"


def _update(digest: Any, leaf: Any) -> None:
    if not isinstance(leaf, Tensor):
        raise DataError(
            f"a batch holds a {type(leaf).__name__}, of which no fingerprint can be taken: make "
            "it of tensors, in tuples or dicts."
        )
    digest.update(f"{leaf.dtype} {tuple(leaf.shape[1:])}".encode())
    values = leaf.detach().cpu().contiguous().flatten()
    digest.update(values.view(torch.uint8).numpy().data)  # bfloat16 has no type in NumPy
