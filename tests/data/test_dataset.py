"""Laws of the sources in memory and of the split that judges features."""

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from offdiag.data.dataset import Dataset, hold_out, in_order


@settings(max_examples=50, deadline=None)
@given(st.lists(st.integers(2, 30), min_size=1, max_size=6))
def test_the_hold_out_is_a_fifth_of_every_class_and_nothing_twice(counts):
    labels = torch.repeat_interleave(torch.arange(len(counts)), torch.tensor(counts))
    train, test = hold_out(labels)
    assert torch.equal(torch.cat([train, test]).sort().values, torch.arange(len(labels)))
    held = torch.bincount(labels[test], minlength=len(counts))
    assert held.tolist() == [max(1, round(count / 5)) for count in counts]


def test_the_hold_out_ignores_the_global_generators():
    labels = torch.arange(50) % 3
    before = hold_out(labels)
    torch.manual_seed(5)
    assert all(torch.equal(a, b) for a, b in zip(before, hold_out(labels), strict=True))


def test_reading_in_order_gives_every_image_once():
    images = torch.arange(7, dtype=torch.uint8)[:, None, None, None]
    source = Dataset(images=images, labels=torch.arange(7), classes=("a",), name="x")
    pieces = list(in_order(source, batch_size=3))
    assert [len(piece) for piece, _ in pieces] == [3, 3, 1]
    assert torch.equal(torch.cat([piece for piece, _ in pieces]), images)
    assert torch.equal(torch.cat([labels for _, labels in pieces]), torch.arange(7))


def test_a_subset_keeps_images_and_labels_together():
    images = torch.arange(7, dtype=torch.uint8)[:, None, None, None]
    source = Dataset(images=images, labels=torch.arange(7), classes=("a",), name="x")
    part = source.subset(torch.tensor([5, 0]))
    assert part.images.flatten().tolist() == part.labels.tolist() == [5, 0]
    assert len(part) == 2 and part.image_shape == (1, 1, 1)
