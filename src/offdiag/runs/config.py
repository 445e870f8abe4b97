"""The settings of one complete run, checked when they are built.

Names choose the parts of the method, `settings` holds what is set of each part, and the rest
belongs to data, optimisation, machine and record. Nothing here loads torch.
"""

import dataclasses
import re
import warnings
from collections.abc import Mapping
from dataclasses import InitVar, dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Any

import tyro

from offdiag._checks import ConfigError, at_least, choice, within
from offdiag.registry import (
    ENCODERS,
    HEADS,
    METHODS,
    NORMALISERS,
    OPTIMIZERS,
    PARTS,
    PROJECTORS,
    REGULARISERS,
    SCHEDULES,
    TRANSFORMS,
    checked_settings,
    find,
)

DEVICES = ("auto", "cpu", "cuda", "mps")
PRECISIONS = ("auto", "32-true", "bf16-mixed", "16-mixed")
AUTO = "auto"
"""A part that the method chooses itself."""
OWN = "own"
"""Data or an encoder that were given as objects: no name finds them again."""
NONE = "none"
"""No such part: of what a method may do without."""
METHOD_PARTS = ("head", "normaliser", "transform", "regulariser")
"""Parts that only some methods take."""
FIELD_OF = {"projector": "projector_kind"}
"""Where a part's name is not the name of its field."""
NOT_OF_OWN = ("method", *METHOD_PARTS, "encoder", "projector", "projector_kind", "settings")
"""Settings that say nothing of a run whose method was given as an object."""
MOVED = ("momentum", "stop_gradient")
"""Settings of the method that were fields of their own in the first version."""


OWN_FILE = re.compile(r".+\.py(:\w*)?")
"""Data from a Python file: FILE.py:FUNCTION."""


def is_own_file(data: str) -> bool:
    """Whether data are given as a Python file, and perhaps a function in it."""
    return OWN_FILE.fullmatch(data) is not None


def _names(names: Any) -> Any:
    return tyro.conf.arg(metavar="{" + ",".join(names) + "}")


