"""What is read from a folder, and the one sentence for everything that cannot be."""

import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from offdiag._checks import ConfigError, DataError
from offdiag.data.dataset import Dataset, Source, in_order
from offdiag.data.folder import FolderStream, image_folder
from offdiag.data.loader import two_view_loader
from offdiag.data.view_recipes import ViewRecipe


def save(path: Path, *, colour: int | tuple = (9, 8, 7), size=(6, 5), mode="RGB", **how) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new(mode, size, colour).save(path, **how)
    return path


def save_noise(path: Path, *, seed: int, size=(6, 5)) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (*size[::-1], 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)
    return path


def fill(root: Path, *, classes=("cat", "dog"), each: int = 5) -> Path:
    for seed in range(len(classes) * each):
        name = classes[seed // each]
        save_noise(root / name / f"{seed % each}.png", seed=seed)
    return root


def everything(source: Source) -> tuple[torch.Tensor, torch.Tensor | None]:
    pieces = list(in_order(source, batch_size=4))
    labels = [label for _, label in pieces if label is not None]
    return torch.cat([images for images, _ in pieces]), torch.cat(labels) if labels else None


def the_only(path: Path, **how) -> torch.Tensor:
    return everything(image_folder(path, **how).pretrain)[0][0]


# What is found


def test_sub_folders_are_classes_and_a_fifth_of_each_is_held_out(tmp_path):
    splits = image_folder(fill(tmp_path))
    assert splits.train is splits.pretrain
    assert splits.train.classes == splits.test.classes == ("cat", "dog")
    assert splits.train.labels.tolist() == [0] * 4 + [1] * 4
    assert splits.test.labels.tolist() == [0, 1]
    whole = torch.cat([splits.train.images, splits.test.images])
    assert whole.shape == (10, 3, 5, 6) and len(whole.flatten(1).unique(dim=0)) == 10


@pytest.mark.parametrize("name", ["test", "val", "valid", "validation"])
def test_train_and_test_folders_are_the_splits(tmp_path, name):
    fill(tmp_path / "train", classes=("ant", "cat", "dog"), each=3)
    fill(tmp_path / name, classes=("cat", "dog"), each=1)
    splits = image_folder(tmp_path)
    assert len(splits.pretrain) == 9 and len(splits.test) == 2
    assert splits.test.classes == ("ant", "cat", "dog")
    assert splits.test.labels.tolist() == [1, 2]


@pytest.mark.parametrize("names", [["b.png", "a.jpg"], ["x/b.PNG", "x/y/a.jpg", "c.png"]])
def test_files_anywhere_are_images_without_labels(tmp_path, names):
    for name in names:
        save(tmp_path / name)
    splits = image_folder(tmp_path)
    assert len(splits.pretrain) == len(names)
    assert splits.pretrain.labels is None and splits.train is None and splits.test is None


def test_classes_can_be_ignored_or_insisted_upon(tmp_path):
    fill(tmp_path)
    assert image_folder(tmp_path, labelled=False).train is None
    save(tmp_path / "dog" / "small" / "9.png")
    assert image_folder(tmp_path).train is None
    assert image_folder(tmp_path, labelled=True).train.classes == ("cat", "dog")


def test_hidden_and_other_files_are_passed_over_and_links_followed_once(tmp_path):
    fill(tmp_path / "real")
    (tmp_path / "real" / "cat" / "._0.png").write_bytes(b"not an image")
    (tmp_path / "real" / "cat" / "notes.txt").write_text("not an image")
    save(tmp_path / "real" / ".cache" / "0.png")
    (tmp_path / "real" / "dog" / "again").symlink_to(tmp_path / "real")
    (tmp_path / "linked").mkdir()
    for name in ("cat", "dog"):
        (tmp_path / "linked" / name).symlink_to(tmp_path / "real" / name)
    assert len(image_folder(tmp_path / "linked").pretrain) == 8


# What becomes of the pixels


def test_png_pixels_come_through_unchanged(tmp_path):
    path = save_noise(tmp_path / "a.png", seed=0)
    expected = torch.from_numpy(np.array(Image.open(path))).permute(2, 0, 1)
    assert torch.equal(the_only(tmp_path), expected)


@pytest.mark.parametrize(
    "mode, colour, rgb",
    [
        ("L", 100, (100, 100, 100)),
        ("1", 1, (255, 255, 255)),
        ("RGBA", (200, 100, 50, 0), (255, 255, 255)),
        ("RGBA", (200, 100, 50, 255), (200, 100, 50)),
        ("LA", (100, 0), (255, 255, 255)),
        ("I;16", 257 * 100, (100, 100, 100)),
        ("I;16", 65535, (255, 255, 255)),
        ("P", 3, (10, 20, 30)),
    ],
)
def test_every_mode_is_converted_when_channels_are_given(tmp_path, mode, colour, rgb):
    image = Image.new(mode, (3, 3), colour)
    if mode == "P":
        image.putpalette([0] * 9 + [10, 20, 30])
    image.save(tmp_path / "a.png")
    assert the_only(tmp_path, channels="rgb")[:, 0, 0].tolist() == list(rgb)
    gray = the_only(tmp_path, channels="gray")
    assert gray.shape == (1, 3, 3)
    assert gray[0, 0, 0].item() == pytest.approx(np.dot(rgb, (0.299, 0.587, 0.114)), abs=1)


def test_cmyk_is_converted(tmp_path):
    save(tmp_path / "a.tif", mode="CMYK", colour=(0, 255, 255, 0))
    assert the_only(tmp_path, channels="rgb")[:, 0, 0].tolist() == [255, 0, 0]


@pytest.mark.parametrize("suffix", ["jpg", "png", "tif", "webp"])
def test_images_are_turned_as_exif_says(tmp_path, suffix):
    exif = Image.Exif()
    exif[274] = 6  # turn by a quarter clockwise to view
    image = Image.new("RGB", (8, 4))
    image.paste((255, 255, 255), (0, 0, 4, 4))
    image.save(tmp_path / f"a.{suffix}", exif=exif)
    turned = the_only(tmp_path)
    assert turned.shape == (3, 8, 4)
    assert turned[:, 1].min() > 200 and turned[:, 6].max() < 50


def test_with_an_image_size_the_shorter_side_is_resized_and_the_centre_kept(tmp_path):
    image = Image.new("RGB", (40, 20))
    image.paste((255, 255, 255), (10, 0, 30, 20))
    image.save(tmp_path / "a.png")
    save(tmp_path / "b.png", size=(3, 9), colour=(255, 255, 255))
    images, _ = everything(image_folder(tmp_path, image_size=10).pretrain)
    assert images.shape == (2, 3, 10, 10)
    assert (images[..., 1:-1] == 255).all()  # a column next to the cut sees beyond it


def test_a_large_jpeg_is_reduced_as_a_full_decode_would(tmp_path):
    ramp = np.linspace(0, 255, 400).astype(np.uint8)
    picture = np.stack(np.broadcast_arrays(ramp, ramp[:, None], 128), axis=2).astype(np.uint8)
    Image.fromarray(picture).save(tmp_path / "a.jpg", quality=95)
    full = Image.open(tmp_path / "a.jpg").resize((25, 25), Image.Resampling.BILINEAR)
    difference = the_only(tmp_path, image_size=25).permute(1, 2, 0).numpy() - np.asarray(full, int)
    assert np.abs(difference).max() <= 4


# In memory or streamed


@pytest.mark.parametrize("workers", [0, 2])
def test_a_stream_gives_what_memory_gives(tmp_path, workers):
    fill(tmp_path, each=12)
    held = image_folder(tmp_path, stream=False, workers=workers)
    streamed = image_folder(tmp_path, stream=True, workers=workers)
    assert isinstance(held.pretrain, Dataset) and isinstance(streamed.pretrain, FolderStream)
    for name in ("pretrain", "test"):
        a, b = getattr(held, name), getattr(streamed, name)
        assert (a.name, a.classes, a.image_shape) == (b.name, b.classes, b.image_shape)
        for x, y in zip(everything(a), everything(b), strict=True):
            assert torch.equal(x, y)
    recipe = (ViewRecipe(), ViewRecipe())
    batches = [
        two_view_loader(source, batch_size=6, seed=1, recipe=recipe).batches(3, 8)
        for source in (held.pretrain, streamed.pretrain)
    ]
    for a, b in zip(*batches, strict=True):
        assert torch.equal(a.view_a, b.view_a) and torch.equal(a.labels, b.labels)


def test_a_folder_beyond_the_memory_limit_is_streamed(tmp_path):
    fill(tmp_path)  # ten images of 90 bytes
    assert isinstance(image_folder(tmp_path, memory_limit_bytes=900).pretrain, Dataset)
    assert isinstance(image_folder(tmp_path, memory_limit_bytes=899).pretrain, FolderStream)


def test_a_stream_never_runs_more_than_two_batches_ahead(tmp_path):
    stream = image_folder(fill(tmp_path, each=30), stream=True, workers=2).pretrain
    asked = 0

    def batches():
        nonlocal asked
        for rows in torch.split(torch.arange(len(stream)), 4):
            asked += 1
            yield rows

    for taken, _ in enumerate(stream.read(batches()), start=1):
        assert asked <= taken + 2
    assert taken == asked == 12


def test_a_stream_can_be_left_early(tmp_path):
    stream = image_folder(fill(tmp_path, each=30), stream=True, workers=2).pretrain
    reading = stream.read(torch.split(torch.arange(len(stream)), 4))
    first, _ = next(reading)
    reading.close()
    assert torch.equal(first, next(stream.read([torch.arange(4)]))[0])


READ_FOR_EVER = """
import os, sys, time, torch
from loky import get_reusable_executor
from offdiag.data.folder import image_folder

stream = image_folder(sys.argv[1], stream=True, workers=2).pretrain
next(stream.read([torch.arange(4)] * 9))
pool = get_reusable_executor(reuse=True)
print(*{pool.submit(os.getpid).result() for _ in range(20)}, flush=True)
time.sleep(60)
"""


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="asks /proc who is alive")
def test_no_worker_outlives_a_reader_that_was_killed(tmp_path):
    fill(tmp_path)
    command = [sys.executable, "-c", READ_FOR_EVER, str(tmp_path)]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as reader:
        workers = reader.stdout.readline().split()
        assert workers and all(Path("/proc", pid).exists() for pid in workers)
        reader.kill()
    deadline = time.monotonic() + 10
    while any(Path("/proc", pid).exists() for pid in workers) and time.monotonic() < deadline:
        time.sleep(0.2)
    assert not any(Path("/proc", pid).exists() for pid in workers)


