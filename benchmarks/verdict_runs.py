"""Short real training runs, healthy and failing in many ways, whose truth is known by labels.

    python benchmarks/verdict_runs.py OUT [--fashion-mnist FOLDER] [--jobs 2] [--only TEXT]
    python benchmarks/verdict_runs.py OUT --read     # readings anew, from the kept outputs

For each run OUT/<data>/<case>/ gets
    outputs.npz     what encoder, projector and predictor say of 512 training images, two
                    random views each (drawn by the run's own recipe, the same throughout),
                    at the random start and 32 times while training, in evaluation mode
    monitor.jsonl   the readings of those outputs and the loss: all that a verdict may see
    truth.json      accuracies by labels, at each observation and at the end
Two settings: scikit-learn's digits, and 6,000 + 1,000 images of Fashion-MNIST (the four .gz files
of its authors; Debian's package dataset-fashion-mnist has them), each with one small encoder.

What a run is in truth (written before any verdict was looked at):

- Two accuracies on held-out images say what the frozen projection is worth: a linear probe
  (is the information there?) and weighted kNN (is it in the distances?). Each is set against the
  best that any run of the setting reached at its end: what is *lost* is
  (best - accuracy) / (best - chance), 0: as good as the best, 1: nothing left but chance, 0.1.
- COLLAPSED: the linear probe lost more than 0.10, or kNN more than 0.25.
  HEALTHY: the linear probe lost less than 0.07 and kNN less than 0.18.
  What lies between is a grey zone, reported by itself and counted in no score.
  kNN is given more room because in short runs on Fashion-MNIST it prefers a projection of few
  directions to a rich one (pilot runs: no head 0.67 against 0.63 with an MLP head, where the
  linear probe has 0.64 against 0.74); the bounds were set after six pilot runs, by their
  accuracies alone.
- The cause of a loss has no part in this: what learned nothing, or was shown the wrong views,
  counts as COLLAPSED if it lost enough, and a run with a strange setting as HEALTHY if it did not.
- When is it there? kNN of the projection is taken at each observation (700 images stored, 350
  asked), the linear probe is not.
  A collapsed run has collapsed by observation t if, from t on to the end, its kNN stays below
  that of the healthy runs of its setting (their median at the same observation) by more than 0.1
  of the way down to chance. Where kNN never does, the time is unknown and the run counts in no
  time to detection that asks for it.
- What features are worth is recorded beside it and has no part in the truth: the objective sees
  the projection, and so does the verdict.

There are three rounds. Round one (83 runs) had a third of its runs held out from the first rule;
those are spent, and tuned the second rule together with the rest. Round two (ROUND_TWO, 51 runs:
new seeds, and settings that round one never had) was listed with that rule, before any of its runs
was trained, and is held out as a whole. Its truth is the one above, the best being taken over
both rounds. verdict.py also counts it against the best of round one alone, which no run of round
two can move, and gives the rank correlation of each score with what is lost, which needs no
bounds. Round three (64 runs) repeats every case of round two from another random start and adds
thirteen late collapses, of which round two had too few. The rule had been frozen before round two
and was not touched; the list was committed before the first of its runs was trained.

Those three are spent: they tuned the rule that counts steps and judges the features. Round four
(46 runs, one new random start, faults that no round had: identical views, views of another image,
a frozen encoder) was listed before it was trained, and is held out from that rule.
"""

import argparse
import gzip
import hashlib
import math
import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from joblib import Parallel, delayed
from torch import Tensor, nn

from offdiag._files import write_json, write_whole
from offdiag.data.dataset import Dataset, Splits
from offdiag.data.loader import normalisation_of, two_view_loader
from offdiag.data.readers import digits
from offdiag.data.view_recipes import VIEWS, ViewRecipe
from offdiag.data.views import make_view
from offdiag.diagnostics.readings import noise_readings, read_part
from offdiag.encoders import Encoder, projector, small_conv
from offdiag.evaluation.features import extract
from offdiag.evaluation.protocol import evaluate, knn_accuracies
from offdiag.heads import HEADS
from offdiag.losses import NORMALISERS, no_normaliser
from offdiag.methods.byol import BYOL
from offdiag.methods.method import AbstractMethod, Output
from offdiag.methods.simsiam import SimSiam
from offdiag.results.observation import Observation, start_file
from offdiag.runs.circumstances import circumstances
from offdiag.training.optimizers import make_optimizer
from offdiag.training.schedules import Schedule

