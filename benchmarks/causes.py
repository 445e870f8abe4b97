"""Is the cause that is named the fault that was put in? Real short runs with one thing broken.

    python benchmarks/causes.py OUT [--families simsiam ...] [--data digits ...] [--seeds 2]
    python benchmarks/causes.py OUT --score      # scores of what is there

Families, each a small encoder with lightly's own heads and losses where there are any:
    simsiam byol dino vicreg barlow simclr: lightly's modules, under lightly's names
    jepa    a token JEPA: context encoder, predictor with mask tokens, target by average
    rl      self-predictive: encoder, dynamics that takes an action, the next state as the target
Data: scikit-learn's digits, and generated textures (ten classes of smooth random patterns, moved,
scaled and covered with noise); for rl two random walks that are seen through random features.
Each run is OUT/<data>/<family>-<fault>-<seed>.json: marks, findings, accuracy. A run that is there
is not made again.

Tuned on: TUNED_FAMILIES on TUNED_DATA. All else is held out. A run is harmed if the kNN accuracy of
its frozen features, or of its projection, lost more than a tenth of the way from the healthy runs'
mean of its family and data to chance.
"""

import argparse
import copy
import json
import math
import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from lightly.loss import (
    BarlowTwinsLoss,
    DINOLoss,
    NegativeCosineSimilarity,
    NTXentLoss,
    VICRegLoss,
)
from lightly.models import modules as lightly
from lightly.models.utils import deactivate_requires_grad, update_momentum
from torch import Tensor, nn

from offdiag._files import write_json
from offdiag.diagnostics.causes.find import find_causes
from offdiag.diagnostics.monitor import Monitor
from offdiag.evaluation.knn import knn_accuracy
from offdiag.results.observation import MonitorRecord, Observation

STEPS, BATCH, SIDE, WIDTH = 120, 64, 8, 64
TUNED_FAMILIES = ("simsiam", "vicreg", "dino", "jepa")
TUNED_DATA = "digits"
LOST = 0.1


@dataclass(frozen=True, kw_only=True)
class Settings:
    """How one run is trained; a fault changes one of these."""

    stop_gradient: bool = True
    predictor: bool = True
    predictor_held: bool = True
    predictor_lr: float = 1.0
    encoder_held: bool = True
    momentum: float = 0.98
    target_held: bool = False
    lr: float = 1.0
    weight_decay: float = 1e-5
    views: str = "two"
    inputs: str = "normal"
    mode: str = "train"
    batch: int = BATCH
    hidden: int = 128
    apart: float = 1.0
    invariance: float = 1.0
    teacher_temperature: float = 0.04
    centre_momentum: float = 0.9
    nan_at: int = -1
    images: int = 0


@dataclass(frozen=True, kw_only=True)
class Fault:
    """One thing broken, in which families, and the keys of the causes that name it."""

    change: dict[str, Any]
    families: tuple[str, ...]
    named: tuple[str, ...]


