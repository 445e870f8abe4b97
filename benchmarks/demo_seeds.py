"""Does the off-diagonal head keep the demo from collapsing, over seeds?

Runs the demo's four heads with seeds 0 to 4 and prints mean and spread of what
`offdiag demo` writes to summary.json, with the differences between the
off-diagonal head and no head, seed by seed.

    python benchmarks/demo_seeds.py [--seeds 5] [--json FILE]
"""

import argparse
import json
import statistics
import tempfile
from pathlib import Path

from offdiag.runs.circumstances import circumstances
from offdiag.runs.demo import DEMO_HEADS, demo, summary

READINGS = {
    "loss": lambda run: run["loss"],
    "effective rank, projection": lambda run: run["effective_rank"]["projection"],
    "effective rank, features": lambda run: run["effective_rank"]["features"],
    "kNN, projection": lambda run: run["knn"]["projection"],
    "kNN, features": lambda run: run["knn"]["features"],
    "linear, projection": lambda run: run["linear"]["projection"],
    "linear, features": lambda run: run["linear"]["features"],
    "head norm, peak": lambda run: run["head_off_diagonal_norm"]["peak"],
    "seconds": lambda run: run["seconds"],
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()

    by_head: dict[str, list[dict]] = {head: [] for head in DEMO_HEADS}
    for seed in range(options.seeds):
        with tempfile.TemporaryDirectory() as folder:
            for run in summary(demo(Path(folder) / "demo", seed=seed))["runs"]:
                by_head[run["head"]].append(run)

    for name, read in READINGS.items():
        print(f"\n{name}")
        for head, runs in by_head.items():
            values = [read(run) for run in runs]
            if None in values:
                continue
            spread = statistics.stdev(values) if len(values) > 1 else 0.0
            print(f"  {head:13} {statistics.mean(values):8.3f} +- {spread:.3f}  {_list(values)}")

    collapsed, healthy = by_head["none"], by_head["off-diagonal"]
    pairs = list(zip(healthy, collapsed, strict=True))
    rank, knn = READINGS["effective rank, projection"], READINGS["kNN, projection"]
    verdict = {
        "rank_ratio_of_means": _mean(healthy, rank) / _mean(collapsed, rank),
        "rank_ratio_each_seed": [rank(a) / rank(b) for a, b in pairs],
        "knn_points_mean": 100 * (_mean(healthy, knn) - _mean(collapsed, knn)),
        "knn_points_each_seed": [100 * (knn(a) - knn(b)) for a, b in pairs],
        "collapsed_loss_is_lower_in": sum(b["loss"] < a["loss"] for a, b in pairs),
        "seeds": options.seeds,
    }
    print("\noff-diagonal against none:", json.dumps(verdict, indent=1))
    if options.json:
        result = {"runs": by_head, "verdict": verdict, "circumstances": circumstances()}
        options.json.write_text(json.dumps(result, indent=1))


def _mean(runs: list[dict], read) -> float:
    return statistics.mean(read(run) for run in runs)


def _list(values: list[float]) -> str:
    return " ".join(f"{value:.3f}" for value in values)


if __name__ == "__main__":
    main()
