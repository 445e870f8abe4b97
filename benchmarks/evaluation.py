"""How long do kNN and the linear probe take, beside scikit-learn's on the same features?

    python benchmarks/evaluation.py [--device cuda] [--rows 50000] [--dim 512] [--classes 10]

The features are clusters of correlated directions. scikit-learn runs on the CPU; give the
number of threads by OMP_NUM_THREADS. Each is run once, after a small warm-up.
"""

import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import tyro
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler, normalize

from offdiag.evaluation.knn import TEMPERATURE, knn_accuracy
from offdiag.evaluation.linear import INVERSE_REGULARISATION, MAX_ITERATIONS, linear_probe
from offdiag.runs.circumstances import circumstances


@dataclass(frozen=True, kw_only=True)
class Settings:
    rows: int = 50_000
    queries: int = 10_000
    dim: int = 512
    classes: int = 10
    spread: float = 12.0
    """Deviation of the noise over that of the classes' centres."""
    decades: float = 1.0
    """Powers of ten that the deviations of the directions span."""
    device: str = "cpu"
    alone: bool = False
    """Leave scikit-learn out."""


def clusters(settings: Settings) -> tuple[torch.Tensor, torch.Tensor]:
    draw = torch.Generator().manual_seed(0)
    dim, rows = settings.dim, settings.rows + settings.queries
    centres = torch.randn(settings.classes, dim, generator=draw)
    mix = torch.randn(dim, dim, generator=draw) * torch.logspace(0, -settings.decades, dim)
    labels = torch.arange(rows) % settings.classes
    noise = torch.randn(rows, dim, generator=draw)
    return (centres[labels] + settings.spread * noise) @ mix.T, labels


def seconds(work: Callable[[], Any], device: torch.device) -> tuple[Any, float]:
    start = time.perf_counter()
    result = work()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return result, time.perf_counter() - start


def main(settings: Settings) -> None:
    device = torch.device(settings.device)
    about = circumstances(device)
    print(f"{about['date']}, {about['device']}, {about['threads']} threads, {about['versions']}")
    features, labels = clusters(settings)
    x, y = features.split([settings.rows, settings.queries])
    seen, asked = labels.split([settings.rows, settings.queries])
    there = [part.to(device) for part in (x, seen, y, asked)]
    few = [part[:256] for part in there]
    knn_accuracy(*few), linear_probe(*few)  # the device's libraries are loaded at first use

    knn, knn_seconds = seconds(lambda: knn_accuracy(*there), device)
    probe, probe_seconds = seconds(lambda: linear_probe(*there), device)
    print(f"kNN          {knn_seconds:7.2f} s  accuracy {knn:.4f}")
    print(f"linear probe {probe_seconds:7.2f} s  accuracy {probe.accuracy:.4f}")
    if settings.alone:
        return

    def neighbours() -> float:
        vote = lambda distances: np.exp(-(distances**2) / 2 / TEMPERATURE)  # noqa: E731
        model = KNeighborsClassifier(20, algorithm="brute", weights=vote)
        # of vectors of length 1: |a - b|^2 / 2 = 1 - cosine
        model.fit(normalize(x.numpy()), seen.numpy())
        return float(model.score(normalize(y.numpy()), asked.numpy()))

    def regression() -> float:
        model = make_pipeline(
            StandardScaler(), LogisticRegression(C=INVERSE_REGULARISATION, max_iter=MAX_ITERATIONS)
        )
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            model.fit(x.numpy(), seen.numpy())
        return float(model.score(y.numpy(), asked.numpy()))

    here = torch.device("cpu")
    for name, work, ours in (
        ("kNN         ", neighbours, knn_seconds),
        ("linear probe", regression, probe_seconds),
    ):
        accuracy, theirs = seconds(work, here)
        print(
            f"{name} {theirs:7.2f} s  accuracy {accuracy:.4f}  by scikit-learn: "
            f"{theirs / ours:.1f} times as long"
        )


if __name__ == "__main__":
    main(tyro.cli(Settings, description=__doc__))