WITH_PREDICTOR = ("simsiam", "byol", "jepa", "rl")
WITH_TARGET = ("byol", "dino", "jepa")
PAIRED = ("simsiam", "byol", "dino", "vicreg", "barlow", "simclr")
ALL = (*PAIRED, "jepa", "rl")
FAULTS: dict[str, Fault] = {
    "open": Fault(
        change={"stop_gradient": False},
        families=("simsiam", "rl"),
        named=("gradient-in-target",),
    ),
    "target-trained": Fault(
        change={"stop_gradient": False, "target_held": True, "momentum": 0.98},
        families=WITH_TARGET,
        named=("target-trained", "gradient-in-target"),
    ),
    "no-predictor": Fault(
        change={"predictor": False},
        families=("simsiam", "byol"),
        named=("no-predictor", "nothing-apart"),
    ),
    "predictor-not-held": Fault(
        change={"predictor_held": False}, families=WITH_PREDICTOR, named=("predictor-frozen",)
    ),
    "predictor-slow": Fault(
        change={"predictor_lr": 0.01}, families=WITH_PREDICTOR, named=("predictor-slow",)
    ),
    "target-frozen": Fault(
        change={"momentum": 1.0}, families=WITH_TARGET, named=("target-frozen",)
    ),
    "target-copy": Fault(change={"momentum": 0.0}, families=WITH_TARGET, named=("target-copy",)),
    "lr-small": Fault(change={"lr": 1e-5}, families=ALL, named=("step-too-small",)),
    "lr-large": Fault(
        change={"lr": 100.0}, families=ALL, named=("step-too-large", "not-finite", "dead-units")
    ),
    "decay": Fault(change={"weight_decay": 0.3}, families=ALL, named=("decay-rules",)),
    "same-views": Fault(change={"views": "same"}, families=PAIRED, named=("views-identical",)),
    "other-views": Fault(change={"views": "other"}, families=PAIRED, named=("views-unpaired",)),
    "constant": Fault(change={"inputs": "constant"}, families=ALL, named=("inputs-constant",)),
    "volts": Fault(change={"inputs": "volts"}, families=ALL, named=("inputs-scale",)),
    "bytes": Fault(change={"inputs": "bytes"}, families=ALL, named=("inputs-scale",)),
    "evaluation": Fault(change={"mode": "eval"}, families=ALL, named=("evaluation-mode",)),
    "stored": Fault(change={"mode": "stored"}, families=PAIRED, named=("stored-statistics",)),
    "batch-2": Fault(change={"batch": 2}, families=ALL, named=("small-batch",)),
    "encoder-not-held": Fault(
        change={"encoder_held": False}, families=ALL, named=("encoder-frozen",)
    ),
    "bottleneck": Fault(change={"hidden": 2}, families=PAIRED, named=("bottleneck",)),
    "no-term": Fault(
        change={"apart": 0.0},
        families=("vicreg", "barlow", "simclr"),
        named=("nothing-apart", "term-missing", "variance-unheld"),
    ),
    "sign": Fault(
        change={"invariance": -1.0},
        families=("simsiam", "byol", "vicreg", "simclr"),
        named=("loss-sign",),
    ),
    "unsharp": Fault(
        change={"teacher_temperature": 0.1}, families=("dino",), named=("sharpening-off",)
    ),
    "uncentred": Fault(
        change={"centre_momentum": 1.0}, families=("dino",), named=("centring-off", "one-code")
    ),
    "nan": Fault(change={"nan_at": 30}, families=ALL, named=("not-finite",)),
    "four-images": Fault(change={"images": 4}, families=ALL, named=("inputs-alike",)),
}


def encoder(settings: Settings) -> nn.Module:
    return nn.Sequential(
        nn.Flatten(),
        nn.Linear(SIDE**2, 128),
        nn.BatchNorm1d(128),
        nn.ReLU(),
        nn.Linear(128, WIDTH),
        nn.BatchNorm1d(WIDTH),
        nn.ReLU(),
    )


class Family(nn.Module):
    """What families share: settings, two views, and an average where there is a target."""

    def __init__(self, settings: Settings) -> None:
        super().__init__()
        self.settings = settings

    def predictor_parameters(self) -> list[nn.Parameter]:
        return []

    def encoder_parameters(self) -> list[nn.Parameter]:
        return list(self.backbone.parameters())

    def target_parameters(self) -> list[nn.Parameter]:
        return []

    def features(self, x: Tensor) -> Tensor:
        return self.backbone(x)

    def projection(self, x: Tensor) -> Tensor:
        """Where the loss compares: the projector's output, or the features where there is none."""
        head = getattr(self, "projection_head", None) or getattr(self, "student_head", None)
        return self.features(x) if head is None else head(self.features(x))

    def follow(self) -> None: ...


class SimSiam(Family):
    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        self.backbone = encoder(settings)
        self.projection_head = lightly.SimSiamProjectionHead(WIDTH, settings.hidden, 64)
        self.prediction_head = (
            lightly.SimSiamPredictionHead(64, 32, 64) if settings.predictor else nn.Identity()
        )
        self.criterion = NegativeCosineSimilarity()

    def predictor_parameters(self):
        return list(self.prediction_head.parameters())

    def loss(self, a: Tensor, b: Tensor) -> Tensor:
        z_a, z_b = (self.projection_head(self.backbone(x)) for x in (a, b))
        p_a, p_b = self.prediction_head(z_a), self.prediction_head(z_b)
        if self.settings.stop_gradient:
            z_a, z_b = z_a.detach(), z_b.detach()
        return (
            self.settings.invariance * 0.5 * (self.criterion(p_a, z_b) + self.criterion(p_b, z_a))
        )


