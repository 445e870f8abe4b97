"""Laws of the batches: what the seed and the step decide, and what nothing else does."""

import itertools
import time

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from offdiag._checks import ConfigError
from offdiag.data.dataset import Dataset
from offdiag.data.loader import ViewLoader, normalisation_of, two_view_loader
from offdiag.data.view_recipes import ViewRecipe
from offdiag.data.views import Normalisation

RECIPE = ViewRecipe(flip=0.5, jitter=0.8)
AS_IS = Normalisation((0.0, 0.0, 0.0), (1.0, 1.0, 1.0))


def numbered(count: int) -> Dataset:
    """Image i has label i, so that a batch tells which images it holds."""
    images = torch.randint(256, (count, 3, 6, 6), generator=torch.Generator().manual_seed(0))
    return Dataset(
        images=images.to(torch.uint8),
        labels=torch.arange(count),
        classes=tuple(str(i) for i in range(count)),
        name="numbered",
    )


def loader(count: int = 20, **settings) -> ViewLoader:
    given_settings = {"batch_size": 4, "seed": 0, "recipe": (RECIPE, RECIPE)} | settings
    return two_view_loader(numbered(count), normalisation=AS_IS, **given_settings)


@settings(max_examples=8, deadline=None)
@given(
    count=st.integers(4, 12),
    batch_size=st.integers(2, 4),
    first=st.integers(0, 9),
    seed=st.integers(0, 2**40),
)
def test_a_run_resumed_at_any_step_gets_the_same_bits(count, batch_size, first, seed):
    def of(first_step: int) -> ViewLoader:
        return loader(count, batch_size=batch_size, seed=seed).batches(first_step, 10)

    undisturbed = itertools.islice(of(0), first, None)
    for a, b in zip(undisturbed, of(first), strict=True):
        assert a.step == b.step
        for name in ("view_a", "view_b", "labels"):
            assert torch.equal(getattr(a, name), getattr(b, name))


@settings(max_examples=10, deadline=None)
@given(count=st.integers(2, 30), batch_size=st.integers(3, 30), epoch=st.integers(0, 3))
def test_an_epoch_shows_no_image_twice_and_leaves_out_less_than_a_batch(count, batch_size, epoch):
    batch_size = min(batch_size, count)
    batches = loader(count, batch_size=batch_size)
    steps = batches.steps_per_epoch
    seen = torch.cat([b.labels for b in batches.batches(epoch * steps, (epoch + 1) * steps)])
    assert len(seen.unique()) == len(seen) > count - batch_size


def test_epochs_seeds_steps_and_views_all_differ():
    def order(seed: int, first_step: int) -> list[int]:
        batches = loader(seed=seed).batches(first_step, first_step + 5)
        return torch.cat([batch.labels for batch in batches]).tolist()

    assert order(0, 0) != order(0, 5)
    assert order(0, 0) != order(1, 0)
    whole = {"batch_size": 20}
    a, b = loader(**whole).batches(0, 2)
    a_again = a.view_a[a.labels.argsort()]
    assert not torch.allclose(a_again, b.view_a[b.labels.argsort()])
    assert not torch.allclose(a.view_a, a.view_b)


def test_each_view_follows_its_own_recipe():
    plain = ViewRecipe(crop_scale=(1, 1), crop_ratio=(1, 1), flip=0, jitter=0, grayscale=0)
    inverted = ViewRecipe(
        crop_scale=(1, 1), crop_ratio=(1, 1), flip=0, jitter=0, grayscale=1, size=9
    )
    batch = next(loader(recipe=(plain, inverted)).batches())
    torch.testing.assert_close(batch.view_a, numbered(20).images[batch.labels] / 255)
    assert batch.view_b.shape[2:] == (9, 9)
    torch.testing.assert_close(batch.view_b[:, 0], batch.view_b[:, 2])


def test_ranks_share_out_the_same_images_and_the_same_views():
    alone = loader(batch_size=8).batches(0, 6)
    ranks = [loader(batch_size=8, rank=rank, world_size=2).batches(0, 6) for rank in range(2)]
    for whole, first, second in zip(alone, *ranks, strict=True):
        for name in ("labels", "view_a", "view_b"):
            parts = [getattr(batch, name) for batch in (first, second)]
            assert torch.equal(getattr(whole, name), torch.cat(parts))


def test_the_layout_of_the_views_changes_none_of_their_values():
    plain, turned = (next(loader(channels_last=on).batches()) for on in (False, True))
    assert turned.view_b.is_contiguous(memory_format=torch.channels_last)
    assert not plain.view_b.is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(plain.view_a, turned.view_a) and torch.equal(plain.view_b, turned.view_b)


def test_unlabelled_images_have_no_labels():
    images = Dataset(images=numbered(4).images, labels=None, classes=(), name="x")
    batch = next(two_view_loader(images, batch_size=4, seed=0, recipe=(RECIPE, RECIPE)).batches())
    assert batch.labels is None


def test_a_batch_says_how_long_its_images_were_waited_for():
    class Slow(Dataset):
        def read(self, batches):
            for images in super().read(batches):
                time.sleep(0.05)
                yield images

    source = Slow(images=numbered(8).images, labels=None, classes=(), name="slow")
    slow = two_view_loader(source, batch_size=4, seed=0, recipe=(RECIPE, RECIPE))
    waited = [batch.waited_seconds for batch in slow.batches(last_step=4)]
    assert len(waited) == 4 and min(waited) >= 0.05


def test_the_normalisation_makes_the_source_mean_zero_and_deviation_one():
    source = numbered(400)
    seen = normalisation_of(source)(source.images)
    torch.testing.assert_close(seen.mean((0, 2, 3)), torch.zeros(3), atol=1e-3, rtol=0)
    torch.testing.assert_close(seen.std((0, 2, 3)), torch.ones(3), atol=1e-3, rtol=0)


def test_a_constant_channel_is_not_divided_by_zero():
    flat = Dataset(
        images=torch.full((4, 1, 3, 3), 51, dtype=torch.uint8), labels=None, classes=(), name="x"
    )
    assert normalisation_of(flat) == Normalisation((0.2,), (1.0,))


@pytest.mark.parametrize(
    "setting, sentence",
    [
        ({"batch_size": 21}, "batch of 21 .* numbered has 20 .* Lower the batch size"),
        ({"batch_size": 1}, "at least 2 images"),
        ({"batch_size": 9, "world_size": 2}, "cannot be shared by 2 processes"),
        ({"batch_size": 4, "world_size": 4}, "gives each at least 2"),
        ({"seed": -1}, "seed must be at least 0"),
    ],
)
def test_a_batch_that_cannot_be_made_is_refused(setting, sentence):
    with pytest.raises(ConfigError, match=sentence):
        loader(**setting)
