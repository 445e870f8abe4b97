"""The table of `offdiag bench` as markdown, for the docs.

python benchmarks/map_table.py bench/map.parquet > table.md
"""

import sys
from typing import Any

import pyarrow.parquet as pq


def share(value: float | None) -> str:
    """An accuracy in per cent, or a dash."""
    return "–" if value is None else f"{100 * value:.1f}"


def line(row: dict[str, Any]) -> str:
    """One mechanism: ranks, accuracies of the features and the projection, milliseconds a step."""
    ranks = [row[f"effective_rank_{part}_mean"] for part in ("features", "projection")]
    cells = [
        row["kind"],
        f"`{row['name']}`",
        *("–" if rank is None else f"{rank:.1f}" for rank in ranks),
        share(row["knn_features_mean"]),
        share(row["knn_projection_mean"]),
        share(row["linear_features_mean"]),
        row["verdict"] or row["error"] or "not finished",
        "–" if row["seconds_per_step"] is None else f"{1000 * row['seconds_per_step']:.0f}",
    ]
    return f"| {' | '.join(cells)} |"


def main() -> None:
    print(
        "| kind | mechanism | rank, features | rank, projection | kNN, features | kNN, projection |"
        " probe, features | verdict | ms a step |"
    )
    print("|---|---|---|---|---|---|---|---|---|")
    for row in pq.read_table(sys.argv[1]).to_pylist():
        print(line(row))


if __name__ == "__main__":
    main()