class BYOL(Family):
    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        self.backbone = encoder(settings)
        self.projection_head = lightly.BYOLProjectionHead(WIDTH, settings.hidden, 64)
        self.prediction_head = (
            lightly.BYOLPredictionHead(64, 128, 64) if settings.predictor else nn.Identity()
        )
        self.backbone_momentum = copy.deepcopy(self.backbone)
        self.projection_head_momentum = copy.deepcopy(self.projection_head)
        if not settings.target_held:
            deactivate_requires_grad(self.backbone_momentum)
            deactivate_requires_grad(self.projection_head_momentum)
        self.criterion = NegativeCosineSimilarity()

    def predictor_parameters(self):
        return list(self.prediction_head.parameters())

    def target_parameters(self):
        return [*self.backbone_momentum.parameters(), *self.projection_head_momentum.parameters()]

    def follow(self):
        if self.settings.momentum < 1:
            update_momentum(self.backbone, self.backbone_momentum, m=self.settings.momentum)
            update_momentum(
                self.projection_head, self.projection_head_momentum, m=self.settings.momentum
            )

    def loss(self, a: Tensor, b: Tensor) -> Tensor:
        p_a, p_b = (self.prediction_head(self.projection_head(self.backbone(x))) for x in (a, b))
        t_a, t_b = (self.projection_head_momentum(self.backbone_momentum(x)) for x in (a, b))
        if self.settings.stop_gradient:
            t_a, t_b = t_a.detach(), t_b.detach()
        return (
            self.settings.invariance * 0.5 * (self.criterion(p_a, t_b) + self.criterion(p_b, t_a))
        )


class DINO(Family):
    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        self.student_backbone = encoder(settings)
        head = (WIDTH, settings.hidden, 32, 128)
        self.student_head = lightly.DINOProjectionHead(*head, batch_norm=True, freeze_last_layer=-1)
        self.teacher_backbone = copy.deepcopy(self.student_backbone)
        self.teacher_head = lightly.DINOProjectionHead(*head, batch_norm=True)
        self.teacher_head.load_state_dict(self.student_head.state_dict())
        if not settings.target_held:
            deactivate_requires_grad(self.teacher_backbone)
            deactivate_requires_grad(self.teacher_head)
        self.criterion = DINOLoss(
            output_dim=128,
            teacher_temp=settings.teacher_temperature,
            student_temp=0.1,
            center_momentum=settings.centre_momentum,
        )

    def encoder_parameters(self):
        return list(self.student_backbone.parameters())

    def target_parameters(self):
        return [*self.teacher_backbone.parameters(), *self.teacher_head.parameters()]

    def features(self, x):
        return self.student_backbone(x)

    def follow(self):
        if self.settings.momentum < 1:
            m = self.settings.momentum
            update_momentum(self.student_backbone, self.teacher_backbone, m=m)
            update_momentum(self.student_head, self.teacher_head, m=m)

    def loss(self, a: Tensor, b: Tensor) -> Tensor:
        teacher = [self.teacher_head(self.teacher_backbone(x)) for x in (a, b)]
        student = [self.student_head(self.student_backbone(x)) for x in (a, b)]
        if self.settings.stop_gradient:
            teacher = [t.detach() for t in teacher]
        return self.criterion(teacher, student)


class VICReg(Family):
    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        self.backbone = encoder(settings)
        self.projection_head = lightly.BarlowTwinsProjectionHead(WIDTH, settings.hidden, 64)
        self.criterion = VICRegLoss(
            lambda_param=25.0 * settings.invariance,
            mu_param=25.0 * settings.apart,
            nu_param=1.0 * settings.apart,
        )

    def loss(self, a: Tensor, b: Tensor) -> Tensor:
        return self.criterion(*(self.projection_head(self.backbone(x)) for x in (a, b)))


class Barlow(VICReg):
    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        self.criterion = BarlowTwinsLoss(lambda_param=5e-3 * settings.apart)


