"""Why a run collapses, by intervention: branches from one state, each with one thing changed.

The change that brings the directions back is the cause, whatever the marks say.
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import joblib

from offdiag._checks import ConfigError, at_least
from offdiag._files import make_folder
from offdiag.diagnostics.readings import read_part
from offdiag.evaluation.features import extract
from offdiag.results.history import METRICS_FILE, read_config, read_history
from offdiag.results.intervention import UNCHANGED, WHY_FILE, Branch, Why
from offdiag.results.readings import Readings
from offdiag.runs.build import build_loader, build_method, channels_of, load_data, pick_device
from offdiag.runs.config import RunConfig
from offdiag.runs.observe import PROBE_IMAGES, spread_sample
from offdiag.training.checkpoint import load_checkpoint
from offdiag.training.fit import fit
from offdiag.training.optimizers import make_optimizer

STEPS = 200
SEEDS = (0, 1, 2)
NARROW = 0.2
"""Below this share of 1/sqrt(width) the normalised outputs' std counts against the directions."""
KEPT = 0.6
"""A checkpoint with this share of the run's best effective rank has not collapsed."""
INITIALISATION, CHECKPOINT = "the initialisation", "the last checkpoint"

MakeBranch = Callable[[str, int], float]
"""From the name of a change and a seed to the directions that are left at the branch's end."""


def why(
    make_branch: MakeBranch,
    changes: Sequence[str],
    *,
    seeds: Sequence[int] = SEEDS,
    out: Path | None = None,
    name: str = "run",
    start: str = CHECKPOINT,
    steps: int = STEPS,
    jobs: int = 1,
    ended: Callable[[Branch], None] = lambda branch: None,
) -> Why:
    """Run every change, and none, for every seed, and say what each is worth.

    `make_branch(change, seed)` trains one branch, "unchanged" among the changes, and returns a
    number that is larger the less it has collapsed, such as an effective rank; with the same
    seed the batches must be the same whatever the change. It is called in `jobs` processes, for
    which it must pickle. `out` is a directory of branches: what is there is not run again.
    """
    if not changes:
        raise ConfigError("give at least one change to try.")
    done = {} if out is None else _done(out)
    todo = [
        (change, seed)
        for seed in seeds
        for change in (UNCHANGED, *changes)
        if (change, seed) not in done
    ]
    run = joblib.Parallel(n_jobs=min(jobs, len(todo)) or 1, return_as="generator_unordered")
    for branch in run(joblib.delayed(_branch)(make_branch, *one) for one in todo):
        done[branch.change, branch.seed] = branch
        if out is not None:
            _keep(out, branch)
        ended(branch)
    wanted = [(change, seed) for change in (UNCHANGED, *changes) for seed in seeds]
    found = Why(name=name, start=start, steps=steps, branches=tuple(done[one] for one in wanted))
    if out is not None:
        found.save(out)
    return found


def why_run(
    directory: Path,
    *,
    steps: int = STEPS,
    seeds: Sequence[int] = SEEDS,
    jobs: int = 1,
    ended: Callable[[Branch], None] = lambda branch: None,
) -> Why:
    """`why` for a run of ours: the changes that its settings leave open, from its last checkpoint.

    If the checkpoint has lost its directions already, the branches begin at fresh weights. The
    learning rate is constant, and the optimiser starts anew, in all branches alike. Results are
    kept in RUN/why, and a second call goes on where the first stopped.
    """
    at_least("the number of steps of a branch", steps, 1)
    config = RunConfig.from_dict(read_config(directory)["config"])
    changes = changes_for(config)
    start = CHECKPOINT if _has_directions(directory) else INITIALISATION
    branch = _RunBranch(
        directory=directory, config=config, changes=changes, steps=steps, start=start
    )
    return why(
        branch,
        list(changes),
        seeds=seeds,
        out=directory / "why" / f"{steps}",
        name=directory.resolve().name,
        start=start,
        steps=steps,
        jobs=jobs,
        ended=ended,
    )


