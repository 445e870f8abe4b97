"""How fast is a training step, end to end, beside lightly's and beside the bare network?

    python benchmarks/throughput.py [--only small] [--method byol] [--json FILE]

Three contenders train the same encoder, projector and head on 32x32 images, batch 128:

bare      forward and backward of the network on one fixed batch, nothing else: the limit
offdiag   `fit` with its loader, views, optimiser, EMA and loss watch, end to end
lightly   its documented loop with its transforms, its heads, its loss and a DataLoader; needs
          `pip install lightly`. As documented it trains in float32; at the other settings it has
          by hand what the others have. The number of workers is the better one

They take turns, round by round, so that whatever else the machine does hits them alike; read the
ratios. The settings are float32, bfloat16 with channels-last, and the same compiled. No contender
blurs: lightly's own advice for 32x32 images. A step's images are counted once, though two views
are made of each.
"""

import argparse
import copy
import json
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from lightning_fabric import Fabric
from PIL import Image
from torch import nn

from offdiag.data.dataset import Dataset
from offdiag.data.loader import two_view_loader
from offdiag.data.view_recipes import ViewPair, ViewRecipe, simsiam_cifar
from offdiag.data.views import Normalisation
from offdiag.encoders import ENCODERS, Encoder
from offdiag.losses import l2_normalise
from offdiag.methods.byol import BYOL
from offdiag.methods.method import AbstractMethod
from offdiag.methods.simsiam import SimSiam
from offdiag.runs.circumstances import circumstances
from offdiag.training.fit import Progress, fit
from offdiag.training.heap import keep_freed_memory
from offdiag.training.optimizers import make_optimizer
from offdiag.training.schedules import Schedule

BATCH = 128
IMAGES = 8_192
LEARNING_RATE = 0.06
MOMENTUM = 0.996
NETS = {"small": ("small", 24), "resnet18": ("resnet18", 3)}
"""Encoder and timed steps a round (on an accelerator ten times as many)."""
NORMALISATION = Normalisation(mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))


@dataclass(frozen=True)
class Setting:
    """Precision and memory layout of a step."""

    precision: str
    channels_last: bool = False
    compile: bool = False

    def __str__(self) -> str:
        more = {"channels-last": self.channels_last, "compiled": self.compile}
        return ", ".join([self.precision, *(name for name, on in more.items() if on)])

    @property
    def layout(self) -> torch.memory_format:
        return torch.channels_last if self.channels_last else torch.contiguous_format


SETTINGS = (
    Setting("32-true"),
    Setting("bf16-mixed", channels_last=True),
    Setting("bf16-mixed", channels_last=True, compile=True),
)


@dataclass
class Contender:
    """`round()` trains some steps and returns the images a second of each."""

    name: str
    setting: Setting
    round: Callable[[], float]
    speeds: list[float] = field(default_factory=list)

    @property
    def median(self) -> float:
        return statistics.median(self.speeds)


def byol_views() -> ViewPair:
    """BYOL's two laws (Grill et al. 2020, table 6) without the blur, at the images' own size."""
    first = ViewRecipe(crop_scale=(0.08, 1.0), saturation=0.2)
    return first, ViewRecipe(crop_scale=(0.08, 1.0), saturation=0.2, solarise=0.2)


def pictures(count: int) -> torch.Tensor:
    """Random images: what is in them does not change how long they take."""
    generator = torch.Generator().manual_seed(0)
    return torch.randint(256, (count, 3, 32, 32), generator=generator).to(torch.uint8)


def build(encoder: Encoder, method: str) -> AbstractMethod:
    """The method with lightly's heads, so that all contenders train the same weights."""
    from lightly.models.modules import heads

    if method == "byol":
        return BYOL(
            encoder,
            heads.BYOLProjectionHead(encoder.dim, 1024, 256),
            head=heads.BYOLPredictionHead(256, 1024, 256),
            normalise=l2_normalise,
            momentum=MOMENTUM,
        )
    return SimSiam(
        encoder,
        heads.SimSiamProjectionHead(encoder.dim, 512, 128),
        head=heads.SimSiamPredictionHead(128, 64, 128),
        normalise=l2_normalise,
    )


def bare(model: AbstractMethod, setting: Setting, device: torch.device, steps: int) -> Contender:
    """Forward and backward of both views, and nothing else."""
    model = model.to(device=device, memory_format=setting.layout)
    if setting.compile:
        model.compile()
    views = [
        torch.randn(BATCH, 3, 32, 32, device=device).contiguous(memory_format=setting.layout)
        for _ in range(2)
    ]
    fabric = Fabric(accelerator=device.type, devices=1, precision=setting.precision)
    network = fabric.setup(model)

    def round() -> float:
        def step() -> None:
            fabric.backward(network(*views).loss)
            model.zero_grad(set_to_none=True)

        step()
        return timed((step() for _ in range(steps)), device, steps)

    return Contender("bare", setting, round)


