import json

import pytest

from offdiag._checks import ConfigError
from offdiag.theory.problem import Problem


@pytest.mark.parametrize(
    ("nonsense", "word"),
    [
        ({"dim": 3}, "dim"),
        ({"strengths": ()}, "strengths"),
        ({"strengths": (4.0, -1.0)}, "strengths"),
        ({"strengths": (4.0, float("nan"))}, "strengths"),
        ({"probabilities": (0.5, 0.6)}, "probabilities"),
        ({"probabilities": (1.0,)}, "probabilities"),
        ({"patches": 1}, "patches"),
        ({"patches": 15}, "even"),
        ({"feature_patches": 0}, "feature_patches"),
        ({"feature_patches": 1}, "feature"),
        ({"feature_patches": 1, "masks": "independent"}, "feature_patches"),
        ({"masks": "third"}, "masks"),
        ({"noise": -1.0}, "noise"),
        ({"noise": float("inf")}, "noise"),
        ({"neurons": 0}, "neurons"),
        ({"power": 2}, "power"),
        ({"power": 7}, "power"),
        ({"normaliser": "layer"}, "normaliser"),
        ({"stop_gradient": "both"}, "stop_gradient"),
        ({"head_lr_ratio": -0.1}, "head_lr_ratio"),
        ({"head_trains": ((False, True),)}, "head_trains"),
        ({"head_start": ((1.0, float("nan")), (0.0, 1.0))}, "head_start"),
        ({"seed": -1}, "seed"),
    ],
)
def test_nonsense_is_refused_in_one_sentence_that_names_the_setting(nonsense, word):
    # Set after building: the type checker of the tests would refuse a wrong word before we do.
    problem = Problem()
    for name, value in nonsense.items():
        object.__setattr__(problem, name, value)
    with pytest.raises(ConfigError, match=word) as caught:
        problem.__post_init__()
    assert "\n" not in str(caught.value)


def test_a_problem_survives_the_journey_through_json():
    problem = Problem(
        strengths=(4.0, 3.0, 2.0),
        probabilities=(0.5, 0.25, 0.25),
        neurons=3,
        head_trains=((False, True, True), (True, False, True), (False, False, False)),
        masks="independent",
    )
    assert Problem.from_dict(json.loads(json.dumps(problem.to_dict()))) == problem


def test_patch_moments_match_counting_every_mask():
    from itertools import combinations, product

    patches, features = 8, 3
    half = [sum(i < features for i in kept) for kept in combinations(range(patches), patches // 2)]
    free = [sum(kept[:features]) for kept in product((0, 1), repeat=patches)]
    for masks, counts in (("half", half), ("independent", free)):
        problem = Problem(patches=patches, feature_patches=features, masks=masks)
        same, cross = problem.patch_moments
        assert same == pytest.approx(sum(n * n for n in counts) / len(counts))
        assert cross == pytest.approx(sum(n * (features - n) for n in counts) / len(counts))
