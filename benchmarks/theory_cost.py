"""What does a start cost as neurons and features are added?

    python benchmarks/theory_cost.py --out DIR

Prints a Markdown table and draws it. Strengths fall evenly from 4 to 2, d = 10,000,
T = 1e10, rho = 0.01; processor time a start of eight starts side by side, on one core.
"""

import argparse
from pathlib import Path
from time import process_time

import altair as alt
import numpy as np

from offdiag.plots.export import save_chart
from offdiag.plots.theme import PALETTE
from offdiag.theory.flow import flow_many
from offdiag.theory.outcomes import main_feature
from offdiag.theory.problem import Problem
from offdiag.theory.state import starts

SIZES = ((2, 2), (4, 2), (8, 2), (16, 2), (2, 4), (4, 4), (8, 4), (16, 4), (4, 8), (8, 8), (16, 8))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("."))
    parser.add_argument("--starts", type=int, default=8)
    settings = parser.parse_args()
    rows = []
    print("| neurons | features | ms a start | steps | us a step | features found | failed |")
    print("|---|---|---|---|---|---|---|")
    for m, k in SIZES:
        problem = Problem(
            dim=10_000, neurons=m, strengths=tuple(float(a) for a in np.linspace(4, 2, k))
        )
        drawn = starts(problem, settings.starts)
        flow_many(problem, drawn[:1], time=10.0)  # compiles, the first time
        began = process_time()
        found = flow_many(problem, drawn, time=1e10)
        ms = (process_time() - began) / len(drawn) * 1e3
        steps = float(found.steps.mean())
        ends = main_feature(found.inner_products)
        features = float(np.mean([len(set(row[row >= 0].tolist())) for row in ends]))
        failed = sum(failure is not None for failure in found.failures)
        each = ms / steps * 1e3
        print(f"| {m} | {k} | {ms:.1f} | {steps:.0f} | {each:.0f} | {features:.1f} | {failed} |")
        rows.append({"neurons": m, "features": f"{k} features", "ms": ms})
    names = list(dict.fromkeys(row["features"] for row in rows))
    chart = (
        alt.Chart(alt.Data(values=rows))
        .mark_line(point=alt.OverlayMarkDef(filled=True, size=70))
        .encode(
            x=alt.X(
                "neurons:Q",
                scale=alt.Scale(type="log", base=2),
                axis=alt.Axis(values=[2, 4, 8, 16], grid=False),
                title="neurons m",
            ),
            y=alt.Y(
                "ms:Q",
                scale=alt.Scale(type="log"),
                axis=alt.Axis(values=[1, 10, 100, 1000, 10_000, 100_000]),
                title="milliseconds a start",
            ),
            color=alt.Color(
                "features:N", scale=alt.Scale(domain=names, range=list(PALETTE[: len(names)]))
            ),
        )
        .properties(width="container", height="container")
    )
    settings.out.mkdir(parents=True, exist_ok=True)
    save_chart(chart, settings.out / "theory-cost.png")


if __name__ == "__main__":
    main()