def changes_for(config: RunConfig) -> dict[str, RunConfig]:
    """The settings with one thing changed, by what it is called; none that changes nothing."""
    parts, method = config.parts, config.settings_of("method")
    options: dict[str, dict[str, Any] | None] = {
        "stop-gradient on": _method(config, stop_gradient="target")
        if method.get("stop_gradient") not in (None, "target")
        else None,
        "a head that trains": {"head": "off-diagonal"}
        if parts.get("head") in ("none", "identity")
        else None,
        "an MLP head": {"head": "mlp"} if "head" in parts and parts["head"] != "mlp" else None,
        "the head's rate x10": {"head_lr_ratio": 10 * config.head_lr_ratio}
        if "head" in parts
        else None,
        "outputs normalised": {"normaliser": "bn"} if parts.get("normaliser") == "none" else None,
        "learning rate /10": {"lr": config.lr / 10},
        "learning rate x10": {"lr": config.lr * 10},
        "weight decay off": {"weight_decay": 0.0} if config.weight_decay > 1e-5 else None,
        "target's momentum 0.99": _method(config, momentum=0.99)
        if "momentum" in method and not 0.9 <= method["momentum"] < 1
        else None,
        "batch of 256": {"batch_size": 256} if config.batch_size < 64 else None,
    }
    for term in ("variance", "covariance"):
        if term in method and "invariance" in method:
            published = {"variance": 25.0, "covariance": 1.0}[term]
            if method[term] < published:
                options[f"{term} term at {published:g}"] = _method(config, **{term: published})
    changed: dict[str, RunConfig] = {}
    for name, change in options.items():
        if change is None:
            continue
        try:
            changed[name] = _replaced(config, change)
        except ConfigError:  # this method has no such part
            continue
    return changed


def _method(config: RunConfig, **values: Any) -> dict[str, Any]:
    own = {**config.settings.get("method", {}), **values}
    return {"settings": {**config.settings, "method": own}}


def _replaced(config: RunConfig, change: Mapping[str, Any]) -> RunConfig:
    if "head" in change and "head" in config.settings:
        settings = {kind: own for kind, own in config.settings.items() if kind != "head"}
        change = {**change, "settings": settings}
    return replace(config, **change)


@dataclass(frozen=True, kw_only=True)
class _RunBranch:
    """Trains one branch of a run; pickles, so that branches may go to other processes."""

    directory: Path
    config: RunConfig
    changes: Mapping[str, RunConfig]
    steps: int
    start: str

    def __call__(self, change: str, seed: int) -> float:
        config = self.config if change == UNCHANGED else self.changes[change]
        config = replace(config, seed=self.config.seed + 1 + seed, compile=False)
        device = pick_device(config.device)
        data = load_data(config, device=device).to(device)
        loader = build_loader(config, data, device=device)
        method = build_method(config, image_channels=channels_of(config, data)).to(device)
        if self.start == CHECKPOINT:
            kept = load_checkpoint(self.directory)["method"]
            mine = method.state_dict()
            fits = {k: v for k, v in kept.items() if k in mine and v.shape == mine[k].shape}
            method.load_state_dict(fits, strict=False)
        optimizer = make_optimizer(
            config.optimizer,
            method,
            lr=config.lr,
            weight_decay=config.weight_decay,
            head_lr_ratio=config.head_lr_ratio,
        )
        fit(method, loader, optimizer, steps=self.steps, log_every=self.steps)
        probe = spread_sample(data.pretrain, PROBE_IMAGES)
        found = extract(method, probe, whole=data.whole)
        if not found.projection.isfinite().all():
            return 0.0
        return directions(read_part(found.projection))


def directions(readings: Readings) -> float:
    """Effective rank, less where the outputs are nearly all the same: in [0, width].

    Times the std of the normalised outputs over a fifth of 1/sqrt(width), at most 1: a complete
    collapse leaves the rank of rounding.
    """
    spread = readings.std * math.sqrt(readings.dim) / NARROW
    value = readings.effective_rank * min(1.0, spread)
    return 0.0 if math.isnan(value) else value


def _has_directions(directory: Path) -> bool:
    """Has the last reading kept its share of the run's best effective rank?"""
    rows = read_history(directory / METRICS_FILE)
    ranks = [directions(row.projection) for row in rows]
    return bool(ranks) and max(ranks) > 0 and ranks[-1] >= KEPT * max(ranks) and ranks[-1] > 2


def _branch(make_branch: MakeBranch, change: str, seed: int) -> Branch:
    return Branch(change=change, seed=seed, directions=float(make_branch(change, seed)))


def _done(out: Path) -> dict[tuple[str, int], Branch]:
    return {(b.change, b.seed): b for b in _kept(out)}


def _kept(out: Path) -> Iterator[Branch]:
    path = out / WHY_FILE
    if path.exists():
        yield from Why.load(out).branches


def _keep(out: Path, branch: Branch) -> None:
    """Write what there is after each branch, whole."""
    make_folder(out)
    rest = [b for b in _kept(out) if (b.change, b.seed) != (branch.change, branch.seed)]
    Why(name="", start="", steps=0, branches=(*rest, branch)).save(out)