class SimCLR(Family):
    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        self.backbone = encoder(settings)
        self.projection_head = lightly.SimCLRProjectionHead(WIDTH, settings.hidden, 64)
        self.criterion = NTXentLoss(temperature=0.3)

    def loss(self, a: Tensor, b: Tensor) -> Tensor:
        z = [self.projection_head(self.backbone(x)) for x in (a, b)]
        if self.settings.apart == 0:
            return NegativeCosineSimilarity()(*z)
        return self.settings.invariance * self.criterion(*z)


class Blocks(nn.Module):
    """Tokens in, tokens out."""

    def __init__(self, dim: int, depth: int, *, inputs: int | None = None) -> None:
        super().__init__()
        self.embed = nn.Linear(inputs, dim) if inputs else nn.Identity()
        layer = nn.TransformerEncoderLayer(dim, 4, 2 * dim, 0.0, batch_first=True, norm_first=True)
        self.blocks = nn.TransformerEncoder(layer, depth, enable_nested_tensor=False)
        self.norm = nn.LayerNorm(dim)

    def forward(self, tokens: Tensor, places: Tensor) -> Tensor:
        return self.norm(self.blocks(self.embed(tokens) + places))


class JEPA(Family):
    """I-JEPA on 16 patches: 10 are the context, the rest is predicted."""

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        self.encoder = Blocks(WIDTH, 2, inputs=4)
        self.predictor = Blocks(WIDTH, 1)
        self.target_encoder = copy.deepcopy(self.encoder)
        if not settings.target_held:
            self.target_encoder.requires_grad_(False)
        self.mask = nn.Parameter(0.02 * torch.randn(WIDTH))
        self.register_buffer("places", 0.5 * torch.randn(16, WIDTH))

    def encoder_parameters(self):
        return list(self.encoder.parameters())

    def predictor_parameters(self):
        return list(self.predictor.parameters())

    def target_parameters(self):
        return list(self.target_encoder.parameters())

    def features(self, x):
        return self.encoder(patches(x), self.places).mean(1)

    def follow(self):
        if self.settings.momentum < 1:
            update_momentum(self.encoder, self.target_encoder, m=self.settings.momentum)

    def loss(self, a: Tensor, b: Tensor) -> Tensor:
        tokens = patches(a)
        order = torch.randperm(16)
        seen, hidden = order[:10], order[10:]
        context = self.encoder(tokens[:, seen], self.places[seen])
        masks = self.mask.expand(len(tokens), len(hidden), -1)
        both = torch.cat((context, masks), 1)
        made = self.predictor(both, torch.cat((self.places[seen], self.places[hidden])))
        target = self.target_encoder(tokens, self.places)[:, hidden]
        if self.settings.stop_gradient:
            target = target.detach()
        return F.smooth_l1_loss(made[:, 10:], F.layer_norm(target, target.shape[-1:]))


def patches(x: Tensor) -> Tensor:
    return F.unfold(x, 2, stride=2).transpose(1, 2)


class RL(Family):
    """Self-predictive: the next state's features from this state's and the action."""

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        self.encoder = nn.Sequential(nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 32))
        self.dynamics = nn.Sequential(nn.Linear(32 + 4, 128), nn.ReLU(), nn.Linear(128, 32))

    def encoder_parameters(self):
        return list(self.encoder.parameters())

    def predictor_parameters(self):
        return list(self.dynamics.parameters())

    def features(self, x):
        return self.encoder(x)

    def loss(self, a: Tensor, b: Tensor, action: Tensor) -> Tensor:
        made = self.dynamics(torch.cat((self.encoder(a), action), 1))
        target = self.encoder(b)
        if self.settings.stop_gradient:
            target = target.detach()
        return -F.cosine_similarity(made, target).mean()


FAMILIES: dict[str, Callable[[Settings], Family]] = {
    "simsiam": SimSiam,
    "byol": BYOL,
    "dino": DINO,
    "vicreg": VICReg,
    "barlow": Barlow,
    "simclr": SimCLR,
    "jepa": JEPA,
    "rl": RL,
}
RATES = {"simclr": 1e-3, "vicreg": 1e-3, "barlow": 1e-3, "dino": 1e-3, "jepa": 1e-3, "rl": 1e-3}


