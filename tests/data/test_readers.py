"""The named image sets, and the table of them."""

import types
from pathlib import Path

import numpy as np
import pytest
import torch
import torchvision.datasets

from offdiag._checks import ConfigError, DataError
from offdiag.data.readers import load
from offdiag.registry import DATASETS


def test_digits_have_all_images_in_range_and_a_fixed_split():
    splits = load("digits")
    assert len(splits.train) + len(splits.test) == 1797
    assert splits.pretrain is splits.train
    assert splits.pretrain.image_shape == (1, 8, 8)
    assert splits.train.images.min() == 0 and splits.train.images.max() == 255
    shares = [torch.bincount(part.labels) / len(part) for part in (splits.train, splits.test)]
    torch.testing.assert_close(*shares, atol=0.005, rtol=0)
    torch.manual_seed(1)
    assert torch.equal(load("digits").test.images, splits.test.images)


@pytest.mark.parametrize("name, count, classes", [("digits", 1797, 10), ("shapes", 2000, 6)])
def test_a_packaged_set_is_whole_and_the_same_each_time(name, count, classes):
    splits, again = load(name), load(name)
    assert len(splits.train) + len(splits.test) == count
    assert len(splits.train.classes) == len(splits.test.labels.unique()) == classes
    assert torch.equal(splits.train.images, again.train.images)
    assert splits.train.images.unique().numel() > 16


def test_an_unknown_name_lists_the_known_ones():
    with pytest.raises(ConfigError, match="unknown data 'mnist': choose .*digits.*folder:PATH"):
        load("mnist")


@pytest.mark.parametrize(
    "name", sorted(name for name, row in DATASETS.items() if "packaged" not in row.tags)
)
def test_a_set_that_is_absent_says_how_to_get_it(tmp_path, name):
    with pytest.raises(DataError, match=f"{name} is not in .*--download"):
        load(name, root=tmp_path)


def write_idx(path: Path, array: np.ndarray) -> None:
    """The format of the MNIST files: magic number, sizes, bytes."""
    header = np.array([0x800 + array.ndim, *array.shape], dtype=">i4")
    path.write_bytes(header.tobytes() + array.astype(np.uint8).tobytes())


def test_fashion_mnist_is_read_from_its_files(tmp_path):
    raw = tmp_path / "FashionMNIST" / "raw"
    raw.mkdir(parents=True)
    images = np.random.default_rng(0).integers(0, 256, (5, 28, 28))
    for part in ("train", "t10k"):
        write_idx(raw / f"{part}-images-idx3-ubyte", images)
        write_idx(raw / f"{part}-labels-idx1-ubyte", np.arange(5))
    splits = load("fashion-mnist", root=tmp_path)
    assert torch.equal(splits.train.images[:, 0], torch.from_numpy(images).to(torch.uint8))
    assert splits.test.labels.tolist() == [0, 1, 2, 3, 4]
    assert len(splits.test.classes) == 10


@pytest.mark.parametrize("name, kind", [("cifar10", "CIFAR10"), ("cifar100", "CIFAR100")])
def test_cifar_has_its_channels_first(monkeypatch, name, kind):
    data = np.arange(2 * 32 * 32 * 3).reshape(2, 32, 32, 3).astype(np.uint8)

    def stand_in(root, train, download):
        assert not download
        return types.SimpleNamespace(data=data, targets=[1, int(train)], classes=["a", "b"])

    monkeypatch.setattr(torchvision.datasets, kind, stand_in)
    splits = load(name)
    assert torch.equal(splits.test.images.permute(0, 2, 3, 1), torch.from_numpy(data))
    assert splits.train.labels.tolist() == [1, 1] and splits.test.labels.tolist() == [1, 0]


def test_stl10_trains_on_the_unlabelled_too_and_is_judged_without_them(monkeypatch):
    labels = {"train": [0, 1], "train+unlabeled": [0, 1, -1, -1, -1], "test": [1]}

    def stand_in(root, split, download):
        return types.SimpleNamespace(
            data=np.zeros((len(labels[split]), 3, 96, 96), dtype=np.uint8),
            labels=np.array(labels[split], dtype=np.uint8 if split != "train+unlabeled" else int),
            classes=["a", "b"],
        )

    monkeypatch.setattr(torchvision.datasets, "STL10", stand_in)
    splits = load("stl10", image_size=64)
    assert [len(part) for part in (splits.pretrain, splits.train, splits.test)] == [5, 2, 1]
    assert splits.pretrain.labels is None
    assert splits.pretrain.image_shape == splits.test.image_shape == (3, 64, 64)


def test_a_failed_download_is_one_sentence(monkeypatch, tmp_path):
    def stand_in(root, train, download):
        raise OSError("no route")

    monkeypatch.setattr(torchvision.datasets, "CIFAR10", stand_in)
    with pytest.raises(DataError, match=r"cifar10 could not be downloaded .*\(no route\): check"):
        load("cifar10", root=tmp_path, download=True)


def test_size_and_channels_can_be_chosen():
    splits = load("digits", image_size=16, channels="rgb")
    assert splits.pretrain.image_shape == splits.test.image_shape == (3, 16, 16)
    assert splits.pretrain is splits.train
    back = load("digits", channels="gray")
    assert torch.equal(back.test.images, load("digits").test.images)
    assert torch.equal(splits.test.images[:, 0], splits.test.images[:, 2])


def test_colour_becomes_luma(monkeypatch):
    colours = np.array([[255, 255, 255], [255, 0, 0], [0, 255, 0]], dtype=np.uint8)

    def stand_in(root, train, download):
        data = colours[:, None, None].repeat(32, 1).repeat(32, 2)
        return types.SimpleNamespace(data=data, targets=[0, 0, 0], classes=["a"])

    monkeypatch.setattr(torchvision.datasets, "CIFAR10", stand_in)
    assert load("cifar10", channels="gray").test.images[:, 0, 0, 0].tolist() == [255, 76, 150]


def test_size_out_of_range_is_refused():
    with pytest.raises(ConfigError, match="image size must be at least 1"):
        load("digits", image_size=0)


def test_a_folder_is_read_by_its_path(tmp_path):
    with pytest.raises(DataError, match="nowhere does not exist"):
        load(f"folder:{tmp_path / 'nowhere'}")


def test_images_that_train_and_are_judged_stay_one_copy_on_a_device():
    moved = load("digits").to("cpu")
    assert moved.train is moved.pretrain
    assert moved.test is not moved.pretrain
