"""Does the verdict agree with labels that it never sees?

    python benchmarks/verdict.py OUT [--markdown FILE] [--runs] [--tuning-only]

OUT is what verdict_runs.py wrote; its docstring says what a run is in truth. Prints, for round
four (held out from the present rule) and for rounds one to three together (which tuned it): how
the verdict on the projection agrees with the projection's labels, and the verdict on the features
with the features' labels; how often the verdict changes where only every second, fourth and eighth
observation is seen; how often a run with this score is collapsed (reliability, and the expected
calibration error). Then, of the projection:
area under the ROC curve of the verdict's score, precision and recall of "it collapses", false
alarms, rank correlation of the score with what the linear probe lost (Spearman, grey zone
included), time to detection, and the same for what others have: std, RankMe, effective rank and
the loss, each alone.
A reading alone is given the threshold that separates the runs of round one best (largest recall
minus false-alarm rate) and is used as it is at the last observation, over its largest value
(1/sqrt(width), width) where there is one. Intervals are the 2.5 and 97.5 percentiles of 2,000
bootstrap draws of runs.
"""

import argparse
import json
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from scipy.stats import spearmanr
from verdict_runs import round_of

from offdiag.diagnostics.verdict import COLLAPSED, Kind, Verdict, judge
from offdiag.results.observation import MonitorRecord, Observation
from offdiag.runs.circumstances import circumstances

CHANCE = 0.1
LINEAR, KNN = (0.07, 0.10), (0.18, 0.25)  # healthy below the first, collapsed above the second
KNN_BY_STEP = 0.1
DRAWS = 2_000
EARLY = 0.3
FEATURES = (0.07, 0.10)
"""Features are healthy if linear probe and kNN both lost less than the first, collapsed if either
lost more than the second."""
FAILED = (Kind.NOTHING, Kind.DIVERGED)
BINS = 10


@dataclass(frozen=True)
class Run:
    """One run: what it says of itself, and what labels say of it."""

    record: MonitorRecord
    truth: dict[str, Any]

    @property
    def name(self) -> str:
        return f"{self.truth['data']}/{self.truth['case']}"

    @cached_property
    def round(self) -> str:
        return round_of(self.truth["data"], self.truth["case"])

    @property
    def knn(self) -> list[float]:
        return [row["projection"] for row in self.truth["knn_by_step"]]

    @property
    def shares(self) -> list[float]:
        """Share of training at each observation."""
        return [row.step / self.truth["last_step"] for row in self.record.history]

    @cached_property
    def verdicts(self) -> list[Verdict]:
        """What was said after each observation."""
        history = self.record.history
        return [self.judged(history[:n]) for n in range(1, len(history) + 1)]

    def judged(self, history: Sequence[Observation]) -> Verdict:
        return judge(history, gaussian_baseline=self.record.noise)

    @cached_property
    def verdict(self) -> Verdict:
        return self.judged(self.record.history)

    def score(self, part: str) -> float:
        """The probability that this part is collapsed, 1 where nothing useful is learned."""
        if self.verdict.kind in FAILED:
            return 1.0
        return self.verdict.parts[part].score if part in self.verdict.parts else 0.5

    def called(self, part: str) -> bool:
        return called(self.verdict, part)

    def called_at(self) -> float:
        """Share of training at the first call of a collapse; inf if there is none."""
        calls = (
            share
            for share, verdict in zip(self.shares, self.verdicts, strict=True)
            if called(verdict, "projector")
        )
        return next(calls, math.inf)


def called(verdict: Verdict, part: str) -> bool:
    """Whether this part is called collapsed, or the run useless."""
    own = verdict.parts.get(part)
    return verdict.kind in FAILED or (
        verdict.kind is not Kind.UNKNOWN and own is not None and own.kind in COLLAPSED
    )


def load(out: Path) -> list[Run]:
    return [
        Run(MonitorRecord.load(path.parent / "monitor.jsonl"), json.loads(path.read_text()))
        for path in sorted(out.glob("*/*/truth.json"))
        if (path.parent / "monitor.jsonl").exists()
    ]


def lost(run: Run, runs: Sequence[Run], measure: str, what: str = "projection") -> float:
    """What the run lost against the best of these runs on the same data, of the way to chance."""
    best = max(other.truth[measure][what] for other in _same(run, runs))
    return (best - run.truth[measure][what]) / (best - CHANCE)