# What cannot be read


def test_a_missing_folder_is_named(tmp_path):
    with pytest.raises(DataError, match="nowhere does not exist: give a folder"):
        image_folder(tmp_path / "nowhere")


def test_a_file_is_no_folder(tmp_path):
    with pytest.raises(DataError, match="a.png is a file: give the folder"):
        image_folder(save(tmp_path / "a.png"))


def test_an_empty_folder_says_what_was_looked_for(tmp_path):
    (tmp_path / "readme.txt").write_text("")
    with pytest.raises(DataError, match=r"holds no image: looked for files ending in \.jpg"):
        image_folder(tmp_path)


def test_an_empty_class_is_named(tmp_path):
    fill(tmp_path)
    (tmp_path / "emu").mkdir()
    with pytest.raises(DataError, match="emu holds no image: fill or remove it"):
        image_folder(tmp_path)
    assert image_folder(tmp_path, labelled=False).train is None


def test_an_image_outside_every_class_is_named(tmp_path):
    fill(tmp_path)
    save(tmp_path / "stray.png")
    with pytest.raises(DataError, match="stray.png lies in no class"):
        image_folder(tmp_path, labelled=True)


def test_a_class_of_one_image_is_named(tmp_path):
    fill(tmp_path)
    save(tmp_path / "emu" / "0.png")
    with pytest.raises(DataError, match="class 'emu' has a single image"):
        image_folder(tmp_path)


