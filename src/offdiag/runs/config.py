"""The settings of one complete run, checked when they are built."""

import dataclasses
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Any

import tyro

from offdiag._checks import ConfigError, at_least, choice, within
from offdiag.encoders import ENCODERS
from offdiag.heads import HEADS
from offdiag.losses import NORMALISERS, STOP_GRADIENTS
from offdiag.training.optimizers import OPTIMIZERS
from offdiag.training.schedules import SHAPES

METHODS = ("simsiam", "byol")
DEVICES = ("auto", "cpu", "cuda", "mps")
PRECISIONS = ("32-true", "bf16-mixed", "16-mixed")


def _names(names: Any) -> Any:
    return tyro.conf.arg(metavar="{" + ",".join(names) + "}")


@dataclass(frozen=True, kw_only=True)
class RunConfig:
    """What to train, on what, and how."""

    # data
    data: str = "digits"
    """digits, cifar10, cifar100, stl10, fashion-mnist, or folder:PATH (images, with classes as
    sub-folders or without)."""
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
    """simsiam shares weights between the branches; byol has an EMA target."""
    head: Annotated[str, _names(HEADS)] = "off-diagonal"
    """The prediction head; none is the frozen identity."""
    normaliser: Annotated[str, _names(NORMALISERS)] = "bn"
    """What both sides go through before they are compared."""
    stop_gradient: Annotated[str, _names(STOP_GRADIENTS)] = "target"
    """The side that gets no gradient; other than target is an ablation, simsiam only."""
    momentum: float = 0.99
    """byol: momentum of the EMA target at the start; it rises to 1 along a cosine."""
    encoder: Annotated[str, _names(ENCODERS)] = "small"
    """The network; the -imagenet ones keep the 7x7 stem and max-pool."""
    projector: tuple[int, ...] = (256, 64)
    """Widths of the projector's layers; the last is the width of projection and head."""

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
    schedule: Annotated[str, _names(SHAPES)] = "cosine"
    milestones: tuple[float, ...] = (0.75, 0.875)
    """steps: shares of training at which the rate drops to a fifth."""
    warmup_steps: int = 0
    seed: int = 0

    # machine
    device: Annotated[str, _names(DEVICES)] = "auto"
    precision: Annotated[str, _names(PRECISIONS)] = "32-true"
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

    def __post_init__(self) -> None:
        choice("method", self.method, METHODS)
        choice("head", self.head, HEADS)
        choice("normaliser", self.normaliser, NORMALISERS)
        choice("side for the stop-gradient", self.stop_gradient, STOP_GRADIENTS)
        choice("encoder", self.encoder, ENCODERS)
        choice("optimiser", self.optimizer, OPTIMIZERS)
        choice("schedule", self.schedule, SHAPES)
        choice("device", self.device, DEVICES)
        choice("precision", self.precision, PRECISIONS)
        within("the EMA momentum", self.momentum, 0, 1)
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
        if self.method == "byol" and self.stop_gradient != "target":
            raise ConfigError(
                "byol's target network gets no gradient by construction, so its stop-gradient "
                f"cannot be {self.stop_gradient!r}: ablate it with --method simsiam."
            )

    def to_dict(self) -> dict[str, Any]:
        """Plain values, as they stand in config.json."""
        plain = dataclasses.asdict(self)
        return {key: str(v) if isinstance(v, Path) else v for key, v in plain.items()}

    @classmethod
    def from_dict(cls, plain: dict[str, Any]) -> "RunConfig":
        """The inverse of `to_dict`; ConfigError names what this version does not know."""
        fields = {field.name for field in dataclasses.fields(cls)}
        if unknown := sorted(set(plain) - fields):
            raise ConfigError(
                f"the run's configuration has settings this version of offdiag does not know: "
                f"{', '.join(unknown)}. Use the version that wrote it."
            )
        lists = {key: tuple(v) for key, v in plain.items() if isinstance(v, list)}
        return cls(**{**plain, **lists, "data_root": Path(plain.get("data_root", "data"))})
