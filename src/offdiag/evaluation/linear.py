"""A linear probe on frozen features."""

import warnings
from dataclasses import dataclass

from jaxtyping import Float, Int
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import Tensor

INVERSE_REGULARISATION = 1.0
MAX_ITERATIONS = 500


@dataclass(frozen=True, kw_only=True)
class Probe:
    """Accuracy in [0, 1] on the held-out features, and whether the fit converged."""

    accuracy: float
    converged: bool


def linear_probe(
    train: Float[Tensor, "train dim"],
    train_labels: Int[Tensor, " train"],
    test: Float[Tensor, "test dim"],
    test_labels: Int[Tensor, " test"],
) -> Probe:
    """Multinomial logistic regression (L-BFGS, C = 1, at most 500 iterations).

    Each feature is standardised by the mean and deviation of the training set.
    Deterministic: there is no seed.
    """
    model = make_pipeline(
        StandardScaler(),
        LogisticRegression(C=INVERSE_REGULARISATION, max_iter=MAX_ITERATIONS),
    )
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", ConvergenceWarning)
        model.fit(train.cpu().numpy(), train_labels.cpu().numpy())
    return Probe(
        accuracy=float(model.score(test.cpu().numpy(), test_labels.cpu().numpy())),
        converged=not any(issubclass(w.category, ConvergenceWarning) for w in caught),
    )