def test_a_test_class_unknown_to_training_is_named(tmp_path):
    fill(tmp_path / "train")
    fill(tmp_path / "test", classes=("cat", "emu"))
    with pytest.raises(DataError, match="class 'emu' of .*test is not in the training folder"):
        image_folder(tmp_path)


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def scramble(path: Path) -> None:
    path.write_bytes(b"this is text")


def empty(path: Path) -> None:
    path.write_bytes(b"")


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("harm", [truncate, scramble, empty])
def test_a_corrupt_image_is_named_and_skipped_only_if_asked(
    tmp_path, caplog, harm, workers, stream
):
    for seed in range(8):
        save_noise(tmp_path / f"{seed}.png", seed=seed, size=(30, 30))
    harm(tmp_path / "5.png")
    how = {"stream": stream, "workers": workers}
    with pytest.raises(DataError, match=r"5.png cannot be decoded \(.+\): replace it"):
        everything(image_folder(tmp_path, **how).pretrain)

    source = image_folder(tmp_path, skip_corrupt=True, **how).pretrain
    images, _ = everything(source)
    assert source.skipped == (str(tmp_path / "5.png"),)
    assert sum("5.png" in line for line in caplog.messages) == 1
    good = [row for row in range(8) if row != 5]
    assert source.to("cpu").skipped == source.skipped
    clean = torch.stack(
        [torch.from_numpy(np.array(Image.open(tmp_path / f"{row}.png"))) for row in good]
    ).permute(0, 3, 1, 2)
    if stream:  # the next good one takes its place, so that batches keep their size
        assert torch.equal(images, clean[[0, 1, 2, 3, 4, 5, 5, 6]])
    else:
        assert torch.equal(images, clean)


