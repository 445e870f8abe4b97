"""Laws of the random views, and their distance from torchvision's."""

import os
import subprocess
import sys
from dataclasses import fields, replace

import numpy as np
import pytest
import scipy.stats
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torchvision.transforms import v2

from offdiag._checks import ConfigError, DataError
from offdiag.data import operations, views
from offdiag.data.draws import Draws, draw, draw_crops, draw_two
from offdiag.data.view_recipes import VIEWS, ViewRecipe
from offdiag.data.views import Normalisation, apply, apply_compiled, make_view

PLAIN = ViewRecipe(crop_scale=(1.0, 1.0), crop_ratio=(1.0, 1.0), flip=0, jitter=0, grayscale=0)


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def pictures(batch: int, side: int, seed: int = 0, channels: int = 3) -> torch.Tensor:
    """Smooth random pictures, coloured and spread over the whole range."""
    coarse = torch.rand((batch, channels, 5, 5), generator=seeded(seed))
    fine = torch.nn.functional.interpolate(coarse, side, mode="bicubic")
    return (255 * fine.clamp(0, 1)).round().to(torch.uint8)


@pytest.mark.parametrize("name", VIEWS)
@pytest.mark.parametrize("channels", [1, 3])
def test_every_recipe_is_reproducible_and_keeps_to_its_range(name, channels):
    images = pictures(4, 32, channels=channels)
    for recipe in VIEWS[name]:
        small = replace(recipe, size=recipe.size and 48)
        view = make_view(images, seeded(1), recipe=small)
        assert view.shape == (4, channels, small.size or 32, small.size or 32)
        assert view.dtype == torch.float32
        assert view.min() >= 0 and view.max() <= 1 + 1e-5
        assert torch.equal(view, make_view(images, seeded(1), recipe=small))


def test_two_views_on_one_generator_differ():
    images, generator = pictures(4, 16), seeded(0)
    first, second = (make_view(images, generator, recipe=ViewRecipe()) for _ in range(2))
    assert (first - second).abs().mean((1, 2, 3)).min() > 0.01


def test_two_views_drawn_at_once_follow_the_law_and_differ():
    one = ViewRecipe()
    a, b = draw_two(2000, 32, 32, seeded(0), recipes=(one, one))
    alone = draw(2000, 32, 32, seeded(1), recipe=one)
    for drawn in (a, b):
        for name in ("brightness", "turns"):
            law = scipy.stats.ks_2samp(getattr(drawn, name), getattr(alone, name))
            assert law.pvalue > 1e-3, name
        assert len(drawn.boxes) == 2000
    jittered = (a.turns != 0) & (b.turns != 0)
    both = np.corrcoef(a.turns[jittered], b.turns[jittered])[0, 1]
    assert abs(both) < 0.1
    other = replace(one, crop_scale=(1.0, 1.0), crop_ratio=(1.0, 1.0))
    whole = draw_two(50, 32, 32, seeded(0), recipes=(one, other))[1].boxes
    assert whole.tolist() == [[0, 0, 32, 32]] * 50


def test_every_image_has_a_draw_of_its_own():
    same = pictures(1, 16).expand(64, -1, -1, -1)
    view = make_view(same, seeded(0), recipe=ViewRecipe())
    assert len(view.flatten(1).unique(dim=0)) == 64


def test_a_view_of_an_image_does_not_depend_on_its_neighbours():
    images = pictures(8, 16)
    others = torch.cat([images[:4], pictures(4, 16, seed=9)])
    recipe = ViewRecipe(blur=0.5, blur_kernel=5, solarise=0.5)
    a, b = (make_view(x, seeded(3), recipe=recipe) for x in (images, others))
    torch.testing.assert_close(a[:4], b[:4])


def test_a_recipe_of_nothing_gives_the_image_back():
    images = pictures(4, 16)
    torch.testing.assert_close(make_view(images, seeded(0), recipe=PLAIN), images / 255)


