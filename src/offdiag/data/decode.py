"""Image files to uint8 arrays. Imports neither torch nor a device: worker processes start fast."""

import os
import threading
import time
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import UInt8
from PIL import Image, ImageOps, UnidentifiedImageError

from offdiag._checks import DataError

EXTENSIONS = (
    ".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".ppm", ".pgm",
)  # fmt: skip
# Pillow goes by content, not by name: without this list a renamed .eps would start Ghostscript.
FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF", "PPM")
MODES = {"rgb": "RGB", "gray": "L"}
ORIENTED = {"exif", "xmp", "Raw profile type exif"}  # where a file may say how to turn it

Pixels = UInt8[np.ndarray, "channels height width"]


class CorruptImage(DataError):
    """A file that cannot be decoded; the only fault that may be skipped."""

    def __init__(self, path: Path, fault: str) -> None:
        super().__init__(path, fault)  # both, so that it crosses between processes
        self.path = path

    def __str__(self) -> str:
        path, fault = self.args
        return f"{path} {fault}: replace it, remove it, or skip corrupt files."


@dataclass(frozen=True, kw_only=True)
class Form:
    """What every file must become.

    With `image_size` the shorter side is resized to it (bilinear, anti-aliased) and
    the central square kept; without, files must have the size in `shape`. With
    `channels` ("rgb" or "gray") files are converted; without, they must be 8-bit
    RGB or 8-bit gray as they are. `shape` is channels, height and width, taken
    from the file `witness`; None while that is not known.
    """

    image_size: int | None
    channels: str | None
    shape: tuple[int, int, int] | None = None
    witness: str = ""


def decode(path: Path, form: Form) -> Pixels:
    """Decode one file: 16 bits scaled to 8, transparency laid on white, turned as EXIF says.

    Of an animation the first frame is taken. Colour profiles are not applied.
    """
    try:
        with warnings.catch_warnings(), Image.open(path, formats=FORMATS) as image:
            warnings.simplefilter("ignore")  # odd metadata, which the pixels do not need
            if form.image_size is not None:  # a JPEG need not be decoded at full size
                image.draft(None, (2 * form.image_size, 2 * form.image_size))
            image.load()
            pixels = _as_asked(image, path, form)
    except DataError:
        raise
    except Image.DecompressionBombError:
        most = 2 * (Image.MAX_IMAGE_PIXELS or 0)
        raise CorruptImage(path, f"claims more than {most:,} pixels, too many to open") from None
    except PermissionError:
        raise DataError(f"{path} may not be read: change its permissions or remove it.") from None
    except FileNotFoundError:
        raise DataError(f"{path} has vanished since the folder was listed.") from None
    except Exception as error:  # decoders raise almost anything on damaged bytes
        empty = path.exists() and path.stat().st_size == 0
        fault = "the file is empty" if empty else _first_line(error)
        raise CorruptImage(path, f"cannot be decoded ({fault})") from None
    if form.shape is not None and pixels.shape != form.shape:
        raise DataError(_mismatch(path, pixels.shape, form))
    return pixels


def decode_many(
    paths: Sequence[Path], form: Form
) -> tuple[UInt8[np.ndarray, "files channels height width"], list[tuple[int, DataError]]]:
    """Decode files of a known shape; faults come back with their place, which stays black."""
    assert form.shape is not None
    images = np.zeros((len(paths), *form.shape), dtype=np.uint8)
    faults: list[tuple[int, DataError]] = []
    for place, path in enumerate(paths):
        try:
            images[place] = decode(path, form)
        except DataError as fault:
            faults.append((place, fault))
    return images, faults


def end_with(parent: int) -> None:
    """In a worker process: end soon after the process `parent` does, even if it was killed."""

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(1)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def _as_asked(image: Image.Image, path: Path, form: Form) -> Pixels:
    if image.format == "TIFF" or ORIENTED & image.info.keys():
        image = ImageOps.exif_transpose(image)
    if form.channels is None:
        if image.mode not in MODES.values() or "transparency" in image.info:
            raise DataError(
                f"{path} has mode {_mode(image)}, neither 8-bit RGB nor 8-bit gray: "
                "choose channels rgb or gray to convert all images."
            )
    else:
        image = _convert(image, path, MODES[form.channels])
    size = form.image_size
    if size is not None and image.size != (size, size):
        width, height = image.size
        side = min(width, height)
        left, top = (width - side) / 2, (height - side) / 2
        image = image.resize(
            (size, size), Image.Resampling.BILINEAR, box=(left, top, left + side, top + side)
        )
    pixels = np.asarray(image)
    return pixels[None] if pixels.ndim == 2 else pixels.transpose(2, 0, 1)


def _convert(image: Image.Image, path: Path, mode: str) -> Image.Image:
    if image.mode.startswith("I;16"):
        image = Image.fromarray(np.rint(np.asarray(image) / 257).astype(np.uint8))
    if image.mode in ("I", "F"):
        raise DataError(
            f"{path} has mode {image.mode}, 32 bits a pixel without a known scale: "
            "convert it to 8 or 16 bits."
        )
    if image.has_transparency_data:
        image = image.convert("RGBA")
        white = Image.new("RGBA", image.size, "white")
        image = Image.alpha_composite(white, image)
    elif image.mode == "P":
        image = image.convert("RGB")  # to L directly would go by way of the palette's indices
    try:
        return image.convert(mode)
    except ValueError:
        raise DataError(
            f"{path} has mode {image.mode}, which cannot be converted: save it as RGB."
        ) from None


def _mode(image: Image.Image) -> str:
    if "transparency" in image.info:
        return f"{image.mode} with transparency"
    return f"{image.mode} (16-bit)" if image.mode.startswith("I;16") else image.mode


def _mismatch(path: Path, shape: tuple[int, ...], form: Form) -> str:
    assert form.shape is not None
    if shape[0] != form.shape[0]:
        kind = {1: "gray", 3: "RGB"}
        return (
            f"{path} is {kind[shape[0]]} but {form.witness} is {kind[form.shape[0]]}: "
            "choose channels rgb or gray to convert all images."
        )
    return (
        f"{path} has {shape[2]} x {shape[1]} pixels but {form.witness} has "
        f"{form.shape[2]} x {form.shape[1]}: choose an image size, and every image is resized "
        "and centre-cropped to it."
    )


def _first_line(error: Exception) -> str:
    text = str(error).splitlines()
    if isinstance(error, UnidentifiedImageError) or not text:
        return "not an image of a known format"
    return text[0]
