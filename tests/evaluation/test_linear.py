"""The linear probe against scikit-learn's, fitted to the end."""

import pytest
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from offdiag.evaluation import linear
from offdiag.evaluation.lbfgs import minimise
from offdiag.evaluation.linear import linear_probe


def clusters(rows, *, classes, dim=24, spread=2.0, decades=1.0, seed=0):
    """Classes of correlated features, whose deviations span `decades` powers of ten."""
    draw = torch.Generator().manual_seed(9)
    centres = torch.randn(classes, dim, generator=draw)
    mix = torch.randn(dim, dim, generator=draw) * torch.logspace(0, -decades, dim)
    draw.manual_seed(seed)
    labels = torch.arange(rows) % classes
    noise = torch.randn(rows, dim, generator=draw)
    return (centres[labels] + spread * noise) @ mix.T + 5, labels


def reference(x, labels, tolerance=1e-8):
    model = make_pipeline(
        StandardScaler(), LogisticRegression(C=1.0, max_iter=10_000, tol=tolerance)
    )
    return model.fit(x.double().numpy(), labels.numpy())


@pytest.mark.parametrize(
    "classes, spread, decades",
    [(2, 2.0, 1.0), (2, 0.3, 1.0), (10, 3.0, 2.0), (10, 0.3, 0.0), (37, 2.0, 1.0)],
)
def test_the_probe_scores_as_scikit_learns_does(classes, spread, decades):
    x, labels = clusters(2_000, classes=classes, spread=spread, decades=decades)
    y, others = clusters(8_000, classes=classes, spread=spread, decades=decades, seed=1)
    probe = linear_probe(x, labels, y, others)
    expected = reference(x, labels).score(y.double().numpy(), others.numpy())
    assert probe.converged
    assert probe.accuracy == pytest.approx(expected, abs=1e-3)


@pytest.mark.parametrize("classes", [2, 5])
def test_the_probe_has_the_weights_that_scikit_learn_has(classes, monkeypatch):
    monkeypatch.setattr(linear, "TOLERANCE", 1e-6)
    x, labels = clusters(500, classes=classes)
    model = reference(x, labels)
    scaled = torch.from_numpy(model[0].transform(x.double().numpy())).float()
    W, b, converged = linear._fitted(scaled, labels, classes)
    W, b = (W[1:], b[1:]) if classes == 2 else (W, b)
    assert converged
    torch.testing.assert_close(W, torch.from_numpy(model[1].coef_), atol=1e-3, rtol=1e-3)
    # scikit-learn leaves what all biases have in common where it happens to be
    b, expected = b, torch.from_numpy(model[1].intercept_)
    if classes > 2:
        b, expected = b - b.mean(), expected - expected.mean()
    torch.testing.assert_close(b, expected, atol=1e-3, rtol=1e-3)


def test_separated_classes_are_told_apart_and_pure_noise_is_not():
    x, labels = clusters(400, classes=4, spread=0.01)
    assert linear_probe(x, labels, x, labels).accuracy == 1
    x, labels = clusters(400, classes=4, spread=1e4)
    y, others = clusters(400, classes=4, spread=1e4, seed=1)
    assert linear_probe(x, labels, y, others).accuracy < 0.5


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_any_float_type_is_probed(dtype):
    x, labels = clusters(200, classes=3, spread=0.3)
    assert linear_probe(x.to(dtype), labels, x.to(dtype), labels).accuracy > 0.98


def test_constant_features_and_repeated_ones_change_nothing():
    x, labels = clusters(300, classes=3, spread=3)
    wider = torch.cat([x, torch.full((300, 2), 7.3)], dim=1)
    assert linear_probe(wider, labels, wider, labels) == linear_probe(x, labels, x, labels)
    assert linear_probe(torch.cat([x, x], 1), labels, torch.cat([x, x], 1), labels).converged


def test_more_features_than_images_are_probed():
    x, labels = clusters(30, classes=3, dim=100, spread=1)
    assert linear_probe(x, labels, x, labels).accuracy == 1


def test_classes_that_training_never_saw_count_as_wrong():
    x, labels = clusters(90, classes=3, spread=0.1)
    seen = labels != 1
    probe = linear_probe(x[seen], labels[seen], x, labels)
    assert probe.accuracy == pytest.approx(2 / 3)
    assert linear_probe(x[labels == 2], labels[labels == 2], x, labels).accuracy == pytest.approx(
        1 / 3
    )


def test_a_probe_that_did_not_converge_says_so(monkeypatch):
    monkeypatch.setattr(linear, "MAX_ITERATIONS", 1)
    x, labels = clusters(200, classes=4, spread=1)
    assert not linear_probe(x, labels, x, labels).converged


def test_the_minimiser_finds_the_bottom_of_a_narrow_valley():
    scale = torch.logspace(0, 4, 8, dtype=torch.float64)

    def bowl(x):
        return (scale * (x - 1) ** 2).sum() / 2, scale * (x - 1)

    start = torch.zeros(8, dtype=torch.float64)
    x, converged = minimise(bowl, start, precondition=lambda g: g, tolerance=1e-6, iterations=200)
    assert converged
    torch.testing.assert_close(x, torch.ones_like(x), atol=1e-6, rtol=0)
    steps = []
    minimise(
        lambda x: (steps.append(1), bowl(x))[1],
        start,
        precondition=lambda g: g / scale,
        tolerance=1e-6,
        iterations=200,
    )
    assert len(steps) == 2  # the exact inverse Hessian needs one step
