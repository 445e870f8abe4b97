"""What does the explorer's phase diagram show? (Computes the grid that its page carries.)

    python benchmarks/explorer_grid.py src/offdiag/report/explorer/grid.json

Counts the outcomes of starts of the reference problem over dimension and head learning
rate, from the same seed in each cell, each run to its own horizon: a fixed time would call
large dimensions unlearned only because it stopped early.
"""

import argparse
import json
from collections import Counter
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from offdiag.theory.ensemble import ensemble
from offdiag.theory.phase_one import horizon
from offdiag.theory.problem import Problem

DIMS: NDArray[np.float64] = np.geomspace(30, 1e6, 19)
RHOS: NDArray[np.float64] = np.geomspace(1e-4, 1, 17)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path)
    parser.add_argument("--starts", type=int, default=64)
    settings = parser.parse_args()
    dims = [round(float(dim)) for dim in DIMS]
    rhos = [float(f"{rho:.4g}") for rho in RHOS]
    counts: dict[str, list[int]] = {}
    for cell, (rho, dim) in enumerate((rho, dim) for rho in rhos for dim in dims):
        problem = Problem(dim=dim, head_lr_ratio=rho)
        found = ensemble(problem, time=horizon(problem), count=settings.starts).outcomes
        for outcome, count in Counter(str(one) for one in found).items():
            counts.setdefault(outcome, [0] * len(dims) * len(rhos))[cell] = count
    grid = {"dims": dims, "rhos": rhos, "starts": settings.starts, "counts": counts}
    settings.out.write_text(json.dumps(grid, separators=(",", ":")) + "\n")


if __name__ == "__main__":
    main()
