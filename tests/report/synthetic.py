"""Records of runs that never were, shaped like those of the digits."""

import functools
import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from offdiag.results.comparison import Cell, Combination, Comparison, Ending, Status
from offdiag.results.history import HeadMatrices, Row, RunRecord
from offdiag.results.readings import HeadReadings, Readings
from offdiag.runs.config import RunConfig

WIDTHS = {"features": 128, "projection": 64, "prediction": 64}


@functools.cache
def geometric_spectrum(width: int, rank: float) -> tuple[float, ...]:
    """Shares that fall geometrically and have about the effective rank asked for."""
    low, high = 1e-6, 1 - 1e-9
    for _ in range(50):
        middle = (low + high) / 2
        shares = middle ** np.arange(width)
        shares = shares / shares.sum()
        found = math.exp(-(shares * np.log(np.clip(shares, 1e-300, None))).sum())
        low, high = (middle, high) if found < rank else (low, middle)
    return tuple(shares.tolist())


def readings(width: int, rank: float, *, spread: float = 0.95) -> Readings:
    """Readings that agree with each other; `spread` is the std over its healthy value."""
    shares = geometric_spectrum(width, round(rank, 1))
    return Readings(
        dim=width,
        effective_rank=rank,
        rankme=min(2.2 * rank, width),
        std=spread * width**-0.5,
        top_share=shares[0],
        spectrum=shares[:256],
    )


def run(
    name: str,
    *,
    head: str = "off-diagonal",
    epochs: int = 100,
    planned: int | None = None,
    ranks: tuple[float, float] = (9.0, 14.6),
    loss: float = 0.105,
    spread: float = 0.95,
    knn: float | None = 0.953,
    width: int = 64,
    seed: int = 0,
    rows: Sequence[int] | None = None,
    **settings: Any,
) -> RunRecord:
    """A run that moves smoothly from the first rank to the second, with some noise.

    `knn` None means no labels; a head of "mlp" is no matrix; the norm of the
    off-diagonal head rises to 3.35 at three eighths and falls to a quarter.
    """
    random = np.random.default_rng(seed)
    widths = {"features": 2 * width, "projection": width, "prediction": width}
    config = RunConfig(head=head, epochs=planned or epochs, seed=seed, **settings)
    history = tuple(
        _row(epoch, epochs, head, ranks, loss, spread, knn, widths, random)
        for epoch in (rows or range(1, epochs + 1))
    )
    done = history[-1].epoch >= config.epochs
    return RunRecord(
        name=name,
        config=config.to_dict(),
        circumstances={
            "date": "2026-11-23",
            "device": "cpu: a processor",
            "versions": {"offdiag": "0.1.0", "torch": "2.15.0"},
        },
        history=history,
        head=_matrices(head, width, epochs, random),
        evaluation=_evaluation(knn) if knn is not None and done else None,
    )


def _row(
    epoch: int,
    epochs: int,
    head: str,
    ranks: tuple[float, float],
    loss: float,
    spread: float,
    knn: float | None,
    widths: dict[str, int],
    random: np.random.Generator,
) -> Row:
    progress = epoch / epochs
    settled = 1 - math.exp(-5 * progress)
    rank = ranks[0] + (ranks[1] - ranks[0]) * settled + 0.15 * random.standard_normal()
    norm = _norm(head, progress)
    accuracy = None
    if knn is not None:
        noise = 0.004 * random.standard_normal()
        projection = min(1.0, 0.5 + (knn - 0.5) * settled + noise)
        accuracy = {"features": min(1.0, projection + 0.02), "projection": projection}
    return Row(
        step=5 * epoch,
        epoch=float(epoch),
        seconds=0.35 * epoch,
        loss=loss + (1 - loss) * math.exp(-9 * progress) + 0.003 * random.standard_normal(),
        learning_rate=3e-3,
        head_learning_rate=3e-3,
        images_per_second=4000.0,
        features=readings(widths["features"], min(1.6 * rank + 4, widths["features"])),
        projection=readings(widths["projection"], max(rank, 1.0), spread=spread),
        prediction=readings(widths["prediction"], max(0.9 * rank, 1.0)),
        head=None
        if norm is None
        else HeadReadings(
            off_diagonal_norm=norm,
            asymmetry=math.nan if norm == 0 else 0.6 + 0.5 * math.sin(3 * progress),
            identity_distance=norm,
        ),
        knn=accuracy,
    )


