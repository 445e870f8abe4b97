"""A generated image set: coloured shapes on a noisy ground, the same on every machine."""

import numpy as np
import torch
from jaxtyping import Float, UInt8

from offdiag.data.dataset import Dataset, Splits, splits_of

IMAGES = 2_000
SIDE = 16
CLASSES = ("disc", "square", "triangle", "cross", "ring", "bars")
SEED = 20261127


def shapes() -> Splits:
    """2,000 colour images of 16x16 pixels in six classes; a fifth of every class is held out.

    Each shows one shape of any colour, size and place on a ground of another colour, with
    Gaussian noise of a tenth of the range. The class says nothing of the colours.
    """
    random = np.random.default_rng(SEED)
    labels = np.arange(IMAGES) % len(CLASSES)
    images = np.stack([_picture(CLASSES[label], random) for label in labels])
    return splits_of(
        Dataset(
            images=torch.from_numpy(images),
            labels=torch.from_numpy(labels).long(),
            classes=CLASSES,
            name="shapes",
        )
    )


def _picture(name: str, random: np.random.Generator) -> UInt8[np.ndarray, "3 side side"]:
    radius = random.uniform(3.5, 5.5)
    x0, y0 = random.uniform(radius, SIDE - 1 - radius, 2)
    y, x = np.mgrid[:SIDE, :SIDE].astype(float)
    inside = _cover(name, (x - x0) / radius, (y - y0) / radius)
    ground, colour = random.uniform(0, 1, (2, 3, 1, 1))
    # A shape of nearly its ground's colour would not be seen.
    colour = np.where(np.abs(colour - ground) < 0.35, (colour + 0.5) % 1, colour)
    picture = np.where(inside, colour, ground) + random.normal(0, 0.1, (3, SIDE, SIDE))
    return np.rint(255 * np.clip(picture, 0, 1)).astype(np.uint8)


def _cover(
    name: str, x: Float[np.ndarray, "side side"], y: Float[np.ndarray, "side side"]
) -> np.ndarray:
    """Which pixels the shape covers, in units of its radius from its centre."""
    square = np.maximum(abs(x), abs(y)) <= 1
    circle = np.hypot(x, y)
    return {
        "disc": circle <= 1,
        "square": square,
        "triangle": (abs(y) <= 1) & (abs(x) <= (y + 1) / 2),
        "cross": square & (np.minimum(abs(x), abs(y)) <= 0.35),
        "ring": (circle <= 1) & (circle >= 0.55),
        "bars": square & (abs(x) >= 0.4),
    }[name]
