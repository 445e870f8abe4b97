"""Claims of the papers as one self-contained page, and as one table."""

import math
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pyarrow as pa

from offdiag._checks import ConfigError
from offdiag._tables import write_table
from offdiag.report.document import render, write_page
from offdiag.report.numbers import significant
from offdiag.report.settings import settings
from offdiag.results.comparison import Spread
from offdiag.runs.claims import Claim, Finding, Outcome
from offdiag.runs.grid import text

COLUMNS = (
    "Claim",
    "Paper",
    "Reading",
    "More",
    "Less",
    "Difference",
    "95 % interval",
    "Seeds",
    "Outcome",
)
OF_A_CLAIM = (
    "method",
    "head",
    "normaliser",
    "transform",
    "regulariser",
    "projector_kind",
    "settings",
    "seed",
)
"""Settings that differ from claim to claim."""


def write_claims(findings: Sequence[Finding], out: Path) -> None:
    """Write the page to the file `out`, whole or not at all."""
    write_page(render_claims(findings), out)


def render_claims(findings: Sequence[Finding]) -> str:
    """The page as HTML; ConfigError without a claim."""
    if not findings:
        raise ConfigError("a page of claims needs at least one claim; got none.")
    described: list[dict[str, Any]] = []
    first = next((one for one in findings if one.environment), None)
    if first is not None:
        shared = {k: v for k, v in first.config.items() if k not in OF_A_CLAIM}
        described = [{**shared, "environment": dict(first.environment)}]
    return render(
        "claims.html.j2",
        title="Claims of the papers",
        lede=lede(findings),
        columns=COLUMNS,
        rows=[(one.claim.text, words(one), one.failed[:1]) for one in findings],
        settings=[(one.path, one.values[0]) for one in settings(described)],
    )


def lede(findings: Sequence[Finding]) -> list[str]:
    """How many claims held, and which did not."""
    by = {outcome: [f for f in findings if f.outcome is outcome] for outcome in Outcome}
    sentences = [f"{len(by[Outcome.HELD])} of {len(findings)} claims held."]
    for outcome, word in (
        (Outcome.OPPOSITE, "The opposite was measured for"),
        (Outcome.UNDECIDED, "The interval holds 0, or there is none, for"),
        (Outcome.NOT_MEASURED, "Not measured:"),
    ):
        if by[outcome]:
            sentences.append(f"{word} {', '.join(one.claim.name for one in by[outcome])}.")
    return sentences


def words(finding: Finding) -> list[str]:
    """A finding as the cells of a row, in the order of COLUMNS."""
    claim, gap = finding.claim, finding.difference
    interval = "–"
    if gap is not None and not math.isnan(gap.low):
        interval = f"{_signed(gap.low)} to {_signed(gap.high)}"
    return [
        claim.name,
        claim.paper,
        claim.reading,
        f"{described(claim, more=True)}: {_spread(finding.more)}",
        f"{described(claim, more=False)}: {_spread(finding.less)}",
        "–" if gap is None else _signed(gap.spread.mean),
        interval,
        "0" if gap is None else str(gap.spread.n),
        str(finding.outcome),
    ]


def line(finding: Finding) -> str:
    """A finding as one line of text."""
    name, paper, reading, more, less, gap, interval, seeds, outcome = words(finding)
    return (
        f"{outcome}: {name} ({paper}): {reading} of {more}; of {less}; difference {gap} "
        f"({interval}) over {seeds} seeds"
    )


def described(claim: Claim, *, more: bool) -> str:
    """One side of a claim: simsiam, head none."""
    side = claim.more if more else claim.less
    rest = [f"{axis} {text(setting)}" for axis, setting in side.items() if axis != "method"]
    return ", ".join([str(side.get("method", "")), *rest])


def write_claims_table(findings: Sequence[Finding], out: Path) -> None:
    """One row a claim, as Parquet."""
    write_table(pa.Table.from_pylist([_flat(one) for one in findings], schema=SCHEMA), out)


NUMBERS = ("mean", "std", "n")
SCHEMA = pa.schema(
    [(name, pa.string()) for name in ("claim", "paper", "text", "reading", "outcome")]
    + [
        (f"{side}_{number}", pa.int64() if number == "n" else pa.float64())
        for side in ("more", "less", "difference")
        for number in NUMBERS
    ]
    + [("low", pa.float64()), ("high", pa.float64()), ("seeds_above", pa.int64())]
    + [("failed", pa.string())]
)


def _flat(finding: Finding) -> dict[str, Any]:
    claim, gap = finding.claim, finding.difference
    flat: dict[str, Any] = {
        "claim": claim.name,
        "paper": claim.paper,
        "text": claim.text,
        "reading": claim.reading,
        "outcome": str(finding.outcome),
        "low": None if gap is None else gap.low,
        "high": None if gap is None else gap.high,
        "seeds_above": None if gap is None else gap.above,
        "failed": "; ".join(finding.failed),
    }
    spreads = {
        "more": finding.more,
        "less": finding.less,
        "difference": None if gap is None else gap.spread,
    }
    for side, spread in spreads.items():
        numbers = dict.fromkeys(NUMBERS) if spread is None else asdict(spread)
        flat |= {f"{side}_{name}": number for name, number in numbers.items()}
    return flat


def _spread(spread: Spread | None) -> str:
    if spread is None:
        return "–"
    mean = significant(spread.mean) or "–"
    return f"{mean} ± {significant(spread.std)}" if spread.n > 1 else mean


def _signed(number: float) -> str:
    return f"{'+' if number > 0 else ''}{significant(number)}".replace("-", "\u2212")
