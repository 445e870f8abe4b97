"""A folder of images, with or without labels: in memory, or streamed when it is too large."""

import logging
import os
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, replace
from pathlib import Path

import joblib
import numpy as np
import torch
from jaxtyping import UInt8
from loky import get_reusable_executor

from offdiag._checks import ConfigError, DataError, choice
from offdiag._types import Images, Labels
from offdiag.data.dataset import Dataset, ImageSource, Rows, Source, Splits, hold_out
from offdiag.data.decode import (
    EXTENSIONS,
    MODES,
    CorruptImage,
    Form,
    decode,
    decode_many,
    end_with,
)

TEST_NAMES = ("test", "val", "valid", "validation")
FILES_PER_TASK = 512  # while reading into memory
BATCHES_AHEAD = 2  # while streaming, beyond the batch in use
FEW_FILES = 32  # not worth starting processes for
IDLE_SECONDS = 300  # then waiting worker processes end by themselves; started again if needed

log = logging.getLogger(__name__)

Decoded = tuple[UInt8[np.ndarray, "files channels height width"], list[tuple[int, DataError]]]


@dataclass(frozen=True, kw_only=True)
class ImageFiles:
    """Paths in a fixed order, and the class of each if the folder has classes."""

    name: str
    paths: tuple[Path, ...]
    labels: Labels | None
    classes: tuple[str, ...]

    def subset(self, rows: Rows) -> "ImageFiles":
        paths = tuple(self.paths[row] for row in rows.tolist())
        return replace(
            self, paths=paths, labels=None if self.labels is None else self.labels[rows.cpu()]
        )