def digits() -> tuple[Tensor, Tensor]:
    from sklearn.datasets import load_digits

    loaded = load_digits()
    images = torch.tensor(loaded.images, dtype=torch.float32)[:, None] / 16
    return (images - images.mean()) / images.std(), torch.tensor(loaded.target)


def textures(count: int = 1800) -> tuple[Tensor, Tensor]:
    draw = torch.Generator().manual_seed(11)
    smooth = torch.randn(10, 1, 4, 4, generator=draw)
    patterns = F.interpolate(smooth, size=(SIDE + 2, SIDE + 2), mode="bicubic")
    labels = torch.arange(count) % 10
    moves = torch.randint(3, (count, 2), generator=draw)
    images = torch.stack(
        [
            patterns[c, :, dy : dy + SIDE, dx : dx + SIDE]
            for c, (dy, dx) in zip(labels.tolist(), moves.tolist(), strict=True)
        ]
    )
    scale = 0.6 + 0.8 * torch.rand(count, 1, 1, 1, generator=draw)
    images = scale * images + 0.35 * torch.randn(images.shape, generator=draw)
    return (images - images.mean()) / images.std(), labels


def walks(seed: int, count: int = 1800) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """States on a torus seen through random features; an action moves along one axis."""
    draw = torch.Generator().manual_seed(100 + seed)
    state = 2 * math.pi * torch.rand(count, 2, generator=draw)
    action = torch.randint(4, (count,), generator=draw)
    turn = torch.tensor([[0.5, 0.0], [-0.5, 0.0], [0.0, 0.5], [0.0, -0.5]])[action]
    mix = torch.randn(4, 64, generator=draw)
    shift = torch.randn(64, generator=draw)

    def seen(at: Tensor) -> Tensor:
        circle = torch.cat((at.sin(), at.cos()), 1)
        noise = 0.3 * torch.randn(count, 64, generator=draw)
        return (circle @ mix + shift).tanh() + noise

    cells = (state // (2 * math.pi / 3)).long().clamp(0, 2)
    return (
        seen(state),
        seen(state + turn),
        F.one_hot(action, 4).float(),
        3 * cells[:, 0] + cells[:, 1],
    )


DATA: dict[str, Callable[[], tuple[Tensor, Tensor]]] = {"digits": digits, "textures": textures}


def view(images: Tensor, draw: torch.Generator) -> Tensor:
    """Move by up to a pixel, scale, cover a corner, add noise."""
    n = len(images)
    padded = F.pad(images, (1, 1, 1, 1))
    dy, dx = torch.randint(3, (2, n), generator=draw)
    rows = (dy[:, None] + torch.arange(SIDE))[:, None, :, None]
    columns = (dx[:, None] + torch.arange(SIDE))[:, None, None, :]
    moved = padded[torch.arange(n)[:, None, None, None], 0, rows, columns]
    scale = 0.7 + 0.6 * torch.rand(n, 1, 1, 1, generator=draw)
    out = scale * moved
    top, left = torch.randint(SIDE - 2, (2, n), generator=draw)
    grid = torch.arange(SIDE)
    inside = ((grid[None] >= top[:, None]) & (grid[None] < top[:, None] + 3))[:, None, :, None] & (
        (grid[None] >= left[:, None]) & (grid[None] < left[:, None] + 3)
    )[:, None, None, :]
    return out.masked_fill(inside, 0.0) + 0.2 * torch.randn(out.shape, generator=draw)


def batch_of(source: tuple[Tensor, ...], settings: Settings, draw: torch.Generator):
    train = len(source[0]) // 2
    pool = settings.images or train
    rows = torch.randint(pool, (settings.batch,), generator=draw)
    if len(source) == 4:
        a, b, action = source[0][rows], source[1][rows], (source[2][rows],)
    else:
        other = rows
        if settings.views == "other":
            other = torch.randint(pool, (settings.batch,), generator=draw)
        a = view(source[0][rows], draw)
        b = a if settings.views == "same" else view(source[0][other], draw)
        action = ()
    return (shown(a, settings), shown(b, settings), *action)


def shown(x: Tensor, settings: Settings) -> Tensor:
    if settings.inputs == "constant":
        return torch.zeros_like(x)
    return x * {"volts": 1e-6, "bytes": 80.0}.get(settings.inputs, 1.0)


def run(data: str, family: str, fault: str, seed: int) -> dict[str, Any]:
    """Train once, watched, and look for causes at the end and after five steps."""
    settings = Settings()
    if fault != "healthy":
        settings = replace(settings, **FAULTS[fault].change)
    torch.manual_seed(1000 * seed + 7)
    draw = torch.Generator().manual_seed(seed)
    model = FAMILIES[family](settings)
    source = walks(list(DATA).index(data)) if family == "rl" else DATA[data]()
    groups = groups_of(model, settings, RATES.get(family, 3e-3))
    optimizer = torch.optim.Adam(groups, weight_decay=settings.weight_decay)
    monitor = Monitor(model, every=20).attach_optimizer(optimizer)
    model.train()
    modes(model, settings)
    for step in range(STEPS):
        model.follow()
        views = batch_of(source, settings, draw)
        loss = model.loss(*views)
        optimizer.zero_grad()
        if loss.requires_grad:
            loss.backward()
        monitor.note(loss=loss)
        optimizer.step()
        if step == settings.nan_at:
            with torch.no_grad():
                next(iter(model.parameters())).fill_(math.nan)
    monitor.remove()
    record = monitor.record()
    return {
        "data": data,
        "family": family,
        "fault": fault,
        "seed": seed,
        "accuracy": accuracy(model, source, settings, model.features),
        "projected": accuracy(model, source, settings, model.projection),
        "loss": float(loss.detach()),
        "marks": [[row.step, dict(row.marks)] for row in (*record.checks, *record.history)],
        "about": dict(record.about),
        "notes": [note.text for note in record.notes],
    }


def modes(model: Family, settings: Settings) -> None:
    if settings.mode == "eval":
        model.eval()
    if settings.mode == "stored":
        for layer in model.modules():
            if isinstance(layer, nn.modules.batchnorm._BatchNorm):
                layer.eval()


def groups_of(model: Family, settings: Settings, rate: float) -> list[dict[str, Any]]:
    predictor, inner = model.predictor_parameters(), model.encoder_parameters()
    targets = model.target_parameters()
    apart = {id(p) for p in (*predictor, *inner, *targets)}
    rest = [p for p in model.parameters() if id(p) not in apart]
    lr = rate * settings.lr
    groups = [{"params": rest, "lr": lr}] if rest else []
    if settings.encoder_held:
        groups.append({"params": inner, "lr": lr})
    if predictor and settings.predictor_held:
        groups.append({"params": predictor, "lr": lr * settings.predictor_lr})
    if settings.target_held:
        groups.append({"params": targets, "lr": lr})
    return groups or [{"params": [nn.Parameter(torch.zeros(1))], "lr": lr}]


@torch.no_grad()
def accuracy(
    model: Family,
    source: tuple[Tensor, ...],
    settings: Settings,
    embed: Callable[[Tensor], Tensor],
) -> float:
    """kNN accuracy of a frozen part's outputs on the half that was not trained on."""
    model.eval()
    half = len(source[0]) // 2
    features = embed(shown(source[0], settings))
    if not features.isfinite().all():
        return math.nan
    labels = source[-1]
    return float(
        knn_accuracy(features[:half], labels[:half], features[half:], labels[half:], neighbours=20)
    )


def plan(families: list[str], data: list[str], seeds: int) -> list[tuple[str, str, str, int]]:
    names = ["healthy", *FAULTS]
    return [
        (one, family, fault, seed)
        for seed in range(seeds)
        for fault in names
        for one in data
        for family in families
        if fault == "healthy" or family in FAULTS[fault].families
    ] + [  # healthy runs are needed in number, for false alarms
        (one, family, "healthy", seed)
        for seed in range(seeds, seeds + 2)
        for one in data
        for family in families
    ]


def findings_of(row: dict[str, Any], until: int | None = None) -> list[str]:
    """The keys of the causes that are named, from the marks that were kept."""
    marks = [(s, m) for s, m in row["marks"] if until is None or s <= until]
    record = MonitorRecord(
        name="run",
        history=tuple(Observation(step=s, parts={}, marks=restored(m)) for s, m in marks),
        about=row["about"],
    )
    return [finding.cause.key for finding in find_causes(record) if finding.alarm]


def restored(marks: dict[str, Any]) -> dict[str, float]:
    return {name: math.nan if value is None else value for name, value in marks.items()}


def score(out: Path, only: str | None) -> None:
    rows = [json.loads(path.read_text()) for path in sorted(out.glob("*/*.json"))]
    halves: dict[str, list[dict[str, Any]]] = {"tuned": [], "held out": []}
    for row in rows:
        tuned = row["family"] in TUNED_FAMILIES and row["data"] == TUNED_DATA
        halves["tuned" if tuned else "held out"].append(row)
    for half, members in halves.items():
        if members and only in (None, half):
            print(f"\n== {half}: {len(members)} runs")
            report(members)


def harmed_by(row: dict[str, Any], healthy: list[dict[str, Any]]) -> float:
    """The larger share that was lost, of features and projection; 1: nothing but chance is left."""
    chance = 1 / 9 if row["family"] == "rl" else 0.1
    lost = []
    for what in ("accuracy", "projected"):
        same = [
            r[what] for r in healthy if (r["data"], r["family"]) == (row["data"], row["family"])
        ]
        best = sum(same) / len(same)
        got = chance if row[what] is None else row[what]
        lost.append((best - got) / (best - chance))
    return max(lost)


def report(rows: list[dict[str, Any]]) -> None:
    healthy = [row for row in rows if row["fault"] == "healthy"]
    broken = [row for row in rows if row["fault"] != "healthy"]
    found = {id(row): findings_of(row) for row in rows}
    for words, members in (
        ("harmed", [row for row in broken if harmed_by(row, healthy) > LOST]),
        ("not harmed", [row for row in broken if harmed_by(row, healthy) <= LOST]),
    ):
        named = [(found[id(row)], FAULTS[row["fault"]].named) for row in members]
        first = sum(bool(keys) and keys[0] in wanted for keys, wanted in named)
        three = sum(any(key in wanted for key in keys[:3]) for keys, wanted in named)
        nothing = sum(not keys for keys, _ in named)
        most = max(len(members), 1)
        print(
            f"{words} {len(members)}: first {first} ({100 * first / most:.1f} %), among three "
            f"{three} ({100 * three / most:.1f} %), nothing named {nothing}"
        )
        steps = sorted(step for row in members if (step := first_named(row)) is not None)
        if steps:
            early = sum(step <= 5 for step in steps)
            print(
                f"  first named at step {steps[len(steps) // 2]} of {STEPS} (median), by step 5 in "
                f"{early} of {len(steps)}"
            )
        for row, (keys, wanted) in zip(members, named, strict=True):
            if not (keys and keys[0] in wanted):
                print(
                    f"  {row['data']:<9}{row['family']:<9}{row['fault']:<19}{row['seed']} "
                    f"lost {harmed_by(row, healthy):5.2f}: {', '.join(keys) or 'nothing named'}"
                )
    alarmed = [row for row in healthy if found[id(row)]]
    print(f"healthy {len(healthy)}: a cause named in {len(alarmed)}")
    for row in alarmed:
        print(f"  {row['data']} {row['family']} {row['seed']}: {', '.join(found[id(row)])}")


def first_named(row: dict[str, Any]) -> int | None:
    """The first step by which the fault is among the causes that are named."""
    wanted = set(FAULTS[row["fault"]].named)
    steps = sorted({step for step, _ in row["marks"]})
    return next((step for step in steps if wanted & set(findings_of(row, step))), None)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path)
    parser.add_argument("--families", nargs="+", choices=FAMILIES, default=list(FAMILIES))
    parser.add_argument("--data", nargs="+", choices=DATA, default=list(DATA))
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--faults", nargs="+", choices=["healthy", *FAULTS])
    parser.add_argument("--score", action="store_true")
    parser.add_argument("--half", choices=["tuned", "held out"])
    options = parser.parse_args()
    if options.score:
        score(options.out, options.half)
        return
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    for data, family, fault, seed in plan(options.families, options.data, options.seeds):
        if options.faults and fault not in options.faults:
            continue
        path = options.out / data / f"{family}-{fault}-{seed}.json"
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            write_json(path, run(data, family, fault, seed))


if __name__ == "__main__":
    main()