def test_a_large_batch_worked_off_in_pieces_is_the_same_batch(monkeypatch):
    images = pictures(10, 16)
    recipe = ViewRecipe(blur=0.5, blur_kernel=5, solarise=0.5)  # without blur: no pieces
    whole = make_view(images, seeded(0), recipe=recipe)
    monkeypatch.setattr(views, "CACHED_PIXELS", 3 * 16 * 16)
    torch.testing.assert_close(make_view(images, seeded(0), recipe=recipe), whole)


@settings(deadline=None)  # the first call compiles
@given(
    batch=st.integers(1, 5),
    channels=st.sampled_from([1, 3]),
    height=st.integers(1, 40),
    width=st.integers(1, 40),
    size=st.none() | st.integers(1, 50),
    scale=st.sampled_from([(0.05, 0.3), (0.3, 1.0), (1.0, 1.0)]),
    strength=st.sampled_from([0.0, 0.4, 2.0]),
    seed=st.integers(0, 1000),
)
def test_compiled_views_are_those_of_the_operations(
    batch, channels, height, width, size, scale, strength, seed
):
    generator = seeded(seed)
    shape = (batch, channels, height, width)
    images = torch.randint(256, shape, generator=generator).to(torch.uint8)
    recipe = ViewRecipe(
        crop_scale=scale,
        brightness=strength,
        contrast=strength,
        saturation=strength,
        hue=min(strength, 0.5),
        grayscale=0.3,
        solarise=0.5,
        solarise_threshold=0.7003,  # no byte's value: those may round to either side
        size=size,
    )
    law = Normalisation((0.4, 0.5, 0.6)[:channels], (0.2, 0.3, 0.4)[:channels])
    drawn = draw(batch, height, width, generator, recipe=recipe)
    ours, expected = (torch.empty(batch, channels, size or height, size or width) for _ in "ab")
    apply_compiled(images, drawn, recipe, law, out=ours)
    apply(images, drawn, recipe, law, out=expected)
    # Rounding moves a value by 1e-5, or past the threshold to its mirror image.
    mirror = 1 - 2 * recipe.solarise_threshold
    std = torch.tensor(law.std)[:, None, None]
    difference = (ours - expected).abs() * std
    close = (difference < 1e-4) | ((difference - abs(mirror)).abs() < 1e-4)
    assert close.all(), difference.max()
    assert (difference < 1e-4).float().mean() > 0.99


