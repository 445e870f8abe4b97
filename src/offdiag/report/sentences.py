"""The sentences on top of the page: every one of them true of the runs that are given."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from offdiag.diagnostics.run_verdict import judge_run
from offdiag.diagnostics.verdict import COLLAPSED, Kind, Verdict
from offdiag.report.numbers import epoch, percent, significant
from offdiag.results.history import RunRecord
from offdiag.results.readings import Readings

OBJECTIVE = (
    "data",
    "method",
    "normaliser",
    "transform",
    "regulariser",
    "settings",
    "stop_gradient",
    "views",
    "own",
)
"""Settings under which the loss, or its height, means something else."""

FEW = 4
"""So many runs are named one by one; of more, the ends."""


@dataclass(frozen=True, kw_only=True)
class Case:
    """A run, its verdict, and the words by which the page's sentences call it."""

    record: RunRecord
    verdict: Verdict
    called: str

    @property
    def collapsed(self) -> bool:
        return self.verdict.kind in (*COLLAPSED, Kind.PROJECTION)

    @property
    def in_features(self) -> bool:
        """Whether it is the encoder that collapses, and not only what comes after it."""
        return self.collapsed and self.verdict.part == "encoder"

    @property
    def part(self) -> Readings:
        """The last readings of the part that the sentences are about."""
        last = self.record.history[-1]
        return last.features if self.in_features else last.projection

    @property
    def rank(self) -> float:
        return self.part.effective_rank

    @property
    def facts(self) -> list[str]:
        """Where, since when, and what to keep: the sentences that the verdict allows."""
        verdict, said = self.verdict, []
        if self.collapsed and verdict.part is not None:
            said.append(f"Where: the {verdict.part}.")
        if verdict.since_step is not None:
            said.append(f"Since {self._at(verdict.since_step)}.")
        if verdict.best_step is not None:
            said.append(f"Best by label-free readings: {self._at(verdict.best_step)}.")
        return said

    def _at(self, step: int) -> str:
        rows = [row.epoch for row in self.record.history if row.step == step]
        return f"step {step:,}" + (f" (epoch {epoch(rows[0])})" if rows else "")

    @property
    def loss(self) -> float:
        return self.record.history[-1].loss

    @property
    def unfinished(self) -> str | None:
        """How far a run has come that is not at its last epoch; None if it is, or no one knows."""
        planned = self.record.config.get("epochs")
        now = self.record.history[-1].epoch
        # Epochs are steps over steps per epoch, so the last one may miss by a rounding.
        if not isinstance(planned, int | float) or now >= planned - 1e-6:
            return None
        return f"epoch {epoch(now)} of {epoch(planned)}"


def cases(records: Sequence[RunRecord]) -> list[Case]:
    """Each run with its verdict, called by its head or method where that tells the runs apart."""
    phrases = [record.description.phrase for record in records]
    by_phrase = len(set(phrases)) == len(records)
    return [
        Case(
            record=record,
            verdict=judge_run(record),
            called=phrase if by_phrase else f"in run “{record.name}”",
        )
        for record, phrase in zip(records, phrases, strict=True)
    ]


def headline(runs: Sequence[Case]) -> list[str]:
    """The verdict on all runs together, one or a few sentences."""
    going = [run for run in runs if run.unfinished]
    sentences = [_one(runs[0])] if len(runs) == 1 else _several(runs)
    if going:
        far = _listed([f"{run.called} at {run.unfinished}" for run in going])
        which = (
            f"This run is not at its end yet ({going[0].unfinished})"
            if len(runs) == 1
            else f"Not all runs are at their end yet ({far})"
        )
        sentences.append(f"{which}, so this may change.")
    return sentences


def _one(run: Case) -> str:
    start = _capital(run.called)
    match run.verdict.kind:
        case Kind.HEALTHY:
            return f"{start} {_keeps(run)}: it does not collapse."
        case Kind.PARTIAL:
            return f"{start}, a partial collapse is setting in: {_lower(run.verdict.sentence)}"
        case Kind.UNKNOWN:
            return f"{start}, nothing can be said of collapse yet: {_lower(run.verdict.sentence)}"
        case _:
            return f"{start} {_collapses(run)}."


