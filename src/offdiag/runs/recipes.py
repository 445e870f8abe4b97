"""Named complete runs: the paper's experiments on real images, in full and small.

The full size is the probable recipe of Wen & Li 2022, section 4: what their text and figure
say (Adam at 3e-3, 200 epochs, a 64-dimensional projection, the off-diagonal head), filled up
with the defaults of the code base that their learning-rate drops point to. Whether they
averaged a target is not known: `--method byol` does.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace
from types import MappingProxyType

from offdiag._checks import choice
from offdiag.runs.config import RunConfig

SIZES = ("full", "small")
"""`small`, for two cores: a small net and fewer epochs, STL-10 at 32x32 pixels; all else alike."""


def paper(data: str) -> RunConfig:
    """The paper's experiment on `data`: ResNet-18 with a 3x3 stem, 200 epochs, batch 512.

    Adam at 3e-3 after 500 steps of warm-up, times .2 at three quarters and at seven
    eighths of training, weight decay 1e-6; projector 512-1024-64; output BatchNorm, the
    off-diagonal head, shared weights. bfloat16 autocast is ours.
    """
    return RunConfig(
        data=data,
        views="paper",
        encoder="resnet18",
        projector=(1024, 64),
        head="off-diagonal",
        epochs=200,
        batch_size=512,
        optimizer="adam",
        lr=3e-3,
        weight_decay=1e-6,
        schedule="steps",
        milestones=(0.75, 0.875),
        warmup_steps=500,
        precision="bf16-mixed",
        channels_last=True,
    )


def small(full: RunConfig, *, epochs: int) -> RunConfig:
    """The same with a net of three convolutions and fewer epochs."""
    return replace(full, encoder="small-stride2", epochs=epochs)


def paper_cifar10(size: str) -> RunConfig:
    """CIFAR-10; `--data folder:PATH` takes a copy of your own."""
    full = paper("cifar10")
    return full if size == "full" else small(full, epochs=60)


def paper_cifar100(size: str) -> RunConfig:
    """CIFAR-100."""
    full = paper("cifar100")
    return full if size == "full" else small(full, epochs=60)


def paper_stl10(size: str) -> RunConfig:
    """STL-10 at 64x64 pixels, trained on its labelled and unlabelled images; small: at 32x32."""
    full = replace(paper("stl10"), image_size=64)
    return full if size == "full" else small(replace(full, image_size=32), epochs=28)


RECIPES: Mapping[str, Callable[[str], RunConfig]] = MappingProxyType(
    {
        "paper-cifar10": paper_cifar10,
        "paper-cifar100": paper_cifar100,
        "paper-stl10": paper_stl10,
    }
)
"""The recipes by the names that the command line uses: size -> settings."""


def recipe(name: str, *, size: str = "full") -> RunConfig:
    """The settings of a named recipe; ConfigError for an unknown name or size."""
    choice("recipe", name, RECIPES)
    choice("size", size, SIZES)
    return RECIPES[name](size)