def test_a_first_file_that_is_corrupt_can_be_skipped_but_not_all_files(tmp_path):
    for seed in range(3):
        save_noise(tmp_path / f"{seed}.png", seed=seed)
    scramble(tmp_path / "0.png")
    assert len(image_folder(tmp_path, skip_corrupt=True).pretrain) == 2
    for seed in range(3):
        scramble(tmp_path / f"{seed}.png")
    with pytest.raises(DataError, match="none of the 3 files"):
        image_folder(tmp_path, skip_corrupt=True)


def test_a_stand_in_brings_its_own_label(tmp_path):
    fill(tmp_path)
    for path in (tmp_path / "cat").iterdir():
        if path.name != "0.png":
            scramble(path)
    source = image_folder(tmp_path, stream=True, skip_corrupt=True).pretrain
    images, labels = everything(source)
    looks = [image.flatten().tolist() for image in images]
    for look, label in zip(looks, labels.tolist(), strict=True):
        assert all(
            other == label for o, other in zip(looks, labels.tolist(), strict=True) if o == look
        )
    assert labels.tolist().count(0) < 4


@pytest.mark.parametrize("stream", [False, True])
def test_images_of_two_sizes_are_both_named(tmp_path, stream):
    save(tmp_path / "a.png", size=(6, 5))
    save(tmp_path / "b.png", size=(7, 5))
    sentence = r"b.png has 7 x 5 pixels but .*a.png has 6 x 5: choose an image size"
    with pytest.raises(DataError, match=sentence):
        everything(image_folder(tmp_path, stream=stream, skip_corrupt=True).pretrain)


def test_gray_among_rgb_is_named(tmp_path):
    save(tmp_path / "a.png")
    save(tmp_path / "b.png", mode="L", colour=3)
    with pytest.raises(DataError, match=r"b.png is gray but .*a.png is RGB: choose channels"):
        image_folder(tmp_path)


@pytest.mark.parametrize("mode", ["RGBA", "P", "CMYK", "I;16", "LA", "1", "F"])
def test_an_unusual_mode_is_named(tmp_path, mode):
    Image.new(mode, (4, 4)).save(tmp_path / "a.tif")
    with pytest.raises(DataError, match=rf"a.tif has mode {mode}.*choose channels"):
        image_folder(tmp_path)


def test_a_scale_that_nobody_knows_is_not_guessed(tmp_path):
    Image.new("F", (4, 4)).save(tmp_path / "a.tif")
    with pytest.raises(DataError, match="a.tif has mode F, 32 bits a pixel without a known scale"):
        image_folder(tmp_path, channels="gray")


@pytest.mark.skipif(os.geteuid() == 0, reason="nothing is forbidden to root")
def test_a_file_that_may_not_be_read_is_named(tmp_path):
    save(tmp_path / "a.png").chmod(0)
    with pytest.raises(DataError, match="a.png may not be read: change its permissions"):
        image_folder(tmp_path, skip_corrupt=True)


def test_a_file_that_the_system_refuses_is_named(tmp_path, monkeypatch):
    save(tmp_path / "a.png")

    def refuse(*args, **how):
        raise PermissionError

    monkeypatch.setattr(Image, "open", refuse)
    with pytest.raises(DataError, match="a.png may not be read: change its permissions"):
        image_folder(tmp_path, skip_corrupt=True)


def test_a_decompression_bomb_is_named_and_not_opened(tmp_path, monkeypatch):
    save(tmp_path / "a.png", size=(50, 50))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    with pytest.raises(DataError, match="a.png claims more than 2,000 pixels"):
        image_folder(tmp_path)


def test_a_file_is_taken_for_what_it_holds_and_postscript_is_never_run(tmp_path):
    (tmp_path / "a.png").write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n")
    with pytest.raises(DataError, match="not an image of a known format"):
        image_folder(tmp_path)


def test_unknown_channels_and_sizes_are_refused(tmp_path):
    save(tmp_path / "a.png")
    with pytest.raises(ConfigError, match="unknown channels 'cmyk': choose one of rgb, gray"):
        image_folder(tmp_path, channels="cmyk")
    with pytest.raises(ConfigError, match="image size must be at least 1 pixel; got 0"):
        image_folder(tmp_path, image_size=0)
