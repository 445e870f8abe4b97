"""How much memory does each recipe take?

    python benchmarks/recipe_memory.py FOLDER [--only paper-stl10] [--size small] [--images N]

Memory goes by the number, size and network of the images, not by what is in them: so each
recipe is trained for one epoch, in a process of its own, on random JPEG images of the number
and size of its data set, written into FOLDER and removed afterwards. At full size on a CPU an
epoch would take from ten minutes to hours: there the epoch is two batches, and what the images left
out would hold is added (`images left out`). Prints the peak that the run itself recorded: resident
memory on a CPU, allocated memory on an accelerator. torchvision's own readers hold more for a
moment: STL-10's two copies of 2.9 GB at 96x96 pixels, before they are made smaller.
"""

import argparse
import io
import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
from PIL import Image

from offdiag.runs.circumstances import circumstances
from offdiag.runs.recipes import RECIPES, SIZES, recipe

COUNTS = {
    "paper-cifar10": (50_000, 10_000, 32),
    "paper-cifar100": (50_000, 10_000, 32),
    "paper-stl10": (105_000, 8_000, 96),
}
"""Images to train on, images to test on, and their side in pixels."""
CLASSES = 10
DIFFERENT = 64


def write_images(folder: Path, count: int, side: int) -> None:
    """`count` files of a few random images in the layout that `--data folder:` takes."""
    draw = np.random.default_rng(0)
    files = []
    for _ in range(DIFFERENT):
        buffer = io.BytesIO()
        pixels = draw.integers(0, 256, (side, side, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(buffer, "jpeg", quality=75)
        files.append(buffer.getvalue())
    for k in range(CLASSES):
        (folder / str(k)).mkdir(parents=True)
    for i in range(count):
        (folder / str(i % CLASSES) / f"{i}.jpg").write_bytes(files[i % DIFFERENT])


def measure(name: str, size: str, folder: Path, few: int | None, more: list[str]) -> str:
    """One row of the table."""
    train, test, side = COUNTS[name]
    settings = recipe(name, size=size)
    shown = train if few is None else few
    asked = test if few is None else min(test, few)
    data, run = folder / "images", folder / "run"
    for path in (data, run):
        shutil.rmtree(path, ignore_errors=True)
    write_images(data / "train", shown, side)
    write_images(data / "test", asked, side)
    command = [sys.executable, "-m", "offdiag", "train", "--recipe", name, "--size", size]
    command += ["--data", f"folder:{data}", "--epochs", "1", "--out", str(run), *more]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    last = json.loads((run / "metrics.jsonl").read_text().splitlines()[-1])
    pixels = (settings.image_size or side) ** 2
    left_out = (train + test - shown - asked) * 3 * pixels / 2**30
    for path in (data, run):
        shutil.rmtree(path)
    peak = last["peak_memory_gib"]
    return f"| {name} | {size} | {shown:,} | {peak:.2f} | {left_out:.2f} | {peak + left_out:.2f} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--only", choices=RECIPES, help="one recipe instead of all")
    parser.add_argument("--size", choices=SIZES, help="one size instead of both")
    parser.add_argument("--images", type=int, help="so many images for each, small size too")
    parser.add_argument("more", nargs="*", help="options for offdiag train, after --")
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    print("| recipe | size | images shown | peak GiB | images left out, GiB | together |")
    print("|---|---|---|---|---|---|")
    for name in [options.only] if options.only else RECIPES:
        for size in [options.size] if options.size else SIZES[::-1]:
            few = 1_024 if size == "full" and options.images is None else options.images
            print(measure(name, size, options.folder, few, options.more), flush=True)
    print("\n```\n" + json.dumps(circumstances(), indent=1) + "\n```")


if __name__ == "__main__":
    main()