def true_features(run: Run, runs: Sequence[Run]) -> str:
    """The same of the features: collapsed, healthy or grey."""
    worst = max(lost(run, runs, measure, "features") for measure in ("linear", "knn"))
    if worst > FEATURES[1]:
        return "collapsed"
    return "healthy" if worst < FEATURES[0] else "grey"


def true_kind(run: Run, runs: Sequence[Run]) -> str:
    """collapsed, healthy or grey, as the docstring of verdict_runs.py says."""
    linear, knn = lost(run, runs, "linear"), lost(run, runs, "knn")
    if linear > LINEAR[1] or knn > KNN[1]:
        return "collapsed"
    return "healthy" if linear < LINEAR[0] and knn < KNN[0] else "grey"


def there_at(run: Run, runs: Sequence[Run], kinds: dict[str, str]) -> float:
    """Share of training from which kNN stays below the healthy runs'; nan if it never does."""
    healthy = [r.knn for r in _same(run, runs) if kinds[r.name] == "healthy"]
    reference = np.median(np.array(healthy), axis=0)
    knn = np.array(run.knn)
    reference = reference[: len(knn)]
    low = knn < reference - KNN_BY_STEP * (reference - CHANCE)
    if not low[-1]:
        return math.nan
    return run.shares[len(low) - int(np.argmin(low[::-1])) if not low.all() else 0]


def _same(run: Run, runs: Sequence[Run]) -> list[Run]:
    return [r for r in runs if r.truth["data"] == run.truth["data"]]


def _last(run: Run) -> Observation:
    return run.record.history[-1]


def _projector(run: Run, read: Callable[[Any], float]) -> float:
    """Of the last observation; -inf, collapsed for sure, if its outputs were not finite."""
    part = _last(run).parts.get("projector")
    return -math.inf if part is None else read(part)


SCORES: dict[str, Callable[[Run], float]] = {
    "verdict": lambda run: run.score("projector"),
    "std": lambda run: -_projector(run, lambda part: part.std * part.dim**0.5),
    "RankMe": lambda run: -_projector(run, lambda part: part.rankme / part.dim),
    "effective rank": lambda run: -_projector(run, lambda part: part.effective_rank / part.dim),
    "loss (higher is worse)": lambda run: _last(run).loss,
    "loss (lower is worse)": lambda run: -_last(run).loss,
}


def auc(collapsed: np.ndarray, healthy: np.ndarray) -> float:
    """Chance that a collapsed run scores above a healthy one, ties counted as half."""
    difference = collapsed[:, None] - healthy[None, :]
    return float(((difference > 0) + 0.5 * (difference == 0)).mean())


def finite(values: Sequence[float]) -> np.ndarray:
    """nan, and what no reading could be taken of, at the end of collapse."""
    array = np.array(values, dtype=float)
    return np.nan_to_num(np.where(np.isnan(array), math.inf, array), posinf=1e9, neginf=-1e9)


def best_threshold(collapsed: np.ndarray, healthy: np.ndarray) -> float:
    """The score above which to call collapse, between two runs' scores."""
    values = np.unique(np.concatenate([collapsed, healthy]))
    cuts = (values[1:] + values[:-1]) / 2
    return float(max(cuts, key=lambda cut: (collapsed > cut).mean() - (healthy > cut).mean()))


def rates(called: np.ndarray, collapsed: np.ndarray) -> tuple[float, float, int]:
    """Precision, recall, false alarms."""
    hits = int((called & collapsed).sum())
    return (
        hits / max(1, int(called.sum())) if called.any() else math.nan,
        hits / int(collapsed.sum()),
        int((called & ~collapsed).sum()),
    )


def interval(
    statistic: Callable[[np.ndarray], float], truth: np.ndarray, random: np.random.Generator
) -> tuple[float, float]:
    """Bootstrap over runs, collapsed and healthy ones each among themselves."""
    groups = [np.flatnonzero(truth), np.flatnonzero(~truth)]
    found = [
        statistic(np.concatenate([random.choice(group, len(group)) for group in groups]))
        for _ in range(DRAWS)
    ]
    low, high = np.nanpercentile(found, [2.5, 97.5])
    return float(low), float(high)