OBSERVATIONS = 32  # besides the random start
PROBE_IMAGES = 512
PROBE_SEED = 7
PARTS = ("encoder", "projector", "predictor")
PROJECTION = 64
DIGITS, FASHION = ("digits",), ("fashion-mnist",)
BOTH = DIGITS + FASHION


class VICReg(AbstractMethod):
    """Invariance, variance and covariance terms with their weights (Bardes et al. 2022)."""

    def __init__(
        self, encoder: Encoder, project: nn.Module, *, weights: tuple[float, float, float]
    ) -> None:
        super().__init__()
        self.encoder, self.projector, self.head = encoder, project, nn.Identity()
        self.weights = weights

    def forward(self, view_a: Tensor, view_b: Tensor) -> Output:
        h_a, z_a, p_a = self.embed(view_a)
        h_b, z_b, p_b = self.embed(view_b)
        invariance, variance, covariance = self.weights
        loss = invariance * F.mse_loss(z_a, z_b)
        for z in (z_a, z_b):
            loss = loss + 0.5 * variance * (1 - (z.var(0) + 1e-4).sqrt()).relu().mean()
            loss = loss + covariance * _off_diagonal(torch.cov(z.T)).square().sum() / z.shape[1]
        return Output(loss=loss, features=(h_a, h_b), projection=(z_a, z_b), prediction=(p_a, p_b))


class BarlowTwins(AbstractMethod):
    """Cross-correlation of the two views towards the identity (Zbontar et al. 2021)."""

    def __init__(self, encoder: Encoder, project: nn.Module, *, weight: float) -> None:
        super().__init__()
        self.encoder, self.projector, self.head = encoder, project, nn.Identity()
        self.weight = weight

    def forward(self, view_a: Tensor, view_b: Tensor) -> Output:
        h_a, z_a, p_a = self.embed(view_a)
        h_b, z_b, p_b = self.embed(view_b)
        normal = [F.batch_norm(z, None, None, training=True) for z in (z_a, z_b)]
        correlation = normal[0].T @ normal[1] / len(z_a)
        loss = (1 - correlation.diagonal()).square().sum()
        loss = loss + self.weight * _off_diagonal(correlation).square().sum()
        loss = loss / z_a.shape[1]
        return Output(loss=loss, features=(h_a, h_b), projection=(z_a, z_b), prediction=(p_a, p_b))


def _off_diagonal(square: Tensor) -> Tensor:
    return square - square.diagonal().diag()


Build = Callable[[Encoder, nn.Module, int], AbstractMethod]
Change = Callable[[AbstractMethod, torch.optim.Optimizer], None]


def simsiam(head: str, normaliser: str = "bn", stop_gradient: str = "target") -> Build:
    return lambda encoder, project, dim: SimSiam(
        encoder,
        project,
        head=HEADS[head](dim),
        normalise=NORMALISERS[normaliser],
        stop_gradient=stop_gradient,
    )


def byol(head: str, normaliser: str = "bn", momentum: float = 0.98) -> Build:
    return lambda encoder, project, dim: BYOL(
        encoder,
        project,
        head=HEADS[head](dim),
        normalise=NORMALISERS[normaliser],
        momentum=momentum,
    )


def vicreg(invariance: float, variance: float, covariance: float) -> Build:
    weights = (invariance, variance, covariance)
    return lambda encoder, project, dim: VICReg(encoder, project, weights=weights)


def barlow(weight: float) -> Build:
    return lambda encoder, project, dim: BarlowTwins(encoder, project, weight=weight)


def lose_head(method: AbstractMethod, optimizer: torch.optim.Optimizer) -> None:
    method.head = HEADS["none"](PROJECTION)


def lose_stop_gradient(method: AbstractMethod, optimizer: torch.optim.Optimizer) -> None:
    method.stop_gradient = "none"