def _norm(head: str, progress: float) -> float | None:
    if head == "mlp":
        return None
    if head == "none":
        return 0.0
    if head == "linear":
        return 4.6 + progress
    return 0.25 + 3.1 * math.exp(-(((progress - 0.375) / 0.2) ** 2)) - 0.2 * (1 - progress)


def _matrices(
    head: str, width: int, epochs: int, random: np.random.Generator
) -> HeadMatrices | None:
    if head == "mlp":
        return None
    eye = np.eye(width, dtype=np.float32)
    off = random.standard_normal((width, width)).astype(np.float32) / width
    off *= random.random((width, width)) < 0.2
    np.fill_diagonal(off, 0)
    if head == "none":
        start = peak = end = eye
    elif head == "linear":
        start = random.uniform(-1, 1, (width, width)).astype(np.float32) / width**0.5
        peak = end = start + eye / 2
    else:
        start, peak, end = eye, eye + 12 * off, eye + off
    return HeadMatrices(
        start=start, peak=peak, end=end, peak_epoch=0.375 * epochs, end_epoch=float(epochs)
    )


def _evaluation(knn: float) -> dict[str, Any]:
    return {
        "knn": {"features": min(knn + 0.02, 1.0), "projection": knn},
        "linear": {"features": min(knn + 0.03, 1.0), "projection": min(knn + 0.01, 1.0)},
        "settings": {"train_images": 1437, "test_images": 360, "knn": {"neighbours": 20}},
    }


def demo() -> list[RunRecord]:
    """The four runs of the demo, with the numbers of the prototype."""
    return [
        run("none", head="none", ranks=(9, 3.0), loss=0.046, knn=0.891),
        run("off-diagonal", ranks=(9, 14.6), loss=0.105, knn=0.953, seed=1),
        run("linear", head="linear", ranks=(9, 7.6), loss=0.132, knn=0.851, seed=2),
        run("mlp", head="mlp", ranks=(9, 20.2), loss=0.163, knn=0.969, seed=3),
    ]


HOSTILE = (
    "<script>alert(1)</script>",
    "\"&'</script><img src=x onerror=alert(1)>",
    "</title></style><!--<script>",
    "{{ 7 * 7 }}{% raw %}${alert(1)}",
    "a.b[0]\\'\"\u2028 datum.run\n\\",
)


def hostile() -> list[RunRecord]:
    """Runs whose names and settings try to become part of the page."""
    return [
        replace(
            run(name, epochs=12, seed=number),
            config={"head": name, name: name, "epochs": 12, "projector": [8, 4]},
            circumstances={name: {name: name}},
        )
        for number, name in enumerate(HOSTILE)
    ]


def comparison() -> Comparison:
    """Two heads and two normalisers over three seeds, all finished."""
    cells = []
    for seed in range(3):
        for normaliser in ("bn", "l2"):
            for head, rank, knn in (("off-diagonal", 14.6, 0.95), ("none", 3.0, 0.89)):
                name = f"simsiam_{head}_{normaliser}_seed{seed}"
                record = run(
                    name,
                    head=head,
                    ranks=(9, rank + 0.1 * seed),
                    knn=knn + 0.002 * seed,
                    epochs=24,
                    seed=seed,
                    normaliser=normaliser,
                )
                cells.append(
                    Cell(
                        name=name,
                        combination=Combination(method="simsiam", normaliser=normaliser, head=head),
                        seed=seed,
                        status=Status.FINISHED,
                        ending=Ending.of(record),
                        history=record.history,
                        settings=record.config,
                        circumstances=record.circumstances,
                    )
                )
    return Comparison(name="grid", cells=tuple(cells))
