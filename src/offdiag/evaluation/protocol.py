"""The two evaluations together, with their settings stated."""

from typing import Any

from offdiag.evaluation import linear
from offdiag.evaluation.features import Features
from offdiag.evaluation.knn import NEIGHBOURS, TEMPERATURE, knn_accuracy
from offdiag.evaluation.linear import linear_probe


def knn_accuracies(train: Features, test: Features) -> dict[str, float]:
    """Weighted kNN on the features and on the projection, in [0, 1]."""
    assert train.labels is not None and test.labels is not None
    return {
        part: knn_accuracy(
            getattr(train, part),
            train.labels,
            getattr(test, part),
            test.labels,
            neighbours=min(NEIGHBOURS, len(train.labels)),
        )
        for part in ("features", "projection")
    }


def evaluate(train: Features, test: Features) -> dict[str, Any]:
    """kNN and linear-probe accuracies of features and projection, in [0, 1], with settings."""
    assert train.labels is not None and test.labels is not None
    probes = {
        part: linear_probe(getattr(train, part), train.labels, getattr(test, part), test.labels)
        for part in ("features", "projection")
    }
    return {
        "knn": knn_accuracies(train, test),
        "linear": {part: probe.accuracy for part, probe in probes.items()},
        "settings": {
            "train_images": len(train.labels),
            "test_images": len(test.labels),
            "knn": {
                "neighbours": min(NEIGHBOURS, len(train.labels)),
                "similarity": "cosine",
                "weight": f"exp(similarity / {TEMPERATURE})",
            },
            "linear": {
                "model": "multinomial logistic regression, L-BFGS, standardised inputs",
                "C": linear.INVERSE_REGULARISATION,
                "max_iterations": linear.MAX_ITERATIONS,
                "converged": {part: probe.converged for part, probe in probes.items()},
            },
        },
    }
