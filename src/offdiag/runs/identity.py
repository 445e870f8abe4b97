"""Is this still the same run: the same images in the same splits, the same method?"""

import hashlib
from pathlib import Path

import numpy as np

from offdiag._checks import RunError
from offdiag.data.dataset import Dataset, Source, Splits
from offdiag.data.folder import FolderStream
from offdiag.methods.method import AbstractMethod


def fingerprint(splits: Splits) -> dict[str, str]:
    """For each split its number of images, their shape, and a digest of what they are.

    The digest is of the pixels and labels of images in memory, and of the names and
    labels of streamed files: reading those again would take an epoch.
    """
    told = {"pretrain": _told(splits.pretrain)}
    if splits.train is not None:
        same = splits.train is splits.pretrain
        told["train"] = told["pretrain"] if same else _told(splits.train)
    if splits.test is not None:
        told["test"] = _told(splits.test)
    return told


def refuse_other_images(saved: dict[str, str], now: dict[str, str], directory: Path) -> None:
    """RunError if the fingerprint `now` is not the one that the run began with.

    A changed folder is split anew, and images held out then may have been trained on.
    """
    for name in saved.keys() | now.keys():
        if saved.get(name) != now.get(name):
            raise RunError(
                f"the images are not those that {directory} was trained on: its {name} images were "
                f"{saved.get(name)}, and are {now.get(name)}. Restore them, or start a new run."
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


def _told(source: Source) -> str:
    digest = hashlib.sha256()
    if source.labels is not None:
        digest.update(source.labels.cpu().numpy().astype(np.int64).data)
    if isinstance(source, Dataset):
        digest.update(source.images.cpu().contiguous().numpy().data)
    elif isinstance(source, FolderStream):
        # The last three parts: a folder that has moved is the same folder.
        digest.update("\n".join("/".join(p.parts[-3:]) for p in source.files.paths).encode())
    return f"{len(source)} x {source.image_shape} ({digest.hexdigest()[:12]})"