@dataclass(frozen=True, kw_only=True)
class RunConfig:
    """What to train, on what, and how."""

    # data
    data: str = "digits"
    """A set of `offdiag list data`; folder:PATH (images, with classes as sub-folders or without);
    or FILE.py:FUNCTION, a function of yours that returns an offdiag.Data."""
    data_root: Path = Path("data")
    """Where torchvision keeps its data sets."""
    download: bool = False
    """Let torchvision fetch a data set that is not there."""
    image_size: int | None = None
    """Folder: resize the shorter side to this many pixels and crop the centre."""
    channels: Annotated[str | None, _names(("rgb", "gray"))] = None
    """Folder: convert every image."""
    skip_corrupt: bool = False
    """Folder: leave out images that cannot be read instead of stopping."""
    stream: bool | None = None
    """Folder: decode batch by batch instead of holding it in memory; None decides by size."""
    workers: int | None = None
    """Folder: processes that decode images; None takes one for each core."""
    views: str = "auto"
    """The recipe of augmentations by name; auto takes the data set's."""

    # method
    method: Annotated[str, _names(METHODS)] = "simsiam"
    """How the views make a loss: `offdiag list methods` says what each is."""
    head: Annotated[str, _names((AUTO, *HEADS))] = AUTO
    """The prediction head, for methods that have one; auto takes the method's own."""
    normaliser: Annotated[str, _names((AUTO, *NORMALISERS))] = AUTO
    """What prediction and target go through before they are compared."""
    transform: Annotated[str, _names((AUTO, NONE, *TRANSFORMS))] = AUTO
    """What the target goes through besides."""
    regulariser: Annotated[str, _names((AUTO, NONE, *REGULARISERS))] = AUTO
    """A term that is added to the method's loss."""
    encoder: Annotated[str, _names(ENCODERS)] = "small"
    """The network; the -imagenet ones keep the 7x7 stem and max-pool."""
    projector: tuple[int, ...] = (256, 64)
    """Widths of the projector's layers; the last is the width of projection and head."""
    projector_kind: Annotated[str, _names(PROJECTORS)] = "mlp"
    """What the projector's layers are."""
    settings: Annotated[Mapping[str, Mapping[str, Any]], tyro.conf.Suppress] = field(
        default_factory=dict
    )
    """What is set of the parts: {"method": {"variance": 10.0}, "head": {"floor": 0.1}}."""
    momentum: InitVar[float | None] = None
    stop_gradient: InitVar[str | None] = None

    # optimisation
    epochs: int = 100
    batch_size: int = 256
    optimizer: Annotated[str, _names(OPTIMIZERS)] = "adam"
    lr: float = 3e-3
    """Learning rate as it is: not scaled by the batch size."""
    weight_decay: float = 1e-6
    """Not applied to biases and BatchNorm."""
    head_lr_ratio: float = 1.0
    """The head's learning rate over the encoder's: rho in the theory."""
    head_lr_decay: bool = True
    """Whether the head's rate follows the schedule down."""
    schedule: Annotated[str, _names(SCHEDULES)] = "cosine"
    milestones: tuple[float, ...] = (0.75, 0.875)
    """steps: shares of training at which the rate drops to a fifth."""
    warmup_steps: int = 0
    seed: int = 0

    # machine
    device: Annotated[str, _names(DEVICES)] = "auto"
    precision: Annotated[str, _names(PRECISIONS)] = "auto"
    """auto is bf16-mixed with channels-last on a card that has bfloat16, else 32-true."""
    channels_last: bool = False
    compile: bool = False
    """torch.compile the method."""

    # record
    read_every: int | None = None
    """Epochs between readings; by default such that there are about a hundred."""
    checkpoint_seconds: float = 30.0
    """Least time between checkpoints; 0 writes one at each step."""
    tensorboard: bool = False
    """Also write TensorBoard event files into the run directory."""

    def __post_init__(self, momentum: float | None, stop_gradient: str | None) -> None:
        self._take_moved({"momentum": momentum, "stop_gradient": stop_gradient})
        choice("method", self.method, METHODS)
        if self.encoder != OWN:
            choice("encoder", self.encoder, ENCODERS)
        choice("projector", self.projector_kind, PROJECTORS)
        self._check_parts()
        choice("optimiser", self.optimizer, OPTIMIZERS)
        choice("schedule", self.schedule, SCHEDULES)
        choice("device", self.device, DEVICES)
        choice("precision", self.precision, PRECISIONS)
        at_least("the number of epochs", self.epochs, 1)
        at_least("the batch size", self.batch_size, 2)
        for what, value in (
            ("the learning rate", self.lr),
            ("the weight decay", self.weight_decay),
            ("the head's learning-rate ratio", self.head_lr_ratio),
            ("the number of warm-up steps", self.warmup_steps),
            ("the time between checkpoints", self.checkpoint_seconds),
        ):
            at_least(what, value, 0)
        within("the seed", self.seed, 0, 2**63 - 1)
        if self.workers is not None:
            at_least("the number of decoding workers", self.workers, 0)
        if self.tensorboard and find_spec("tensorboard") is None:
            raise ConfigError("--tensorboard needs tensorboard: install offdiag[tracking].")
        if self.read_every is not None:
            at_least("the number of epochs between readings", self.read_every, 1)
        if not self.projector:
            raise ConfigError("the projector needs at least one width; got none.")
        for width in self.projector:
            at_least("a projector width", width, 1)

    @property
    def parts(self) -> dict[str, str]:
        """The name of every part of the method, encoder and projector, as it becomes.

        An encoder of your own has no name and is left out.
        """
        row = find("method", self.method)
        chosen = {"method": self.method}
        for kind, default in row.parts.items():
            name = getattr(self, kind, AUTO)
            name = default if name == AUTO else name
            if name and (name != NONE or name in PARTS[kind]):
                chosen[kind] = name
        chosen["projector"] = self.projector_kind
        return chosen if self.encoder == OWN else {**chosen, "encoder": self.encoder}

    def settings_of(self, kind: str) -> dict[str, Any]:
        """What is set of one part, with the defaults of what is not; loads the part."""
        name = self.parts[kind]
        defaults = {setting.name: setting.default for setting in find(kind, name).settings}
        given = self.settings.get(kind, {})
        if kind == "method" and "objective" in self.parts:
            return defaults  # they are the objective's
        if kind == "objective":
            given = self.settings.get("method", {})
        return defaults | checked_settings(kind, name, given)

    def _check_parts(self) -> None:
        takes = find("method", self.method).parts
        for kind in METHOD_PARTS:
            name = getattr(self, kind)
            if name == AUTO:
                continue
            if kind in takes and not takes[kind]:
                choice(kind, name, (NONE, *PARTS[kind]))
            else:
                choice(kind, name, PARTS[kind])
            if kind not in takes:
                own = ", ".join(takes) or "none"
                raise ConfigError(
                    f"{self.method} has no {kind}, so it cannot be {name!r}: leave --{kind} out, "
                    f"or choose a method that has one (the parts of {self.method}: {own})."
                )
        parts = self.parts
        for kind, given in self.settings.items():
            if given and kind not in parts:
                raise ConfigError(
                    f"{self.method} has no {kind}, so {', '.join(given)} of it cannot be set."
                )
        for kind in parts:
            if self.settings.get(kind):
                self.settings_of("objective" if self._objective_owns(kind) else kind)

    def _objective_owns(self, kind: str) -> bool:
        return kind == "method" and "objective" in self.parts

    def _take_moved(self, given: Mapping[str, Any]) -> None:
        moved = {name: value for name, value in given.items() if value is not None}
        if moved:
            warnings.warn(
                f"{', '.join(moved)} of a RunConfig belongs to the method now: "
                f"settings={{'method': {moved!r}}}.",
                DeprecationWarning,
                stacklevel=4,
            )
            merged = {**self.settings, "method": {**self.settings.get("method", {}), **moved}}
            object.__setattr__(self, "settings", merged)

    def to_dict(self) -> dict[str, Any]:
        """Plain values, as they are in config.json: every part by name, every setting of it.

        Parts that the method does not have are left out, and the settings are what they become,
        so that a later default changes no run of today.
        """
        parts = self.parts
        plain: dict[str, Any] = {}
        for item in dataclasses.fields(self):
            value = getattr(self, item.name)
            if item.name in METHOD_PARTS:
                if item.name in parts:
                    plain[item.name] = parts[item.name]
            elif item.name == "settings":
                kinds = [kind for kind in parts if kind != "objective"]
                resolved = {
                    kind: self.settings_of("objective" if self._objective_owns(kind) else kind)
                    for kind in kinds
                }
                plain["settings"] = {kind: own for kind, own in resolved.items() if own}
            else:
                plain[item.name] = str(value) if isinstance(value, Path) else value
        return plain

    @classmethod
    def from_dict(cls, plain: Mapping[str, Any]) -> "RunConfig":
        """The inverse of `to_dict`; ConfigError names what this version does not know.

        Reads what the first version wrote as well, in which stop-gradient and momentum had fields
        of their own, for every method.
        """
        plain = {key: value for key, value in plain.items() if key != "own"}
        own = {setting.name for setting in find("method", plain.get("method", "simsiam")).settings}
        moved = {name: plain.pop(name) for name in MOVED if name in plain}
        if kept := {name: value for name, value in moved.items() if name in own}:
            settings = dict(plain.get("settings", {}))
            plain["settings"] = {**settings, "method": {**kept, **settings.get("method", {})}}
        fields = {item.name for item in dataclasses.fields(cls)}
        if unknown := sorted(set(plain) - fields):
            raise ConfigError(
                f"the run's configuration has settings this version of offdiag does not know: "
                f"{', '.join(unknown)}. Use the version that wrote it."
            )
        lists = {key: tuple(v) for key, v in plain.items() if isinstance(v, list)}
        return cls(**{**plain, **lists, "data_root": Path(plain.get("data_root", "data"))})