def lose_normaliser(method: AbstractMethod, optimizer: torch.optim.Optimizer) -> None:
    method.normalise = no_normaliser


def decay(strength: float) -> Change:
    def change(method: AbstractMethod, optimizer: torch.optim.Optimizer) -> None:
        for group in optimizer.param_groups:
            if group["name"] in ("weights", "head"):
                group["weight_decay"] = strength

    return change


def hurry(factor: float) -> Change:
    def change(method: AbstractMethod, optimizer: torch.optim.Optimizer) -> None:
        for group in optimizer.param_groups:
            group["base_lr"] *= factor

    return change


def lose_variance_term(method: AbstractMethod, optimizer: torch.optim.Optimizer) -> None:
    method.weights = (25, 0, 0)


def lose_head_and_average(method: AbstractMethod, optimizer: torch.optim.Optimizer) -> None:
    lose_head(method, optimizer)
    method.momentum = 0.0


@dataclass(frozen=True, kw_only=True)
class Case:
    """One way to train, as it departs from the setting. `half_way` is done once, in the middle.
    `on` names the data sets that it is trained on."""

    mode: str
    name: str
    build: Build
    seed: int = 0
    lr: float = 3e-3
    weight_decay: float = 1e-6
    batch_size: int | None = None
    more_steps: int = 1
    hidden: int = 128
    projection: int = PROJECTION
    optimizer: str = "adam"
    views: Callable[[ViewRecipe], ViewRecipe] = lambda recipe: recipe
    half_way: Change | None = None
    pair: Callable[[Tensor, Tensor], tuple[Tensor, Tensor]] = lambda a, b: (a, b)
    frozen: bool = False
    on: tuple[str, ...] = BOTH


def weak(recipe: ViewRecipe) -> ViewRecipe:
    return replace(recipe, crop_scale=(0.95, 1.0), flip=0.0, jitter=0.0)


def strong(recipe: ViewRecipe) -> ViewRecipe:
    return replace(recipe, crop_scale=(0.02, 0.08), brightness=0.9, contrast=0.9, jitter=1.0)


def rather_strong(recipe: ViewRecipe) -> ViewRecipe:
    return replace(recipe, crop_scale=(0.08, 0.3), brightness=0.6, contrast=0.6, jitter=1.0)


def faint(recipe: ViewRecipe) -> ViewRecipe:
    return replace(recipe, crop_scale=(0.7, 1.0), jitter=0.3)


def small_crops(recipe: ViewRecipe) -> ViewRecipe:
    return replace(recipe, crop_scale=(0.1, 0.4))


OFF, MLP, NONE = simsiam("off-diagonal"), simsiam("mlp"), simsiam("none")

