import numpy as np
import pytest
import torch

from offdiag._checks import ConfigError
from offdiag.theory.descent import descent
from offdiag.theory.problem import Problem
from offdiag.theory.sgd import draw_samples, draw_view, place, sampled_loss, sgd
from offdiag.theory.state import State, starts

SMALL = Problem(
    dim=8, strengths=(2.0, 1.0), patches=6, feature_patches=2, noise=0.5, head_lr_ratio=1.0
)


def near(problem: Problem) -> State:
    """A start that moves soon: inner products are not small."""
    start = starts(problem, 1)[0]
    return State(
        inner_products=np.array([[0.6, 0.3], [0.2, 0.5]]),
        noise_parts=start.noise_parts,
        head=start.head,
    )


def distance(run, limit) -> float:
    return float(
        ((run.inner_products[-1] - limit.inner_products[-1]) ** 2).sum()
        + ((run.head[-1] - limit.head[-1]) ** 2).sum()
        + ((run.noise[-1] - limit.noise[-1]) ** 2).sum()
    )


def test_sampled_training_tends_to_descent_as_the_batch_grows(generator):
    start = near(SMALL)
    limit = descent(SMALL, start, learning_rate=0.1, steps=10)
    errors = []
    for batch in (100, 400, 1600):
        runs = [
            sgd(SMALL, start, generator, learning_rate=0.1, steps=10, batch=batch, points=2)
            for _ in range(10)
        ]
        errors.append(np.sqrt(np.mean([distance(run, limit) for run in runs])))
    order = -np.polyfit(np.log([100, 400, 1600]), np.log(errors), 1)[0]
    assert order == pytest.approx(0.5, abs=0.15)  # the error of a mean over the batch


def test_a_fixed_training_set_tends_to_the_population_as_it_grows(generator):
    start = near(SMALL)
    limit = descent(SMALL, start, learning_rate=0.1, steps=10)
    errors = [
        np.mean(
            [
                distance(
                    sgd(SMALL, start, generator, learning_rate=0.1, steps=10, samples=n), limit
                )
                for _ in range(5)
            ]
        )
        for n in (100, 3200)
    ]
    assert errors[1] < errors[0] / 5  # 32 is the ratio of the variances


@pytest.mark.parametrize("variant", [{"masks": "independent"}, {"normaliser": "none"}])
@pytest.mark.parametrize("stop", ["target", "none", "online"])
def test_every_variant_samples_what_the_closed_form_describes(variant, stop, generator):
    problem = Problem(
        **{
            "dim": 8,
            "strengths": (1.5, 1.0),
            "patches": 6,
            "noise": 0.5,
            "stop_gradient": stop,
            "head_lr_ratio": 1.0,
            **variant,
        }
    )
    start = near(problem)
    limit = descent(problem, start, learning_rate=0.1, steps=8)
    run = sgd(problem, start, generator, learning_rate=0.1, steps=8, batch=8_000)
    np.testing.assert_allclose(run.inner_products[-1], limit.inner_products[-1], atol=0.03)
    np.testing.assert_allclose(run.head[-1], limit.head[-1], atol=0.03)
    moved = np.abs(limit.inner_products[-1] - limit.inner_products[0]).max()
    assert moved > 0.06  # or agreeing would mean nothing


def test_mini_batches_of_a_fixed_set_are_drawn_from_it(generator):
    run = sgd(SMALL, near(SMALL), generator, learning_rate=0.1, steps=5, batch=16, samples=64)
    assert run.failure is None and run.method["samples"] == 64
    assert run.time[-1] == pytest.approx(0.5)


def test_no_gradient_reaches_the_stopped_branch(generator):
    start = near(SMALL)
    patches = draw_samples(SMALL, 64, generator)
    view = draw_view(SMALL, 64, generator)
    W = place(SMALL, start).requires_grad_(True)
    E = torch.tensor(start.head)
    slopes = {}
    for stop in ("target", "online", "none"):
        problem = Problem(**{**SMALL.to_dict(), "stop_gradient": stop})
        loss = sampled_loss(problem, W, E, patches, view)
        slopes[stop] = torch.autograd.grad(loss, W)[0]
    torch.testing.assert_close(slopes["none"], slopes["target"] + slopes["online"])


def test_the_views_share_no_patch_and_the_noise_no_feature(generator):
    patches = draw_samples(SMALL, 500, generator)
    assert (patches[:, SMALL.feature_patches :, : SMALL.features] == 0).all()
    assert (patches[:, : SMALL.feature_patches, SMALL.features :] == 0).all()
    assert (draw_view(SMALL, 500, generator).sum(1) == SMALL.patches // 2).all()


def test_the_same_generator_gives_the_same_run():
    runs = [
        sgd(
            SMALL,
            near(SMALL),
            torch.Generator().manual_seed(3),
            learning_rate=0.1,
            steps=5,
            batch=32,
        )
        for _ in range(2)
    ]
    np.testing.assert_array_equal(runs[0].inner_products, runs[1].inner_products)


@pytest.mark.parametrize(
    ("settings", "word"),
    [
        ({}, "batch"),
        ({"batch": 1}, "batch"),
        ({"batch": 9, "samples": 8}, "at most samples"),
        ({"batch": 4, "learning_rate": 0.0}, "learning_rate"),
        ({"batch": 4, "steps": 0}, "steps"),
    ],
)
def test_settings_that_mean_nothing_are_refused(settings, word, generator):
    with pytest.raises(ConfigError, match=word):
        sgd(SMALL, near(SMALL), generator, **{"learning_rate": 0.1, "steps": 5, **settings})


def test_training_that_diverges_says_at_which_step(generator):
    problem = Problem(dim=8, normaliser="none")
    run = sgd(problem, near(problem), generator, learning_rate=50.0, steps=50, batch=16)
    assert run.failure is not None and "stopped at step" in run.failure
    assert np.isfinite(run.inner_products).all()