def _several(runs: Sequence[Case]) -> list[str]:
    healthy = sorted(
        (run for run in runs if run.verdict.kind is Kind.HEALTHY), key=lambda run: -run.rank
    )
    collapsed = [run for run in runs if run.collapsed]
    waning = [run for run in runs if run.verdict.kind is Kind.PARTIAL]
    unknown = [run for run in runs if run.verdict.kind is Kind.UNKNOWN]
    sentences = []
    if healthy and collapsed:
        best, worst = _foremost(healthy), _plainest(collapsed)
        sentences += _contrast(best, worst)
        if rest := [run for run in collapsed if run is not worst]:
            sentences += _collapse_told(rest, " also")
        if rest := [run for run in healthy if run is not best]:
            sentences.append(f"The projection does not collapse {_told(rest)}.")
    elif collapsed:
        if waning or any(run.in_features for run in collapsed):
            sentences += _collapse_told(collapsed)
        else:
            which = f"All {len(runs)} runs collapse" if not unknown else "Each run judged collapses"
            sentences.append(f"{which}: {_told(collapsed)}.")
    elif healthy:
        which = f"None of the {len(runs)} runs" if not unknown else "No run that can be judged"
        told = _listed([f"{_rank(run)} {run.called}" for run in healthy])
        if len(healthy) > FEW:
            ends = healthy[-1], healthy[0]
            told = "between " + _listed([f"{_rank(run)} {run.called}" for run in ends])
        keeps = f"the projection keeps an effective rank of {told}."
        sentences.append(_capital(keeps) if waning else f"{which} collapses: {keeps}")
    if waning:
        sentences.append(f"A partial collapse is setting in {_told(waning)}.")
    if unknown:
        told = _listed([run.called for run in unknown])
        sentences.append(f"Nothing can be said of collapse yet {told}.")
    return sentences


def _collapse_told(runs: Sequence[Case], also: str = "") -> list[str]:
    """A sentence for the runs whose projection collapses, and one for those whose features do."""
    groups = (
        (f"The projection{also} collapses", [run for run in runs if not run.in_features]),
        (f"The encoder's features{also} collapse", [run for run in runs if run.in_features]),
    )
    return [f"{what} {_told(group)}." for what, group in groups if group]


def _foremost(healthy: Sequence[Case]) -> Case:
    """The paper's head where it is among the healthy, else the highest rank."""
    return next((r for r in healthy if r.record.description.head == "off-diagonal"), healthy[0])


def _plainest(collapsed: Sequence[Case]) -> Case:
    """The run without a head where it is among the collapsed, else the lowest rank."""
    bare = (run for run in collapsed if run.record.description.head == "none")
    return next(bare, min(collapsed, key=lambda run: (run.rank, run.loss)))


def _contrast(best: Case, worst: Case) -> list[str]:
    lower = _comparable(best, worst) and worst.loss < best.loss
    aside = (
        f", although its loss is lower ({significant(worst.loss)} against "
        f"{significant(best.loss)}): the loss cannot see collapse"
        if lower
        else ""
    )
    sentences = [
        f"{_capital(best.called)} {_keeps(best)}; "
        f"{worst.called} {_collapses(worst, short=True)}{aside}."
    ]
    ours, theirs = _knn(best), _knn(worst)
    if ours is not None and theirs is not None:
        sentences.append(
            "Nearest neighbours on the projection name the right class for "
            f"{percent(ours)} of the test images {best.called} and for {percent(theirs)} "
            f"{worst.called}."
        )
    return sentences


def _told(runs: Sequence[Case]) -> str:
    return _listed([f"{run.called} ({_rank(run)})" for run in runs])


def _keeps(run: Case) -> str:
    return f"the projection keeps an effective rank of {_rank(run)}"


def _collapses(run: Case, *, short: bool = False) -> str:
    what, collapse = ("it" if short else "the projection"), "collapses"
    if run.in_features:
        what, collapse = "the encoder's features", "collapse"
    part = run.verdict.parts.get("encoder" if run.in_features else "projector")
    if run.verdict.kind is Kind.COMPLETE or (part is not None and part.kind is Kind.COMPLETE):
        return f"{what} {collapse} completely, to nearly one point"
    bare = short and not run.in_features
    rank = f"{run.rank:.1f}" if bare else f"an effective rank of {_rank(run)}"
    return f"{what} {collapse} to {rank}"


def _rank(run: Case) -> str:
    if not math.isfinite(run.rank):
        return "no rank at all"
    return f"{run.rank:.1f} of {run.part.dim}"


def _knn(run: Case) -> float | None:
    evaluation: Mapping[str, Any] = run.record.evaluation or {}
    value = evaluation.get("knn", {}).get("projection")
    return None if value is None else float(value)


def _comparable(a: Case, b: Case) -> bool:
    """Whether a lower loss means the same in both: one objective, and both finite."""
    same = all(_objective(a, key) == _objective(b, key) for key in OBJECTIVE)
    return same and math.isfinite(a.loss) and math.isfinite(b.loss)


def _objective(run: Case, key: str) -> Any:
    value = run.record.config.get(key)
    if key == "settings" and isinstance(value, Mapping):  # those of head and encoder aside
        return {kind: value.get(kind) for kind in ("method", "transform", "regulariser")}
    return value


def _listed(items: Sequence[str]) -> str:
    if len(items) < 2:
        return "".join(items)
    return f"{', '.join(items[:-1])} and {items[-1]}"


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]


def _lower(text: str) -> str:
    return text[:1].lower() + text[1:]
