"""How many views a second do we make, beside torchvision?

    python benchmarks/views.py [--rounds 15] [--threads 2]

32x32 RGB images, SimSiam's CIFAR recipe: crop, flip, jitter, grayscale. All contenders
take turns within each round, so that whatever else the machine does hits them alike;
read the ratios, and of the seconds the best round.

ours            each image its own draw, whole batch at once
v2, per image   torchvision.transforms.v2 on uint8 tensors, one image after the other
v2, float       the same on float tensors
PIL, per image  torchvision.transforms on PIL images: what most training scripts do
v2, one draw    v2 on the whole batch, one draw for all images: not the same law, a bound
"""

import argparse
import time
from collections.abc import Callable

import torch
import torchvision
from torch import Tensor
from torchvision import transforms as v1
from torchvision.transforms import v2

from offdiag.data.view_recipes import simsiam_cifar
from offdiag.data.views import make_view

SIDE = 32


def pipeline(kind) -> Callable:
    """SimSiam's CIFAR recipe in torchvision's words, `kind` being v1 or v2."""
    return kind.Compose(
        [
            kind.RandomResizedCrop(SIDE, scale=(0.2, 1.0), antialias=True),
            kind.RandomHorizontalFlip(),
            kind.RandomApply([kind.ColorJitter(0.4, 0.4, 0.4, 0.1)], p=0.8),
            kind.RandomGrayscale(p=0.2),
        ]
    )


def contenders(images: Tensor) -> dict[str, Callable[[], Tensor]]:
    generator = torch.Generator().manual_seed(0)
    recipe, _ = simsiam_cifar()
    new, old = pipeline(v2), v1.Compose([pipeline(v1), v1.ToTensor()])
    pictures = [v1.functional.to_pil_image(image) for image in images]
    return {
        "ours": lambda: make_view(images, generator, recipe=recipe),
        "v2, per image": lambda: torch.stack([new(image) for image in images]).float().div_(255),
        "v2, float": lambda: torch.stack([new(image) for image in images.float().div_(255)]),
        "PIL, per image": lambda: torch.stack([old(picture) for picture in pictures]),
        "v2, one draw": lambda: new(images).float().div_(255),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    print(
        f"torch {torch.__version__}, torchvision {torchvision.__version__}, "
        f"{options.threads} threads, {options.rounds} rounds"
    )
    for batch in (128, 512):
        images = torch.randint(256, (batch, 3, SIDE, SIDE)).to(torch.uint8)
        calls = contenders(images)
        seconds: dict[str, list[float]] = {name: [] for name in calls}
        for call in calls.values():
            call()
        for _ in range(options.rounds):
            for name, call in calls.items():
                start = time.perf_counter()
                call()
                seconds[name].append(time.perf_counter() - start)
        ours = sorted(seconds["ours"])
        print(f"\nbatch {batch:>17}  views/s: median      best   ours is faster by (median, best)")
        for name, times in seconds.items():
            times = sorted(times)
            middle = len(times) // 2
            print(
                f"  {name:<20} {batch / times[middle]:>14,.0f} {batch / times[0]:>9,.0f}"
                f"   {times[middle] / ours[middle]:>8.1f}x {times[0] / ours[0]:>6.1f}x"
            )


if __name__ == "__main__":
    main()