CASES = (
    Case(mode="heads", name="off-diagonal", build=OFF),
    Case(mode="heads", name="off-diagonal-1", on=DIGITS, build=OFF, seed=1),
    Case(mode="heads", name="mlp", build=MLP),
    Case(mode="heads", name="mlp-1", on=DIGITS, build=MLP, seed=1),
    Case(mode="heads", name="linear", build=simsiam("linear")),
    Case(mode="heads", name="full", on=DIGITS, build=simsiam("full")),
    Case(mode="heads", name="mlp-l2", build=simsiam("mlp", "l2")),
    Case(mode="byol", name="byol-off-diagonal", build=byol("off-diagonal")),
    Case(mode="byol", name="byol-mlp-l2", build=byol("mlp", "l2")),
    Case(mode="width", name="projection-32", build=OFF, projection=32),
    Case(mode="width", name="projection-256", on=DIGITS, build=MLP, projection=256),
    Case(mode="no head", name="none", build=NONE),
    Case(mode="no head", name="none-1", on=DIGITS, build=NONE, seed=1),
    Case(mode="no head", name="none-l2", on=DIGITS, build=simsiam("none", "l2")),
    Case(mode="no head", name="byol-none", on=DIGITS, build=byol("none", momentum=0.9)),
    Case(mode="no stop-gradient", name="off-open", build=simsiam("off-diagonal", "bn", "none")),
    Case(mode="no stop-gradient", name="mlp-open", build=simsiam("mlp", "bn", "none")),
    Case(
        mode="no stop-gradient",
        name="mlp-l2-open",
        on=DIGITS,
        build=simsiam("mlp", "l2", "none"),
    ),
    Case(mode="no normaliser", name="off-bare", build=simsiam("off-diagonal", "none")),
    Case(mode="no normaliser", name="mlp-bare", build=simsiam("mlp", "none")),
    Case(mode="no normaliser", name="off-l2", on=DIGITS, build=simsiam("off-diagonal", "l2")),
    Case(mode="learning rate", name="lr-1e-5", build=OFF, lr=1e-5),
    Case(mode="learning rate", name="lr-1e-3", on=DIGITS, build=MLP, lr=1e-3),
    Case(mode="learning rate", name="lr-0.1", build=OFF, lr=0.1),
    Case(mode="learning rate", name="lr-1", on=DIGITS, build=MLP, lr=1.0),
    Case(mode="learning rate", name="sgd-100", on=DIGITS, build=OFF, lr=100.0, optimizer="sgd"),
    Case(mode="weight decay", name="decay-0.01", on=DIGITS, build=MLP, weight_decay=0.01),
    Case(mode="weight decay", name="decay-0.1", build=OFF, weight_decay=0.1),
    Case(mode="weight decay", name="decay-1", on=DIGITS, build=MLP, weight_decay=1.0),
    Case(mode="ema", name="momentum-0", build=byol("none", momentum=0.0)),
    Case(
        mode="ema",
        name="momentum-0-mlp-l2",
        on=DIGITS,
        build=byol("mlp", "l2", momentum=0.0),
    ),
    Case(mode="ema", name="momentum-1", build=byol("mlp", momentum=1.0)),
    Case(mode="views", name="weak", build=OFF, views=weak),
    Case(mode="views", name="rather-strong", on=DIGITS, build=OFF, views=rather_strong),
    Case(mode="views", name="strong", build=MLP, views=strong),
    Case(mode="batch", name="batch-32", on=DIGITS, build=OFF, batch_size=32, more_steps=2),
    Case(mode="batch", name="batch-4", build=OFF, batch_size=4, more_steps=3),
    Case(mode="terms", name="vicreg", build=vicreg(25, 25, 1)),
    Case(mode="terms", name="vicreg-no-covariance", build=vicreg(25, 25, 0)),
    Case(mode="terms", name="vicreg-no-variance", build=vicreg(25, 0, 1)),
    Case(mode="terms", name="vicreg-no-invariance", on=DIGITS, build=vicreg(0, 25, 1)),
    Case(mode="terms", name="barlow", build=barlow(5e-3)),
    Case(mode="terms", name="barlow-0", build=barlow(0.0)),
    Case(mode="terms", name="barlow-0.1", on=DIGITS, build=barlow(0.1)),
    Case(mode="bottleneck", name="bottleneck-2", build=MLP, hidden=2),
    Case(mode="bottleneck", name="bottleneck-8", on=DIGITS, build=OFF, hidden=8),
    Case(mode="late", name="late-no-head", build=MLP, half_way=lose_head),
    Case(mode="late", name="late-no-head-off", on=DIGITS, build=OFF, half_way=lose_head),
    Case(mode="late", name="late-open", build=OFF, half_way=lose_stop_gradient),
    Case(mode="late", name="late-bare", build=OFF, half_way=lose_normaliser),
    Case(mode="late", name="late-decay", build=MLP, half_way=decay(0.3)),
    Case(mode="late", name="late-lr", build=OFF, half_way=hurry(100.0)),
)