def offdiag(
    model: AbstractMethod, setting: Setting, device: torch.device, steps: int, views: ViewPair
) -> Contender:
    """The library's own loop, from bytes to updated weights."""
    model = model.to(device=device, memory_format=setting.layout)
    if setting.compile:
        model.compile()
    source = Dataset(images=pictures(IMAGES), labels=None, classes=(), name="pictures").to(device)
    loader = two_view_loader(
        source,
        batch_size=BATCH,
        seed=0,
        recipe=views,
        normalisation=NORMALISATION,
        channels_last=setting.channels_last,
        device=device,
    )
    optimizer = make_optimizer("sgd", model, lr=LEARNING_RATE)
    fabric = Fabric(accelerator=device.type, devices=1, precision=setting.precision)

    def round() -> float:
        first = 2
        stamps: list[float] = []

        def stamp(step: int) -> None:
            if step in (first, first + steps):
                synchronise(device)
                stamps.append(time.perf_counter())

        fit(
            model,
            loader,
            optimizer,
            fabric=fabric,
            schedule=Schedule(steps=first + steps + 1, shape="constant"),
            progress=Progress(),
            read_every=10 * steps,
            checkpoint_seconds=3600,
            on_reading=lambda pulse: None,
            on_checkpoint=lambda: None,
            on_step=stamp,
        )
        return BATCH * steps / (stamps[1] - stamps[0])

    return Contender("offdiag", setting, round)


class Pictures(torch.utils.data.Dataset[tuple[list[torch.Tensor], int]]):
    """Images in memory, given out as torchvision's CIFAR10 does: a PIL image, transformed."""

    def __init__(self, images: torch.Tensor, transform: Callable[..., list[torch.Tensor]]) -> None:
        self.images: np.ndarray = images.permute(0, 2, 3, 1).numpy().copy()
        self.transform = transform

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[list[torch.Tensor], int]:
        return self.transform(Image.fromarray(self.images[index])), 0


