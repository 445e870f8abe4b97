"""The demo: the same training with four heads on the embedded digits, side by side."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from joblib import Parallel, delayed

from offdiag._checks import RunError
from offdiag._files import write_json
from offdiag.results.history import Row, RunRecord
from offdiag.runs.config import RunConfig
from offdiag.runs.train import train

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
    return train(config, out)


def _summary(record: RunRecord) -> dict[str, Any]:
    last = record.history[-1]
    evaluation = record.evaluation or {"knn": None, "linear": None}
    rows = [row for row in record.history if row.head is not None]
    peak = max(rows, key=_off_diagonal_norm, default=None)
    return {
        "head": record.config["head"],
        "seed": record.config["seed"],
        "loss": last.loss,
        "effective_rank": {
            "features": last.features.effective_rank,
            "projection": last.projection.effective_rank,
        },
        "knn": evaluation["knn"],
        "linear": evaluation["linear"],
        "head_off_diagonal_norm": {  # null throughout where the head is not one matrix
            "peak": None if peak is None else _off_diagonal_norm(peak),
            "peak_epoch": None if peak is None else peak.epoch,
            "final": None if peak is None else _off_diagonal_norm(rows[-1]),
        },
        "seconds": last.seconds,
    }


def _off_diagonal_norm(row: Row) -> float:
    assert row.head is not None
    return row.head.off_diagonal_norm