def table(
    runs: Sequence[Run], kinds: dict[str, str], *, every: Sequence[Run], best_of: Sequence[Run]
) -> list[str]:
    """Rows of a Markdown table: each score on these runs."""
    judged = [run for run in runs if kinds[run.name] != "grey"]
    truth = np.array([kinds[run.name] == "collapsed" for run in judged])
    one = [run for run in every if run.round == "one"]
    seen_kinds = {run.name: true_kind(run, one) for run in one}
    tuning = [run for run in one if seen_kinds[run.name] != "grey"]
    tuned = np.array([seen_kinds[run.name] == "collapsed" for run in tuning])
    linear = [lost(run, best_of, "linear") for run in runs]
    random = np.random.default_rng(0)
    lines = [
        "| score | AUC | precision | recall | false alarms | correlation |",
        "|---|---|---|---|---|---|",
    ]
    for name, score in SCORES.items():
        values = finite([score(run) for run in judged])
        if name == "verdict":
            called = np.array([run.called("projector") for run in judged])
        else:
            seen = finite([score(run) for run in tuning])
            called = values > best_threshold(seen[tuned], seen[~tuned])
        precision, recall, alarms = rates(called, truth)
        bounds = [
            interval(statistic, truth, random)
            for statistic in (
                lambda i, v=values: auc(v[i][truth[i]], v[i][~truth[i]]),
                lambda i, c=called: rates(c[i], truth[i])[0],
                lambda i, c=called: rates(c[i], truth[i])[1],
            )
        ]
        cells = [
            f"{value:.3f} ({low:.3f} to {high:.3f})"
            for value, (low, high) in zip(
                (auc(values[truth], values[~truth]), precision, recall), bounds, strict=True
            )
        ]
        correlation = spearmanr(finite([score(run) for run in runs]), linear).statistic
        lines.append(
            f"| {name} | {' | '.join(cells)} | {alarms} of {int((~truth).sum())} | "
            f"{correlation:.2f} |"
        )
    return lines


def summary(runs: Sequence[Run], best_of: Sequence[Run]) -> list[str]:
    """Both parts against their labels, changes with the cadence, and calibration."""
    random = np.random.default_rng(0)
    lines = [
        "| judged | collapsed, healthy, grey | AUC | collapsed called | healthy called | "
        "calibration error |",
        "|---|---|---|---|---|---|",
    ]
    wrong, bins = [], []
    for part, words, kind_of in (
        ("projector", "projection, by its labels", true_kind),
        ("encoder", "features, by theirs", true_features),
    ):
        kinds = {run.name: kind_of(run, best_of) for run in runs}
        clear = [run for run in runs if kinds[run.name] != "grey"]
        truth = np.array([kinds[run.name] == "collapsed" for run in clear])
        scores = np.array([run.score(part) for run in clear])
        said = np.array([run.called(part) for run in clear])
        low, high = interval(
            lambda i, s=scores, t=truth: auc(s[i][t[i]], s[i][~t[i]]), truth, random
        )
        error, reliability = calibration(scores, truth)
        lines.append(
            f"| {words} | {truth.sum()}, {(~truth).sum()}, {len(runs) - len(clear)} | "
            f"{auc(scores[truth], scores[~truth]):.3f} ({low:.3f} to {high:.3f}) | "
            f"{(said & truth).sum()} of {truth.sum()} | {(said & ~truth).sum()} of "
            f"{(~truth).sum()} | {error:.3f} |"
        )
        bins += [f"| {words} | {row}" for row in reliability]
        wrong += [
            f"- {words}: {run.name} is {kinds[run.name]} by labels, the verdict says "
            f"{run.verdict.kind.value} ({run.score(part):.2f})."
            for run, s, t in zip(clear, said, truth, strict=True)
            if s != t
        ]
    for every in (2, 4, 8):
        changed = [
            r.name for r in runs if r.judged(r.record.history[::every]).kind != r.verdict.kind
        ]
        wrong.append(
            f"- Seen at every {every}th observation only, the verdict changes in {len(changed)} of "
            f"{len(runs)} runs" + (f": {', '.join(changed)}." if changed else ".")
        )
    header = ["| judged | score | runs | mean score | share collapsed |", "|---|---|---|---|---|"]
    return [*lines, "", *wrong, "", *header, *bins]


