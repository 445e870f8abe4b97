"""The demo: the same training with four heads on the embedded digits, side by side."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from joblib import Parallel, delayed

from offdiag._checks import RunError
from offdiag._files import write_json
from offdiag.results.comparison import Ending
from offdiag.results.history import RunRecord
from offdiag.runs.config import RunConfig
from offdiag.runs.train import train
from offdiag.training.heap import keep_freed_memory

DEMO_HEADS = ("none", "off-diagonal", "linear", "mlp")


def demo_config(head: str, *, seed: int, epochs: int = 100) -> RunConfig:
    """The paper's objective (shared weights, output BatchNorm, stop-gradient) on the digits."""
    return RunConfig(data="digits", head=head, seed=seed, epochs=epochs, device="cpu")


def demo(
    out: Path,
    *,
    seed: int = 0,
    heads: Sequence[str] = DEMO_HEADS,
    epochs: int = 100,
    jobs: int = -1,
    on_finished: Callable[[RunRecord], None] = lambda record: None,
) -> list[RunRecord]:
    """Train each head into `out`/<head> and write `out`/summary.json; returns the records.

    One single-threaded process for each run, `jobs` at a time (-1: as many as there
    are cores), so the numbers do not depend on the number of cores.
    """
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise RunError(f"{out} exists already: choose another --out, or remove it.")
    configs = {head: demo_config(head, seed=seed, epochs=epochs) for head in heads}
    work = Parallel(n_jobs=min(jobs, len(configs)), return_as="generator_unordered")
    records = {}
    for record in work(delayed(_train_alone)(c, out / head) for head, c in configs.items()):
        records[record.name] = record
        on_finished(record)
    ordered = [records[head] for head in heads]
    write_json(out / "summary.json", summary(ordered))
    return ordered


def summary(records: Sequence[RunRecord]) -> dict[str, Any]:
    """The numbers of the runs at their end, as they stand in summary.json."""
    return {
        "runs": [_summary(record) for record in records],
        "circumstances": dict(records[0].circumstances),
    }


def _train_alone(config: RunConfig, out: Path) -> RunRecord:
    torch.set_num_threads(1)
    keep_freed_memory()
    return train(config, out)


def _summary(record: RunRecord) -> dict[str, Any]:
    end = Ending.of(record)
    return {
        "head": record.config["head"],
        "seed": record.config["seed"],
        "loss": end.loss,
        "effective_rank": {
            "features": end.effective_rank_features,
            "projection": end.effective_rank_projection,
        },
        "knn": {"features": end.knn_features, "projection": end.knn_projection},
        "linear": {"features": end.linear_features, "projection": end.linear_projection},
        "head_off_diagonal_norm": {  # null throughout where the head is not one matrix
            "peak": end.head_norm_peak,
            "peak_epoch": end.head_norm_peak_epoch,
            "final": end.head_norm_final,
        },
        "seconds": end.seconds,
    }
