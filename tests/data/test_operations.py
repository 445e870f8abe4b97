"""Each operation against torchvision's function of that name, image by image."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torchvision.transforms.v2 import functional

from offdiag.data import operations

IMAGES = 6
EXACT = 1e-5


@pytest.fixture
def view(generator: torch.Generator) -> Tensor:
    """Smooth and rough parts, saturated and gray pixels."""
    view = torch.rand((IMAGES, 3, 20, 28), generator=generator)
    view[:, :, :5] = view[:, :1, :5]
    view[0, :, 6:9] = 0.0
    view[1, :, 6:9] = 1.0
    return view


def reference(view: Tensor, change: Callable[[Tensor, int], Tensor]) -> Tensor:
    return torch.stack([change(image, row) for row, image in enumerate(view)])


def spread(low: float, high: float) -> Tensor:
    return torch.linspace(low, high, IMAGES)


def test_brightness_is_torchvisions(view):
    one, factor = torch.ones(IMAGES), spread(0, 2)
    ours = operations.adjust_colour(view, factor, one, one)
    theirs = reference(view, lambda x, i: functional.adjust_brightness(x, factor[i].item()))
    torch.testing.assert_close(ours, theirs, atol=EXACT, rtol=0)


def test_contrast_is_torchvisions(view):
    one, factor = torch.ones(IMAGES), spread(0, 2)
    ours = operations.adjust_colour(view, one, factor, one)
    theirs = reference(view, lambda x, i: functional.adjust_contrast(x, factor[i].item()))
    torch.testing.assert_close(ours, theirs, atol=EXACT, rtol=0)


def test_saturation_is_torchvisions(view):
    one, factor = torch.ones(IMAGES), spread(0, 2)
    ours = operations.adjust_colour(view, one, one, factor)
    theirs = reference(view, lambda x, i: functional.adjust_saturation(x, factor[i].item()))
    torch.testing.assert_close(ours, theirs, atol=2e-4, rtol=0)  # torchvision's luma sums to .9999


def test_contrast_of_a_gray_image_is_torchvisions(view):
    one, factor, gray = torch.ones(IMAGES), spread(0, 2), view[:, :1]
    ours = operations.adjust_colour(gray, one, factor, None)
    theirs = reference(gray, lambda x, i: functional.adjust_contrast(x, factor[i].item()))
    torch.testing.assert_close(ours, theirs, atol=EXACT, rtol=0)


def test_hue_is_torchvisions(view):
    turns = spread(-0.5, 0.5)
    ours = operations.adjust_hue(view, turns)
    theirs = reference(view, lambda x, i: functional.adjust_hue(x, turns[i].item()))
    torch.testing.assert_close(ours, theirs, atol=EXACT, rtol=0)


def test_hue_leaves_gray_pixels_and_a_whole_turn_alone(view):
    gray = view[:, :1].expand(-1, 3, -1, -1)
    assert torch.equal(operations.adjust_hue(gray, spread(-0.5, 0.5)), gray)
    half = operations.adjust_hue(view, torch.full((IMAGES,), 0.5))
    back = operations.adjust_hue(half, torch.full((IMAGES,), 0.5))
    torch.testing.assert_close(back, view, atol=EXACT, rtol=0)


def test_colour_changes_commute_where_nothing_is_clamped(generator):
    dim = 0.4 + 0.1 * torch.rand((IMAGES, 3, 8, 8), generator=generator)
    one = torch.ones(IMAGES)
    b, c, s = spread(0.8, 1.2), spread(1.2, 0.9), spread(0.7, 1.3)
    adjust = operations.adjust_colour
    at_once = adjust(dim, b, c, s)
    one_by_one = adjust(adjust(adjust(dim, one, one, s), one, c, one), b, one, one)
    torch.testing.assert_close(at_once, one_by_one, atol=1e-4, rtol=0)


def test_gray_is_torchvisions_for_the_chosen_and_nothing_for_the_rest(view):
    chosen = torch.arange(IMAGES) % 2 == 0
    ours = operations.to_gray(view, chosen)
    gray = functional.rgb_to_grayscale(view, num_output_channels=3)
    torch.testing.assert_close(ours[chosen], gray[chosen], atol=EXACT, rtol=0)
    assert torch.equal(ours[~chosen], view[~chosen])


def test_solarise_is_torchvisions_for_the_chosen_and_nothing_for_the_rest(view):
    chosen = torch.arange(IMAGES) % 2 == 0
    ours = operations.solarise(view, chosen, threshold=0.5)
    torch.testing.assert_close(ours[chosen], functional.solarize(view, 0.5)[chosen])
    assert torch.equal(ours[~chosen], view[~chosen])


@pytest.mark.parametrize("kernel", [1, 3, 9, 23])
def test_blur_is_torchvisions_for_the_chosen_and_nothing_for_the_rest(view, kernel):
    sigma, chosen = spread(0.1, 2.0), torch.arange(IMAGES) % 2 == 1
    ours = operations.blur(view, sigma, chosen, kernel=kernel)
    theirs = reference(
        view, lambda x, i: functional.gaussian_blur(x, [kernel, kernel], [sigma[i].item()])
    )
    torch.testing.assert_close(ours[chosen], theirs[chosen], atol=EXACT, rtol=0)
    torch.testing.assert_close(ours[~chosen], view[~chosen], atol=1e-6, rtol=0)


@pytest.mark.parametrize("size", [(20, 28), (7, 5), (40, 33), (1, 1)])
def test_crop_and_resize_is_torchvisions_up_to_the_border(view, size):
    boxes = torch.tensor(
        [[0, 0, 20, 28], [3, 4, 10, 9], [19, 27, 1, 1], [0, 5, 20, 2], [8, 0, 12, 28], [5, 5, 7, 7]]
    )
    ours = operations.crop_resize_flip(view, boxes, torch.zeros(IMAGES, dtype=bool), size=size)
    theirs = reference(
        view,
        lambda x, i: functional.resized_crop(x, *boxes[i].tolist(), list(size), antialias=True),
    )
    torch.testing.assert_close(ours, theirs, atol=EXACT, rtol=0)


def test_flip_mirrors_the_chosen_and_leaves_the_rest(view):
    whole, flip = torch.tensor([[0, 0, 20, 28]]).expand(IMAGES, 4), torch.arange(IMAGES) % 2 == 0
    ours = operations.crop_resize_flip(view, whole, flip, size=(20, 28))
    torch.testing.assert_close(ours[flip], functional.horizontal_flip(view[flip]))
    torch.testing.assert_close(ours[~flip], view[~flip])