def test_the_process_that_compiles_makes_the_bits_of_one_that_finds_the_code(tmp_path):
    code = (
        "import hashlib, torch\n"
        "from offdiag.data.view_recipes import ViewRecipe\n"
        "from offdiag.data.views import make_view\n"
        "for channels, side in ((1, 8), (3, 32)):\n"
        "    draw = torch.Generator().manual_seed(0)\n"
        "    images = torch.randint(256, (64, channels, side, side), generator=draw)\n"
        "    view = make_view(images.to(torch.uint8), draw, recipe=ViewRecipe())\n"
        "    print(hashlib.sha256(view.numpy().tobytes()).hexdigest())\n"
    )
    environment = {**os.environ, "NUMBA_CACHE_DIR": str(tmp_path)}
    compiling, finding = (
        subprocess.run(
            [sys.executable, "-c", code],
            env=environment,
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for _ in range(2)
    )
    assert compiling == finding and len(compiling.split()) == 2


def test_views_ignore_autocast():
    images = pictures(4, 16)
    plain = make_view(images, seeded(0), recipe=ViewRecipe())
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(plain, make_view(images, seeded(0), recipe=ViewRecipe()))


def test_digits_are_never_mirrored():
    left = torch.zeros((200, 1, 8, 8), dtype=torch.uint8)
    left[..., :4] = 255
    gentle = replace(VIEWS["digits"][0], crop_scale=(0.9, 1.0))
    view = make_view(left, seeded(0), recipe=gentle)
    assert (view[..., 0].mean((1, 2)) > view[..., -1].mean((1, 2))).all()


@pytest.mark.parametrize("height, width", [(32, 32), (20, 60), (8, 8)])
@pytest.mark.parametrize("scale", [(0.08, 1.0), (0.2, 1.0), (0.9, 1.0)])
def test_crops_follow_the_law_of_random_resized_crop(height, width, scale):
    draws = 3000
    ours = draw_crops(draws, height, width, seeded(0), recipe=ViewRecipe(crop_scale=scale)).numpy()
    image = torch.empty(1, height, width)
    with torch.random.fork_rng():
        torch.manual_seed(1)
        crop = v2.RandomResizedCrop((1, 1), scale=scale)
        theirs = [crop.make_params([image]) for _ in range(draws)]
    for column, name in enumerate(("top", "left", "height", "width")):
        p = scipy.stats.ks_2samp(
            ours[:, column], [box[name] for box in theirs], method="asymp"
        ).pvalue
        assert p > 1e-3, name
    assert (ours[:, 0] + ours[:, 2] <= height).all() and (ours[:, 1] + ours[:, 3] <= width).all()
    assert (ours[:, :2] >= 0).all() and (ours[:, 2:] >= 1).all()


@pytest.mark.parametrize("height, width", [(10, 100), (100, 10)])
def test_crops_that_cannot_fit_fall_back_to_the_centre(height, width):
    boxes = draw_crops(5, height, width, seeded(0), recipe=ViewRecipe(crop_scale=(1.0, 1.0)))
    crop = v2.RandomResizedCrop((1, 1), scale=(1.0, 1.0))
    expected = crop.make_params([torch.empty(1, height, width)])
    row = [expected[name] for name in ("top", "left", "height", "width")]
    assert boxes.tolist() == [row] * 5


@pytest.mark.parametrize(
    "drawn, low, high",
    [
        ("brightness", 0.6, 1.4),
        ("contrast", 0.6, 1.4),
        ("saturation", 0.8, 1.2),
        ("hue", -0.1, 0.1),
    ],
)
def test_strengths_are_uniform_and_only_for_the_jittered(drawn, low, high):
    draws = draw(4000, 1, 1, seeded(0), recipe=ViewRecipe(saturation=0.2, jitter=0.8))
    seen = {
        "brightness": draws.brightness,
        "contrast": draws.contrast,
        "saturation": draws.saturation,
        "hue": draws.turns,
    }
    neutral = 0.0 if drawn == "hue" else 1.0
    jittered = (seen["brightness"] != 1.0).numpy()
    values = seen[drawn].numpy()
    assert scipy.stats.binomtest(int(jittered.sum()), 4000, 0.8).pvalue > 1e-3
    assert (values[~jittered] == neutral).all()
    law = scipy.stats.uniform(low, high - low)
    assert scipy.stats.kstest(values[jittered], law.cdf).pvalue > 1e-3
    others = [seen[name].numpy()[jittered] for name in seen if name != drawn]
    correlations = [np.corrcoef(values[jittered], other)[0, 1] for other in others]
    assert np.abs(correlations).max() < 0.06


@pytest.mark.parametrize(
    "step, marked",
    [
        ("flip", lambda view: view[:, 0, 0, 0] > view[:, 0, 0, -1]),
        ("grayscale", lambda view: view[:, 0, 0, -1] == view[:, 1, 0, -1]),
        ("solarise", lambda view: view[:, 0, 0, -1] < 0.5),
        ("blur", lambda view: (view[:, 0, 0, 1] > 0.01) & (view[:, 0, 0, 1] < 0.99)),
    ],
)
def test_each_step_happens_as_often_as_asked(step, marked):
    ramp = torch.tensor([0.0, 0.0, 1.0, 1.0])
    images = torch.stack([ramp.expand(4, 4), 0.8 * ramp.expand(4, 4), ramp.expand(4, 4)])
    images = (255 * images).to(torch.uint8).expand(2000, -1, -1, -1)
    extra = {"blur_kernel": 3, "blur_sigma": (1.0, 1.0)}
    recipe = replace(PLAIN, **{step: 0.3}, **extra)
    count = int(marked(make_view(images, seeded(0), recipe=recipe)).sum())
    assert scipy.stats.binomtest(count, 2000, 0.3).pvalue > 1e-3


def test_distance_from_torchvisions_colour_jitter_is_small():
    """Random order and clamping after each change, against ours: within 0.01 on average."""
    images = pictures(128, 16)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        jitter = v2.ColorJitter(0.4, 0.4, 0.4, 0.1)
        drawn = [jitter.make_params([]) for _ in range(128)]
    parts = ("brightness_factor", "contrast_factor", "saturation_factor", "hue_factor")
    b, c, s, h = (torch.tensor([float(draw[part]) for draw in drawn]) for part in parts)
    theirs = torch.stack([jitter.transform(x / 255, d) for x, d in zip(images, drawn, strict=True)])
    ours = operations.adjust_hue(operations.adjust_colour(images / 255, b, c, s), h)
    change = (theirs - images / 255).abs().mean()
    assert (ours - theirs).abs().mean() < 0.01 < 0.05 < change


def test_normalised_views_are_the_views_normalised():
    images, law = pictures(4, 16), Normalisation((0.5, 0.4, 0.3), (0.2, 0.25, 0.3))
    plain = make_view(images, seeded(0), recipe=ViewRecipe())
    ours = make_view(images, seeded(0), recipe=ViewRecipe(), normalisation=law)
    expected = v2.functional.normalize(plain, list(law.mean), list(law.std))
    torch.testing.assert_close(ours, expected, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(
        law(images), v2.functional.normalize(images / 255, list(law.mean), list(law.std))
    )


def test_a_normalisation_refuses_other_channels():
    with pytest.raises(DataError, match="1 channel.*these have 3.*channels 'gray'"):
        Normalisation((0.5,), (0.2,))(pictures(2, 8))


@pytest.mark.parametrize("blur", [0.0, 0.5])
def test_images_of_any_channels_and_depth_have_the_views_of_gray_ones(blur):
    gray = torch.randint(256, (6, 1, 9, 9), generator=torch.Generator().manual_seed(1))
    gray = gray.to(torch.uint8)
    recipe = ViewRecipe(blur=blur, blur_kernel=3, solarise=0.3)

    def view(images):
        return make_view(images, torch.Generator().manual_seed(2), recipe=recipe)

    expected = view(gray)
    deep = (257 * gray.int()).to(torch.uint16)
    torch.testing.assert_close(view(deep), expected, atol=1e-5, rtol=0)
    torch.testing.assert_close(view(deep.repeat(1, 5, 1, 1)), expected.repeat(1, 5, 1, 1))


def test_a_kernel_wider_than_the_view_is_refused():
    with pytest.raises(ConfigError, match="blur_kernel=23 .* 8 x 8 pixels; choose at most 15"):
        make_view(pictures(2, 8), seeded(0), recipe=ViewRecipe(blur=0.5))


@pytest.mark.parametrize(
    "setting, sentence",
    [
        ({"flip": 1.5}, r"flip must lie in \[0, 1\]"),
        ({"hue": 0.6}, r"hue must lie in \[0, 0.5\]"),
        ({"brightness": -1.0}, "brightness must be at least 0"),
        ({"crop_scale": (0.5, 0.2)}, "crop_scale must be a range"),
        ({"crop_scale": (0.5, 1.2)}, "<= 1; got"),
        ({"crop_ratio": (0.0, 1.0)}, "crop_ratio must be a range"),
        ({"blur_kernel": 4}, "blur_kernel must be odd"),
        ({"size": 0}, "size of a view must be at least 1 pixel"),
    ],
)
def test_a_recipe_out_of_range_is_refused_when_built(setting, sentence):
    with pytest.raises(ConfigError, match=sentence):
        ViewRecipe(**setting)


@pytest.mark.gpu
@pytest.mark.parametrize("name", VIEWS)
def test_views_on_a_gpu_are_those_on_a_cpu_for_the_same_draws(name):
    images, generator = pictures(64, 64), torch.Generator("cuda").manual_seed(0)
    for recipe in VIEWS[name]:
        drawn = draw(64, 64, 64, generator, recipe=recipe)
        here = Draws(**{field.name: getattr(drawn, field.name).cpu() for field in fields(drawn)})
        there, expected = torch.empty(64, 3, 64, 64, device="cuda"), torch.empty(64, 3, 64, 64)
        apply(images.cuda(), drawn, recipe, out=there)
        apply(images, here, recipe, out=expected)
        torch.testing.assert_close(there.cpu(), expected, atol=1e-4, rtol=0)