ROUND_TWO = (
    Case(mode="heads", name="off-diagonal-2", build=OFF, seed=2),
    Case(mode="heads", name="mlp-3", build=MLP, seed=3),
    Case(mode="heads", name="lower", build=simsiam("lower"), seed=2),
    Case(mode="heads", name="symmetric", build=simsiam("symmetric"), on=DIGITS, seed=2),
    Case(mode="heads", name="bias", build=simsiam("bias"), seed=2),
    Case(mode="width", name="projection-128", build=MLP, projection=128, seed=2),
    Case(mode="width", name="projection-24", build=OFF, on=DIGITS, projection=24, seed=2),
    Case(mode="width", name="hidden-256", build=OFF, on=FASHION, hidden=256, seed=2),
    Case(mode="learning rate", name="lr-3e-4", build=MLP, lr=3e-4, seed=2),
    Case(mode="learning rate", name="lr-0.03", build=OFF, lr=0.03, seed=2),
    Case(mode="learning rate", name="lr-0.3", build=MLP, on=FASHION, lr=0.3, seed=2),
    Case(mode="learning rate", name="lr-1e-4", build=OFF, on=DIGITS, lr=1e-4, seed=2),
    Case(mode="learning rate", name="sgd-1", build=OFF, on=DIGITS, lr=1.0, optimizer="sgd", seed=2),
    Case(mode="byol", name="byol-linear", build=byol("linear"), seed=2),
    Case(mode="byol", name="byol-none-0.98", build=byol("none"), seed=2),
    Case(mode="byol", name="byol-mlp-0.5", build=byol("mlp", momentum=0.5), on=FASHION, seed=2),
    Case(mode="no head", name="none-2", build=NONE, seed=2),
    Case(mode="no head", name="none-l2-2", build=simsiam("none", "l2"), on=FASHION, seed=2),
    Case(
        mode="no stop-gradient", name="linear-open", build=simsiam("linear", "bn", "none"), seed=2
    ),
    Case(mode="weight decay", name="decay-0.03", build=MLP, weight_decay=0.03, seed=2),
    Case(mode="weight decay", name="decay-0.3", build=OFF, on=DIGITS, weight_decay=0.3, seed=2),
    Case(mode="views", name="faint", build=MLP, views=faint, seed=2),
    Case(mode="views", name="small-crops", build=OFF, on=FASHION, views=small_crops, seed=2),
    Case(mode="batch", name="batch-16", build=MLP, on=FASHION, batch_size=16, more_steps=2, seed=2),
    Case(mode="terms", name="vicreg-25-1-1", build=vicreg(25, 1, 1), seed=2),
    Case(mode="terms", name="vicreg-25-25-10", build=vicreg(25, 25, 10), on=DIGITS, seed=2),
    Case(mode="terms", name="barlow-0.0005", build=barlow(5e-4), on=FASHION, seed=2),
    Case(mode="bottleneck", name="bottleneck-4", build=MLP, hidden=4, seed=2),
    Case(mode="bottleneck", name="bottleneck-16", build=OFF, on=DIGITS, hidden=16, seed=2),
    Case(mode="late", name="late-decay-1", build=OFF, on=DIGITS, seed=2, half_way=decay(1.0)),
    Case(mode="late", name="late-lr-30", build=MLP, on=FASHION, seed=2, half_way=hurry(30.0)),
    Case(mode="late", name="late-open-mlp", build=MLP, seed=2, half_way=lose_stop_gradient),
    Case(
        mode="late", name="late-terms", build=vicreg(25, 25, 1), seed=2, half_way=lose_variance_term
    ),
    Case(
        mode="late",
        name="late-average",
        build=byol("off-diagonal"),
        on=DIGITS,
        seed=2,
        half_way=lose_head_and_average,
    ),
)


ROUND_THREE = (
    *(replace(case, name=f"{case.name}-again", seed=case.seed + 10) for case in ROUND_TWO),
    Case(mode="late", name="late-decay-3", build=MLP, seed=12, half_way=decay(3.0)),
    Case(mode="late", name="late-lr-100", build=MLP, seed=12, half_way=hurry(100.0)),
    Case(mode="late", name="late-lr-300", build=OFF, on=DIGITS, seed=12, half_way=hurry(300.0)),
    Case(
        mode="late",
        name="late-no-head-l2",
        build=simsiam("mlp", "l2"),
        seed=12,
        half_way=lose_head,
    ),
    Case(
        mode="late",
        name="late-open-l2",
        build=simsiam("mlp", "l2"),
        seed=12,
        half_way=lose_stop_gradient,
    ),
    Case(mode="late", name="late-decay-off", build=OFF, seed=12, half_way=decay(0.5)),
    Case(
        mode="late",
        name="late-average-l2",
        build=byol("mlp", "l2"),
        seed=12,
        half_way=lose_head_and_average,
    ),
)