def lightly(
    model: AbstractMethod,
    setting: Setting,
    device: torch.device,
    steps: int,
    method: str,
    workers: int,
) -> Contender:
    """The loop of lightly's documentation for SimSiam or BYOL, with `workers` processes."""
    from lightly.loss import NegativeCosineSimilarity
    from lightly.models.utils import update_momentum
    from lightly.transforms import BYOLTransform, SimSiamTransform
    from lightly.transforms.byol_transform import BYOLView1Transform, BYOLView2Transform
    from lightly.utils.scheduler import cosine_schedule

    transform = (
        BYOLTransform(
            view_1_transform=BYOLView1Transform(input_size=32, gaussian_blur=0.0),
            view_2_transform=BYOLView2Transform(input_size=32, gaussian_blur=0.0),
        )
        if method == "byol"
        else SimSiamTransform(input_size=32, gaussian_blur=0.0)
    )
    model = model.to(device=device, memory_format=setting.layout)
    parts: dict[str, nn.Module] = {"backbone": model.encoder, "projector": model.projector}
    targets = {name: copy.deepcopy(part).requires_grad_(False) for name, part in parts.items()}
    if setting.compile:
        for part in (*parts.values(), *targets.values(), model.head):
            part.compile()
    criterion = NegativeCosineSimilarity()
    trained = [*model.encoder.parameters(), *model.projector.parameters()]
    trained += model.head.parameters()
    optimizer = torch.optim.SGD(trained, lr=LEARNING_RATE)
    batches = torch.utils.data.DataLoader(
        Pictures(pictures(IMAGES), transform),
        batch_size=BATCH,
        shuffle=True,
        drop_last=True,
        num_workers=workers,
        persistent_workers=workers > 0,
        pin_memory=device.type == "cuda",
    )

    def online(view: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        z = model.projector(model.encoder(view).flatten(start_dim=1))
        return z, model.head(z)

    def losses() -> Iterator[torch.Tensor]:
        for epoch in range(1_000_000):
            momentum = cosine_schedule(epoch, 1_000_001, MOMENTUM, 1)
            for (x0, x1), _ in batches:
                x0, x1 = (
                    view.to(device, non_blocking=True).contiguous(memory_format=setting.layout)
                    for view in (x0, x1)
                )
                if method == "byol":
                    for name, part in parts.items():
                        update_momentum(part, targets[name], m=momentum)
                with torch.autocast(device.type, torch.bfloat16, setting.precision != "32-true"):
                    (z0, p0), (z1, p1) = online(x0), online(x1)
                    if method == "byol":
                        with torch.no_grad():
                            z0, z1 = (
                                targets["projector"](targets["backbone"](x).flatten(start_dim=1))
                                for x in (x0, x1)
                            )
                    loss = 0.5 * (criterion(p0, z1.detach()) + criterion(p1, z0.detach()))
                loss.backward()
                optimizer.step()
                optimizer.zero_grad()
                yield loss.detach()

    stream = losses()
    ahead = max(2, 2 * workers)  # what the workers had ready before the clock started

    def round() -> float:
        for _ in range(ahead):
            next(stream)
        speed = timed((next(stream) for _ in range(steps)), device, steps)
        time.sleep(2 * ahead * BATCH / max(speed, 1))  # let the workers fill up and fall silent
        return speed

    return Contender("lightly", setting, round)


def timed(work: Iterator[object], device: torch.device, steps: int) -> float:
    """Images a second of `steps` steps."""
    synchronise(device)
    start = time.perf_counter()
    for _ in work:
        pass
    synchronise(device)
    return BATCH * steps / (time.perf_counter() - start)


def synchronise(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def best_workers(
    model: AbstractMethod, device: torch.device, steps: int, method: str, choices: Sequence[int]
) -> int:
    """The number of workers with which lightly's loop is fastest, one round each."""
    setting = SETTINGS[1]
    speeds = {
        workers: lightly(copy.deepcopy(model), setting, device, steps, method, workers).round()
        for workers in choices
    }
    print("  lightly by workers:", ", ".join(f"{n}: {v:,.0f} images/s" for n, v in speeds.items()))
    return max(speeds, key=lambda n: speeds[n])


def measure(
    net: str, method: str, *, device: torch.device, rounds: int, workers: Sequence[int]
) -> list[Contender]:
    """All contenders at all settings on one net, in turns."""
    name, steps = NETS[net]
    steps *= 10 if device.type == "cuda" else 1
    views = byol_views() if method == "byol" else simsiam_cifar()
    torch.manual_seed(0)
    model = build(ENCODERS[name](3), method)
    print(f"\n{net}, {method}, batch {BATCH}, {rounds} rounds of {steps} steps", flush=True)
    count = best_workers(model, device, max(2, steps // 4), method, workers)
    contenders = []
    for setting in SETTINGS:
        parts = [copy.deepcopy(model) for _ in range(3)]
        contenders += [
            bare(parts[0], setting, device, steps),
            offdiag(parts[1], setting, device, steps, views),
            lightly(parts[2], setting, device, steps, method, count),
        ]
    for contender in contenders:  # warm: kernels chosen, workers started
        contender.round()
    for _ in range(rounds):
        for contender in contenders:
            contender.speeds.append(contender.round())
    return contenders


def told(contenders: Sequence[Contender]) -> dict[str, float]:
    """Print the table; returns the best images a second of each, and of lightly as documented."""
    print(f"  {'setting':<38}{'':<10}{'images/s':>10}{'low':>9}{'high':>9}{'of bare':>9}")
    for setting in SETTINGS:
        rows = {c.name: c for c in contenders if c.setting == setting}
        for contender in rows.values():
            print(
                f"  {setting!s:<38}{contender.name:<10}{contender.median:>10,.0f}"
                f"{min(contender.speeds):>9,.0f}{max(contender.speeds):>9,.0f}"
                f"{contender.median / rows['bare'].median:>9.2f}"
            )
        print(
            f"  {'':<38}offdiag is {rows['offdiag'].median / rows['lightly'].median:.2f} times "
            "lightly at this setting"
        )
    best = {
        name: max(c.median for c in contenders if c.name == name)
        for name in ("bare", "offdiag", "lightly")
    }
    best["lightly_documented"] = next(c.median for c in contenders if c.name == "lightly")
    print(
        f"  each at its best: offdiag is {best['offdiag'] / best['bare']:.2f} of bare, "
        f"{best['offdiag'] / best['lightly']:.2f} times lightly, "
        f"{best['offdiag'] / best['lightly_documented']:.2f} times lightly as documented (float32)"
    )
    return best


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", choices=NETS, help="one net instead of both")
    parser.add_argument("--method", choices=("simsiam", "byol"), default="simsiam")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--workers", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--json", type=Path, help="write images/s here")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    keep_freed_memory()  # as `offdiag train` does; every contender has it
    device = torch.device(options.device)
    about = circumstances(device)
    print(f"{about['date']}, {about['device']}, {about['cores']} cores, {about['threads']} threads")
    print(", ".join(f"{name} {version}" for name, version in about["versions"].items()))
    speeds = {
        net: told(
            measure(
                net, options.method, device=device, rounds=options.rounds, workers=options.workers
            )
        )
        for net in ([options.only] if options.only else NETS)
    }
    if options.json:
        options.json.write_text(json.dumps(speeds, indent=1) + "\n")


if __name__ == "__main__":
    main()