def calibration(scores: np.ndarray, truth: np.ndarray) -> tuple[float, list[str]]:
    """Expected calibration error over ten bins of equal width, and a row for each bin in use."""
    bins = np.minimum((scores * BINS).astype(int), BINS - 1)
    error, rows = 0.0, []
    for b in np.unique(bins):
        here = bins == b
        said, true = float(scores[here].mean()), float(truth[here].mean())
        error += abs(said - true) * float(here.mean())
        rows.append(
            f"{b / BINS:.1f} to {(b + 1) / BINS:.1f} | {here.sum()} | {said:.2f} | {true:.2f} |"
        )
    return error, rows


def timing(runs: Sequence[Run], kinds: dict[str, str], *, every: Sequence[Run]) -> list[str]:
    """When collapse is called, against when labels show it."""
    collapsed = [run for run in runs if kinds[run.name] == "collapsed"]
    there = {run.name: there_at(run, every, kinds) for run in collapsed}
    known = [run for run in collapsed if not math.isnan(there[run.name])]
    early = [run for run in known if there[run.name] <= EARLY]
    in_time = [run for run in early if run.called_at() <= EARLY]
    called = [run.called_at() for run in collapsed if math.isfinite(run.called_at())]
    delays = [run.called_at() - there[run.name] for run in known if math.isfinite(run.called_at())]
    healthy = [run for run in runs if kinds[run.name] == "healthy"]
    ever = [run for run in healthy if math.isfinite(run.called_at())]
    lines = [
        f"- {len(collapsed)} collapsed, {len(healthy)} healthy, "
        f"{sum(kinds[run.name] == 'grey' for run in runs)} in the grey zone.",
        f"- First call of a collapse: median {100 * np.median(called):.0f} % of training "
        f"({len(called)} of {len(collapsed)} collapsed runs are called at some time).",
        f"- kNN shows the collapse in {len(known)} of them; the call comes "
        f"{100 * np.median(delays):+.0f} points of training after that (median).",
        f"- Collapsed by {100 * EARLY:.0f} % of training as kNN shows it: {len(early)} runs; "
        f"called by then: {len(in_time)}.",
        f"- Healthy runs called collapsed at some time while they trained: {len(ever)} of "
        f"{len(healthy)}" + (f" ({', '.join(r.name for r in ever)})." if ever else "."),
    ]
    if missed := [run.name for run in early if run not in in_time]:
        lines.append(f"- Not called by then: {', '.join(missed)}.")
    return lines


def one_by_one(
    runs: Sequence[Run], kinds: dict[str, str], *, every: Sequence[Run], best_of: Sequence[Run]
) -> list[str]:
    """Every run with its truth and its verdict."""
    lines = [
        "| run | mode | lost, linear | lost, kNN | truth | verdict | score | part | "
        "there at | called at |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for run in runs:
        verdict, called = run.verdict, run.called_at()
        there = there_at(run, every, kinds) if kinds[run.name] == "collapsed" else math.nan
        lines.append(
            f"| {run.name} | {run.truth['mode']} | {lost(run, best_of, 'linear'):.2f} | "
            f"{lost(run, best_of, 'knn'):.2f} | {kinds[run.name]} | {verdict.kind.value} | "
            f"{verdict.score:.2f} | {verdict.part or ''} | "
            f"{'' if math.isnan(there) else f'{there:.2f}'} | "
            f"{f'{called:.2f}' if math.isfinite(called) else ''} |"
        )
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path)
    parser.add_argument("--markdown", type=Path)
    parser.add_argument("--runs", action="store_true", help="also every run by itself")
    parser.add_argument("--tuning-only", action="store_true", help="leave the held-out runs shut")
    options = parser.parse_args()
    every = load(options.out)
    four = [run for run in every if run.round == "four"]
    spent = [run for run in every if run.round != "four"]
    lines = []
    for title, runs in (
        ("Round four, held out", four),
        ("Rounds one to three, which tuned the rule", spent),
    ):
        if not runs or (options.tuning_only and runs is four):
            continue
        known = every if runs is four else spent  # what a round is set against was trained by then
        kinds = {run.name: true_kind(run, known) for run in known}
        lines += [f"## {title} ({len(runs)} runs)", ""]
        lines += summary(runs, known) + [""]
        lines += table(runs, kinds, every=known, best_of=known) + [""]
        lines += timing(runs, kinds, every=known) + [""]
        if options.runs:
            lines += one_by_one(runs, kinds, every=known, best_of=known) + [""]
    lines += ["```", json.dumps(circumstances(), indent=1), "```"]
    print("\n".join(lines))
    if options.markdown:
        options.markdown.write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
