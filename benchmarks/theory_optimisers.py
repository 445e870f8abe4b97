"""Does the conserved quantity (14) survive momentum, Adam and mini-batches?

    python benchmarks/theory_optimisers.py

Discrete training on the exact population gradient (or on sampled batches), from one start, to one
time, at steps a quarter each. Prints the largest relative drift of (14) on the way as a Markdown
table: a drift that falls with the step tends to the flow, one that stays does not.
"""

import argparse

import numpy as np
import torch

from offdiag.theory import kernels
from offdiag.theory.population import balance
from offdiag.theory.problem import Problem
from offdiag.theory.sgd import sgd
from offdiag.theory.state import State, covariance, pack, starts, unpack

PROBLEM = Problem(dim=16, strengths=(2.0, 1.5), noise=0.7, head_lr_ratio=1.0)


def moving_start(problem: Problem) -> State:
    """A start that moves soon: its inner products are not small."""
    start = starts(problem, 1)[0]
    return State(
        inner_products=np.array([[0.6, 0.3], [0.2, 0.5]]),
        noise_parts=start.noise_parts,
        head=start.head,
    )


def drift(problem: Problem, before: np.ndarray, after: np.ndarray) -> float:
    """The largest relative change of (14) from one packed state to another."""
    kept = []
    for packed in (before, after):
        products, parts, head = unpack(problem, packed)
        kept.append(balance(problem, products, covariance(problem, parts), head))
    return float(np.abs(kept[1] / kept[0] - 1).max())


def train(problem: Problem, start: State, rule: str, *, step: float, time: float) -> float:
    """The largest drift on the way of descent, heavy-ball momentum (beta = .9) or Adam."""
    constants, y = problem.constants(), pack(problem, start)
    work, v = kernels.workspace(constants), np.empty_like(y)
    momentum, square = np.zeros_like(y), np.zeros_like(y)
    neurons = problem.neurons * (problem.neurons + problem.features)
    rates = np.where(np.arange(y.size) < neurons, 1.0, problem.head_lr_ratio)
    steps, worst, first_state = int(round(time / step)), 0.0, y.copy()
    for count in range(1, steps + 1):
        kernels.velocity(constants, y, v, work)
        if rule == "momentum":  # the head's rate is in v; 1 - beta keeps the time the same
            momentum = 0.9 * momentum + v
            y = y + step * (1 - 0.9) * momentum
        elif rule == "descent":
            y = y + step * v
        else:
            gradient = v / rates
            momentum = 0.9 * momentum + 0.1 * gradient
            square = 0.999 * square + 0.001 * gradient**2
            first, second = momentum / (1 - 0.9**count), square / (1 - 0.999**count)
            y = y + step * rates * first / (np.sqrt(second) + 1e-12)
        if count % max(1, steps // 40) == 0:
            worst = max(worst, drift(problem, first_state, y))
    return worst


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--batches", type=int, default=5, help="runs a mini-batch size")
    settings = parser.parse_args()
    start = moving_start(PROBLEM)
    print("| optimiser | step h | drift of (14) at h | h / 4 | h / 16 |\n|---|---|---|---|---|")
    for rule, step, time in (("descent", 0.1, 20.0), ("momentum", 0.1, 20.0), ("Adam", 0.01, 1.0)):
        found = [train(PROBLEM, start, rule, step=step / part, time=time) for part in (1, 4, 16)]
        print(f"| {rule} | {step} | " + " | ".join(f"{one:.2e}" for one in found) + " |")
    print("\n| batch | drift of (14), mean over runs, to T = 2 at step .05 |\n|---|---|")
    for batch in (32, 128, 512, 2048):
        drifts = []
        for seed in range(settings.batches):
            generator = torch.Generator().manual_seed(seed)
            run = sgd(PROBLEM, start, generator, learning_rate=0.05, steps=40, batch=batch)
            kept = balance(PROBLEM, run.inner_products, run.noise, run.head)
            drifts.append(float(np.abs(kept[-1] / kept[0] - 1).max()))
        print(f"| {batch} | {np.mean(drifts):.2e} |")


if __name__ == "__main__":
    main()