def same(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    return a, a


def of_another(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    return a, b.roll(1, 0)


ROUND_FOUR = tuple(
    replace(case, seed=31)
    for case in (
        Case(mode="heads", name="off-diagonal-31", build=OFF),
        Case(mode="heads", name="mlp-31", build=MLP),
        Case(mode="heads", name="mlp-l2-31", build=simsiam("mlp", "l2")),
        Case(mode="heads", name="linear-31", build=simsiam("linear"), on=DIGITS),
        Case(mode="heads", name="bias-31", build=simsiam("bias"), on=DIGITS),
        Case(mode="byol", name="byol-mlp-0.9", build=byol("mlp", momentum=0.9), on=DIGITS),
        Case(mode="byol", name="byol-linear-31", build=byol("linear"), on=FASHION),
        Case(mode="width", name="projection-48", build=MLP, projection=48, on=DIGITS),
        Case(mode="no head", name="none-31", build=NONE),
        Case(mode="no head", name="none-l2-31", build=simsiam("none", "l2"), on=DIGITS),
        Case(mode="no stop-gradient", name="mlp-open-31", build=simsiam("mlp", "bn", "none")),
        Case(
            mode="no stop-gradient",
            name="mlp-l2-open-31",
            build=simsiam("mlp", "l2", "none"),
        ),
        Case(mode="learning rate", name="lr-5e-4", build=OFF, lr=5e-4, on=DIGITS),
        Case(mode="learning rate", name="lr-0.05", build=MLP, lr=0.05),
        Case(mode="learning rate", name="lr-0.5", build=OFF, lr=0.5),
        Case(mode="weight decay", name="decay-0.05", build=MLP, weight_decay=0.05, on=DIGITS),
        Case(mode="weight decay", name="decay-0.5", build=OFF, weight_decay=0.5, on=DIGITS),
        Case(mode="views", name="small-crops-31", build=OFF, views=small_crops, on=DIGITS),
        Case(mode="views", name="identical", build=OFF, pair=same),
        Case(mode="views", name="identical-vicreg", build=vicreg(25, 25, 1), pair=same, on=DIGITS),
        Case(mode="views", name="of-another", build=MLP, pair=of_another),
        Case(mode="frozen", name="frozen", build=MLP, frozen=True, on=DIGITS),
        Case(mode="batch", name="batch-8", build=OFF, batch_size=8, more_steps=2, on=DIGITS),
        Case(mode="terms", name="vicreg-31", build=vicreg(25, 25, 1)),
        Case(mode="terms", name="vicreg-25-0.5-1", build=vicreg(25, 0.5, 1)),
        Case(mode="terms", name="vicreg-25-5-1", build=vicreg(25, 5, 1), on=DIGITS),
        Case(mode="terms", name="barlow-0.001", build=barlow(1e-3), on=DIGITS),
        Case(mode="bottleneck", name="bottleneck-3", build=MLP, hidden=3, on=DIGITS),
        Case(mode="no normaliser", name="linear-bare", build=simsiam("linear", "none"), on=DIGITS),
        Case(mode="late", name="late-decay-0.7", build=MLP, half_way=decay(0.7), on=DIGITS),
        Case(mode="late", name="late-lr-50", build=OFF, half_way=hurry(50.0), on=DIGITS),
        Case(mode="late", name="late-open-31", build=MLP, half_way=lose_stop_gradient, on=DIGITS),
        Case(
            mode="late",
            name="late-no-head-l2-31",
            build=simsiam("mlp", "l2"),
            half_way=lose_head,
        ),
    )
)

HELD_OUT = {"two": ROUND_TWO, "three": ROUND_THREE, "four": ROUND_FOUR}
"""By round: what no rule of its time was tuned on."""
EVERY = CASES + ROUND_TWO + ROUND_THREE + ROUND_FOUR


@dataclass(frozen=True, kw_only=True)
class Setting:
    """What all runs on one data set share."""

    batch_size: int
    steps: int
    views: str
    stem_stride: int


DATA = {
    "digits": Setting(batch_size=128, steps=320, views="digits", stem_stride=1),
    "fashion-mnist": Setting(batch_size=128, steps=320, views="gray", stem_stride=2),
}


def runs() -> list[tuple[str, str]]:
    """(data, case) of every run, in an order without meaning: what is done first is no choice."""
    every = [(d, case.name) for case in EVERY for d in case.on]
    return sorted(every, key=lambda run: _hash("/".join(run)))


def round_of(data: str, case: str) -> str:
    """The round of a run: "one" tuned the rule."""
    for name, cases in HELD_OUT.items():
        if any(case == one.name and data in one.on for one in cases):
            return name
    return "one"


def _hash(text: str) -> int:
    return int(hashlib.sha256(text.encode()).hexdigest(), 16)


def images(data: str, folder: Path | None) -> Splits:
    """The images of one setting; Fashion-MNIST's 6,000 and 1,000 are the first of their files."""
    if data == "digits":
        return digits()
    assert folder is not None

    def part(name: str, most: int) -> Dataset:
        with gzip.open(folder / f"{name}-images-idx3-ubyte.gz") as file:
            pixels = np.frombuffer(file.read(16 + most * 28 * 28), np.uint8, offset=16)
        with gzip.open(folder / f"{name}-labels-idx1-ubyte.gz") as file:
            labels = np.frombuffer(file.read(8 + most), np.uint8, offset=8)
        return Dataset(
            images=torch.from_numpy(pixels.reshape(-1, 1, 28, 28).copy()),
            labels=torch.from_numpy(labels.astype(np.int64)),
            classes=tuple(str(i) for i in range(10)),
            name=data,
        )

    pretrain = part("train", 6_000)
    return Splits(
        pretrain=pretrain, train=pretrain.subset(torch.arange(2_000)), test=part("t10k", 1_000)
    )


def run(data: str, name: str, out: Path, folder: Path | None) -> str:
    """Train one case, keep its outputs and its truth."""
    os.setpriority(os.PRIO_PROCESS, 0, 5)  # a worker runs many cases: nice() would add up
    torch.set_num_threads(1)
    case, setting = next(case for case in EVERY if case.name == name), DATA[data]
    last_step = setting.steps * case.more_steps
    splits = images(data, folder)
    normalisation = normalisation_of(splits.pretrain)
    views = case.views(VIEWS[setting.views][0])
    torch.manual_seed(case.seed)
    encoder = small_conv(channels=1, width=16, stem_stride=setting.stem_stride)
    project = projector((encoder.dim, case.hidden, case.projection))
    method = case.build(encoder, project, case.projection)
    if case.frozen:
        method.encoder.requires_grad_(False)
    optimizer = make_optimizer(case.optimizer, method, lr=case.lr, weight_decay=case.weight_decay)
    schedule = Schedule(steps=last_step)
    loader = two_view_loader(
        splits.pretrain,
        batch_size=case.batch_size or setting.batch_size,
        seed=case.seed,
        recipe=(views, views),
        normalisation=normalisation,
    )
    rows = torch.linspace(0, len(splits.pretrain) - 1, PROBE_IMAGES).round().long()
    pixels, _ = next(splits.pretrain.read([rows]))
    generator = torch.Generator().manual_seed(PROBE_SEED)
    probe = [
        make_view(pixels, generator, recipe=views, normalisation=normalisation) for _ in range(2)
    ]
    probe = list(case.pair(*probe))
    embed = partial(extract, method, whole=normalisation)

    assert splits.train is not None and splits.test is not None
    stored, asked = splits.train.subset(torch.arange(700)), splits.test.subset(torch.arange(350))
    outputs: list[np.ndarray] = []
    steps, losses, knn = [], [], []

    def observe(step: int, loss: float) -> None:
        outputs.append(_outputs(method, probe))
        steps.append(step)
        losses.append(loss)
        knn.append(knn_accuracies(embed(stored), embed(asked)))

    observe(0, math.nan)
    every, since = last_step // OBSERVATIONS, []
    method.train()
    for batch in loader.batches(0, last_step):
        if case.half_way is not None and batch.step == last_step // 2:
            case.half_way(method, optimizer)
        schedule.apply(optimizer, batch.step)
        loss = method(*case.pair(batch.view_a, batch.view_b)).loss
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        method.after_step((batch.step + 1) / last_step)
        since.append(loss.item())
        if (batch.step + 1) % every == 0:
            observe(batch.step + 1, sum(since) / len(since))
            since = []
            if not np.isfinite(outputs[-1]).all():
                break  # nothing that follows can be read

    chance = {"features": 0.1, "projection": 0.1}
    broken = not np.isfinite(outputs[-1]).all()
    worth = (
        {"knn": chance, "linear": chance}
        if broken
        else evaluate(embed(splits.train), embed(splits.test))
    )
    target = out / data / name
    target.mkdir(parents=True, exist_ok=True)
    widths = np.array([encoder.dim, case.projection, case.projection])
    with (target / "outputs.npz.part").open("wb") as file:
        np.savez(
            file,
            steps=np.array(steps),
            losses=np.array(losses),
            outputs=np.stack(outputs),
            widths=widths,
        )
    os.replace(target / "outputs.npz.part", target / "outputs.npz")
    write_json(
        target / "truth.json",
        {
            "data": data,
            "case": name,
            "mode": case.mode,
            "steps": steps,
            "last_step": last_step,
            "half_way": case.half_way is not None,
            "knn": worth["knn"],
            "linear": worth["linear"],
            "knn_by_step": knn,
            "circumstances": circumstances(),
        },
    )
    read(target)
    return f"{data}/{name}: {worth['knn']['projection']:.3f} {worth['linear']['projection']:.3f}"


@torch.no_grad()
def _outputs(method: AbstractMethod, probe: list[Tensor]) -> np.ndarray:
    """(views, rows, widths of the three parts side by side), in evaluation mode."""
    method.eval()
    read = np.stack([torch.cat(method.embed(view), dim=1).numpy() for view in probe])
    method.train()
    return read


def read(run: Path) -> None:
    """Write what a monitor would have written, from the outputs that the run kept."""
    with np.load(run / "outputs.npz", allow_pickle=False) as kept:
        steps, losses, outputs = kept["steps"], kept["losses"], kept["outputs"]
        edges = np.cumsum(kept["widths"])[:-1]
    widths = dict(zip(PARTS, (len(x) for x in np.split(outputs[0, 0, 0], edges)), strict=True))
    noise = {part: noise_readings(PROBE_IMAGES, width, views=2) for part, width in widths.items()}
    partial_file = run / "monitor.jsonl.part"
    start_file(partial_file, name=run.name, noise=noise, about={"rows": PROBE_IMAGES})
    lines = []
    for step, loss, views in zip(steps.tolist(), losses.tolist(), outputs, strict=True):
        parts = {}
        if np.isfinite(views).all():
            pieces = np.split(views, edges, axis=2)
            parts = {
                part: read_part(torch.from_numpy(piece[0]), torch.from_numpy(piece[1]))
                for part, piece in zip(PARTS, pieces, strict=True)
            }
        lines.append(Observation(step=step, parts=parts, loss=loss).to_json())
    write_whole(run / "monitor.jsonl", partial_file.read_text() + "\n".join(lines) + "\n")
    partial_file.unlink()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path)
    parser.add_argument("--fashion-mnist", type=Path, help="folder with the four .gz files")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--only", default="", help="runs whose data/case contains this text")
    parser.add_argument("--read", action="store_true", help="train nothing, read anew")
    options = parser.parse_args()
    if options.read:
        torch.set_num_threads(1)
        for truth in sorted(options.out.glob(f"*/*{options.only}*/truth.json")):
            read(truth.parent)
        return
    wanted = [
        (data, name)
        for data, name in runs()
        if (data == "digits" or options.fashion_mnist)
        and options.only in f"{data}/{name}/"
        and not (options.out / data / name / "truth.json").exists()
    ]
    work = Parallel(n_jobs=options.jobs, return_as="generator_unordered")
    for line in work(
        delayed(run)(data, name, options.out, options.fashion_mnist) for data, name in wanted
    ):
        print(line, flush=True)


if __name__ == "__main__":
    main()
