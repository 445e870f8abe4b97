"""Is `verify` right for any valid problem?

    python benchmarks/theory_verify.py [--problems 200] [--starts 60] [--seed 0]

Draws random problems (power 3 or 5, 2 to 4 features, strengths and noise over decades, either
mask, uneven probabilities, rho from 1e-4 to 1, d from 100 to 10^6), measures every claim around
each, and prints a Markdown table: how often each claim held, did not hold, and did not apply.
Every claim that did not hold is printed with its problem; more starts, or a longer run, must
explain it, or the claim is wrong.
"""

import argparse
from collections import Counter
from time import perf_counter

import numpy as np

from offdiag.theory.claim import ClaimState, state_in_words
from offdiag.theory.claims import CLAIMS, verify
from offdiag.theory.problem import Problem


def random_problem(rng: np.random.Generator) -> Problem:
    """A valid problem; nothing is chosen so that a claim holds."""
    k = int(rng.integers(2, 5))
    feature_patches = int(rng.integers(2, 6))
    shares = rng.dirichlet(np.full(k, 5.0)) if rng.random() < 0.5 else None
    return Problem(
        dim=int(round(10 ** rng.uniform(2, 6))),
        strengths=tuple(float(a) for a in np.exp(rng.uniform(np.log(0.3), np.log(8), k)).round(3)),
        probabilities=None if shares is None else tuple(float(p) for p in shares / shares.sum()),
        patches=2 * int(rng.integers(feature_patches, 12)),
        feature_patches=feature_patches,
        masks=("half", "independent")[int(rng.integers(2))],
        noise=float(np.exp(rng.uniform(np.log(0.3), np.log(3))).round(3)),
        neurons=int(rng.choice([2, 2, 2, 3])),
        power=int(rng.choice([3, 5])),
        head_lr_ratio=float(10 ** rng.uniform(-4, 0)),
        seed=int(rng.integers(1000)),
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--problems", type=int, default=200)
    parser.add_argument("--starts", type=int, default=60)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--first", type=int, default=0, help="skip the problems before this one")
    settings = parser.parse_args()
    rng, counts, refuted = np.random.default_rng(settings.seed), Counter(), 0
    began = perf_counter()
    done = 0
    try:
        for number in range(settings.problems):
            problem = random_problem(rng)
            if number < settings.first:
                continue
            for finding in verify(problem, count=settings.starts):
                counts[finding.key, finding.state] += 1
                if finding.state is ClaimState.NOT_HELD:
                    refuted += 1
                    print(f"\nproblem {number}: {problem}")
                    print(
                        f"{finding.key}: {state_in_words(finding)}: {finding.measured}", flush=True
                    )
            done += 1
    except KeyboardInterrupt:
        print(f"\ninterrupted in problem {settings.first + done}")
    print(f"\n{done} problems, {settings.starts} starts, ", end="")
    print(f"{perf_counter() - began:.0f} s; {refuted} findings did not hold\n")
    print("| claim | held | did not hold | does not apply |\n|---|---|---|---|")
    for claim in CLAIMS:
        cells = " | ".join(str(counts[claim.key, state]) for state in ClaimState)
        print(f"| {claim.key} | {cells} |")


if __name__ == "__main__":
    main()