def image_folder(
    path: Path | str,
    *,
    image_size: int | None = None,
    channels: str | None = None,
    labelled: bool | None = None,
    skip_corrupt: bool = False,
    stream: bool | None = None,
    memory_limit_bytes: int | None = None,
    workers: int | None = None,
) -> Splits:
    """The images below `path`, in order of their names.

    If `path` holds train/ and test/ (or val/), these are the splits. Otherwise a
    folder with classes lends a fixed fifth of every class to evaluation. Classes are
    sub-folders: `labelled` says whether to take them so; None takes them so when
    every image lies exactly one level down, in at least two sub-folders.

    Sizes and modes must agree unless `image_size` and `channels` say what to make of
    them (see `Form`). A corrupt file is an error that names it; with
    `skip_corrupt` it is left out, logged and listed in `skipped`.

    Folders whose decoded images exceed `memory_limit_bytes` (default: a quarter of
    the machine's memory) are streamed, decoded again in every epoch; `stream`
    forces either. `workers` processes decode (default: one per core, or none for a
    handful of files).
    """
    root = Path(path).expanduser()
    if not root.exists():
        raise DataError(f"{root} does not exist: give a folder of images.")
    if not root.is_dir():
        raise DataError(f"{root} is a file: give the folder that holds the images.")
    if channels is not None:
        choice("channels", channels, MODES)
    if image_size is not None and image_size < 1:
        raise ConfigError(f"the image size must be at least 1 pixel; got {image_size}.")

    test_name = next((name for name in TEST_NAMES if (root / name).is_dir()), None)
    test: ImageFiles | None = None
    if (root / "train").is_dir() and test_name is not None:
        train = list_images(root / "train", labelled=labelled)
        if train.labels is not None:
            test = _same_classes(list_images(root / test_name, labelled=True), train)
    else:
        train = list_images(root, labelled=labelled)
        if train.labels is not None:
            learn, score = _hold_out(train)
            train, test = train.subset(learn), train.subset(score)
    train, test = replace(train, name=root.name), test and replace(test, name=root.name)

    form = probe(train, Form(image_size=image_size, channels=channels), skip_corrupt=skip_corrupt)
    assert form.shape is not None
    count = len(train.paths) + (0 if test is None else len(test.paths))
    if stream is None:
        limit = memory_bytes() // 4 if memory_limit_bytes is None else memory_limit_bytes
        stream = count * int(np.prod(form.shape)) > limit
    if workers is None:
        # torchrun's word for the processes here that share one run, and so the cores
        sharing = int(os.environ.get("LOCAL_WORLD_SIZE", 1))
        workers = 0 if count <= FEW_FILES else max(1, joblib.cpu_count() // sharing)

    def source(files: ImageFiles) -> Source:
        if stream:
            return FolderStream(files, form, skip_corrupt=skip_corrupt, workers=workers)
        return read_into_memory(files, form, skip_corrupt=skip_corrupt, workers=workers)

    pretrain = source(train)
    if test is None:
        return Splits(pretrain=pretrain, train=None, test=None)
    return Splits(pretrain=pretrain, train=pretrain, test=source(test))


def list_images(root: Path, *, labelled: bool | None = None) -> ImageFiles:
    """Find the image files below `root`, hidden ones left out, links followed once."""
    found: list[Path] = []
    folders = {root.resolve()}
    for here, below, names in os.walk(root, followlinks=True, onerror=_refuse):
        below[:] = sorted(
            name
            for name in below
            if not name.startswith(".") and (Path(here) / name).resolve() not in folders
        )
        folders.update((Path(here) / name).resolve() for name in below)
        found += [
            Path(here, name)
            for name in sorted(names)
            if not name.startswith(".") and name.lower().endswith(EXTENSIONS)
        ]
    if not found:
        raise DataError(
            f"{root} holds no image: looked for files ending in {' '.join(EXTENSIONS)}."
        )
    found.sort(key=lambda file: file.relative_to(root).parts)

    parts = [file.relative_to(root).parts for file in found]
    tops = sorted({part[0] for part in parts if len(part) > 1})
    if labelled is None:
        labelled = len(tops) > 1 and all(len(part) == 2 for part in parts)
    if not labelled:
        return ImageFiles(name=root.name, paths=tuple(found), labels=None, classes=())

    stray = next((file for file, part in zip(found, parts, strict=True) if len(part) == 1), None)
    if stray is not None:
        raise DataError(
            f"{stray} lies in no class: move it into a sub-folder named for its class, or read "
            "the folder without labels."
        )
    empty = {item.name for item in root.iterdir() if item.is_dir() and item.name[0] != "."}
    for name in sorted(empty - set(tops)):
        raise DataError(
            f"{root / name} holds no image: fill or remove it, or read the folder without labels."
        )
    place = {name: label for label, name in enumerate(tops)}
    labels = torch.tensor([place[part[0]] for part in parts])
    return ImageFiles(name=root.name, paths=tuple(found), labels=labels, classes=tuple(tops))


def probe(files: ImageFiles, form: Form, *, skip_corrupt: bool) -> Form:
    """Complete `form` by the shape of the first file, or of the first that can be read."""
    for path in files.paths:
        try:
            channels, height, width = decode(path, form).shape
            return replace(form, shape=(channels, height, width), witness=str(path))
        except CorruptImage:
            if not skip_corrupt:
                raise
    raise DataError(f"none of the {len(files.paths)} files of {files.name} can be decoded.")


def read_into_memory(files: ImageFiles, form: Form, *, skip_corrupt: bool, workers: int) -> Dataset:
    """Decode all files; those that cannot be are left out if `skip_corrupt`."""
    assert form.shape is not None
    images = torch.empty((len(files.paths), *form.shape), dtype=torch.uint8)
    keep = torch.ones(len(files.paths), dtype=torch.bool)
    skipped: dict[str, None] = {}
    done = 0
    every = FILES_PER_TASK * max(1, workers)
    batches = (files.paths[start : start + every] for start in range(0, len(files.paths), every))
    for decoded, faults in decode_ahead(batches, form, workers=workers):
        for place, fault in faults:
            _skip_or_raise(fault, skip_corrupt, skipped)
            keep[done + place] = False
        images[done : done + len(decoded)] = torch.from_numpy(decoded)
        done += len(decoded)
    dataset = Dataset(images=images, labels=files.labels, classes=files.classes, name=files.name)
    if keep.all():
        return dataset
    return replace(dataset.subset(torch.nonzero(keep)[:, 0]), skipped=tuple(skipped))


class FolderStream(ImageSource):
    """Images that are decoded when they are read, in worker processes.

    At most three batches are in memory at a time. With `skip_corrupt` the place
    of a file that cannot be decoded is taken by the next readable one in the order
    of names, so that batches keep their size and a resumed run its order; the file
    is logged once and listed in `skipped`.
    """

    def __init__(
        self,
        files: ImageFiles,
        form: Form,
        *,
        skip_corrupt: bool = False,
        workers: int = 1,
        device: torch.device | str = "cpu",
        skipped: dict[str, None] | None = None,
    ) -> None:
        assert form.shape is not None
        self.files, self.form = files, form
        self.skip_corrupt, self.workers = skip_corrupt, workers
        self.device = torch.device(device)
        self.name, self.classes = files.name, files.classes
        self.labels = None if files.labels is None else files.labels.to(device)
        self._image_shape = form.shape
        self._skipped = {} if skipped is None else skipped  # shared by all made from this one

    @property
    def image_shape(self) -> tuple[int, int, int]:
        return self._image_shape

    @property
    def skipped(self) -> tuple[str, ...]:
        return tuple(self._skipped)

    def __len__(self) -> int:
        return len(self.files.paths)

    def to(self, device: torch.device | str) -> "FolderStream":
        return self._like(self.files, device)

    def subset(self, rows: Rows) -> "FolderStream":
        return self._like(self.files.subset(rows), self.device)

    def read(self, batches: Iterable[Rows]) -> Iterator[tuple[Images, Labels | None]]:
        asked: deque[list[int]] = deque()

        def paths() -> Iterator[list[Path]]:
            for rows in batches:
                asked.append(rows.tolist())
                yield [self.files.paths[row] for row in asked[-1]]

        for decoded, faults in decode_ahead(paths(), self.form, workers=self.workers):
            rows = asked.popleft()
            for place, fault in faults:
                _skip_or_raise(fault, self.skip_corrupt, self._skipped)
                rows[place], decoded[place] = self._next_readable(rows[place])
            images = torch.from_numpy(decoded).to(self.device)
            yield images, None if self.labels is None else self.labels[rows]

    def _next_readable(self, row: int) -> tuple[int, UInt8[np.ndarray, "channels height width"]]:
        for step in range(1, len(self)):
            other = (row + step) % len(self)
            try:
                return other, decode(self.files.paths[other], self.form)
            except CorruptImage as fault:
                _skip_or_raise(fault, self.skip_corrupt, self._skipped)
        raise DataError(f"none of the {len(self)} files of {self.name} can be decoded.")

    def _like(self, files: ImageFiles, device: torch.device | str) -> "FolderStream":
        return FolderStream(
            files,
            self.form,
            skip_corrupt=self.skip_corrupt,
            workers=self.workers,
            device=device,
            skipped=self._skipped,
        )


def decode_ahead(
    batches: Iterable[Sequence[Path]], form: Form, *, workers: int
) -> Iterator[Decoded]:
    """Decode each batch, shared among all workers, keeping a few batches ahead of the reader.

    The workers are loky's: started afresh rather than forked, so neither CUDA nor a
    thread that holds a lock can hurt them, and a script needs no main guard. (Not the
    copy inside joblib: its one shared pool belongs to joblib's own calls.)
    """
    if workers == 0:
        for batch in batches:
            yield decode_many(batch, form)
        return
    pool = get_reusable_executor(
        max_workers=workers, timeout=IDLE_SECONDS, initializer=end_with, initargs=(os.getpid(),)
    )
    waiting: deque[list[Future[Decoded]]] = deque()
    try:
        for batch in batches:
            share = -(-len(batch) // workers)
            tasks = [batch[start : start + share] for start in range(0, len(batch), share)]
            waiting.append([pool.submit(decode_many, task, form) for task in tasks])
            if len(waiting) > BATCHES_AHEAD:
                yield _joined(waiting.popleft())
        while waiting:
            yield _joined(waiting.popleft())
    except BrokenProcessPool:
        raise DataError(
            "a process that decodes images was ended from outside, perhaps for lack of memory: "
            "lower the batch size or the number of workers."
        ) from None
    finally:
        for futures in waiting:
            for future in futures:
                future.cancel()


def memory_bytes() -> int:
    """Physical memory of this machine."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def _joined(tasks: list[Future[Decoded]]) -> Decoded:
    parts = [task.result() for task in tasks]
    starts = np.cumsum([0, *(len(images) for images, _ in parts)])
    faults = [
        (int(start) + place, fault)
        for start, (_, found) in zip(starts, parts, strict=False)
        for place, fault in found
    ]
    return np.concatenate([images for images, _ in parts]), faults


def _skip_or_raise(fault: DataError, skip_corrupt: bool, skipped: dict[str, None]) -> None:
    if not (skip_corrupt and isinstance(fault, CorruptImage)):
        raise fault
    if str(fault.path) not in skipped:
        log.warning("skipped: %s", fault)
        skipped[str(fault.path)] = None


def _same_classes(test: ImageFiles, train: ImageFiles) -> ImageFiles:
    """The test files with their labels counted as the training set counts its classes."""
    assert test.labels is not None
    strange = sorted(set(test.classes) - set(train.classes))
    if strange:
        raise DataError(
            f"class {strange[0]!r} of {test.paths[0].parent.parent} is not in the training "
            f"folder, which has {', '.join(train.classes)}: rename or remove it."
        )
    place = torch.tensor([train.classes.index(name) for name in test.classes])
    return replace(test, labels=place[test.labels], classes=train.classes)


def _hold_out(files: ImageFiles) -> tuple[Rows, Rows]:
    assert files.labels is not None
    counts = torch.bincount(files.labels)
    if counts.min() < 2:
        alone = files.classes[int(counts.argmin())]
        raise DataError(
            f"class {alone!r} has a single image, but evaluation holds one out: add images, or "
            "read the folder without labels."
        )
    return hold_out(files.labels)


def _refuse(error: OSError) -> None:
    raise DataError(
        f"{error.filename} cannot be listed ({error.strerror}): change its permissions or "
        "remove it."
    )
