"""A claim of a paper as a row of data, what was found when it was measured, and their table.

Nothing here knows a dynamics. A table of claims is a tuple of `Claim`; each measures a
problem and returns a `Finding`.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from enum import StrEnum
from time import perf_counter
from typing import Any, Generic, TypeVar

import joblib
import numpy as np

P = TypeVar("P")

NORMAL_95 = 1.959963984540054  # the normal deviate that 2.5 % lie above

ALL_HELD = 0
SOME_NOT_HELD = 1
NONE_APPLIES = 3


class ClaimState(StrEnum):
    """What a measurement says of a claim."""

    HELD = "held"
    NOT_HELD = "not held"
    DOES_NOT_APPLY = "does not apply"


@dataclass(frozen=True)
class Share:
    """`count` of `total`, with a 95 % interval."""

    count: int
    total: int

    @property
    def value(self) -> float:
        """The share, in [0, 1]; nan of nothing."""
        return self.count / self.total if self.total else float("nan")

    @property
    def interval(self) -> tuple[float, float]:
        """Wilson's score interval at 95 %, in [0, 1]; all of [0, 1] where `total` is 0.

        Never empty at shares of 0 and 1, where the normal approximation is: Wilson (1927),
        JASA 22, 209.
        """
        n, p, z = self.total, self.value, NORMAL_95
        if n == 0:
            return 0.0, 1.0
        middle = (p + z**2 / (2 * n)) / (1 + z**2 / n)
        half = z / (1 + z**2 / n) * np.sqrt(p * (1 - p) / n + z**2 / (4 * n**2))
        low = 0.0 if self.count == 0 else max(0.0, float(middle - half))
        return low, 1.0 if self.count == n else min(1.0, float(middle + half))

    @property
    def low(self) -> float:
        """The lower end of `interval`."""
        return self.interval[0]

    @property
    def high(self) -> float:
        """The upper end of `interval`."""
        return self.interval[1]

    def to_dict(self) -> dict[str, Any]:
        """Count, total, value and interval as JSON can hold them."""
        value = self.value if self.total else None
        return {**asdict(self), "value": value, "interval": list(self.interval)}

    def __str__(self) -> str:
        if not self.total:
            return "none of 0"
        return f"{self.value:.1%} ({self.low:.1%} to {self.high:.1%}) of {self.total}"


@dataclass(frozen=True, kw_only=True)
class Finding:
    """What was measured for one claim.

    `measure` functions fill in `state`, `measured` (words), `numbers` (JSON), `starts` and,
    where the claim does not apply, `reason`. `evaluate` adds the claim's own words and the
    seconds.
    """

    state: ClaimState
    measured: str = ""
    numbers: Mapping[str, Any] = field(default_factory=dict)
    starts: int = 0
    reason: str = ""
    key: str = ""
    title: str = ""
    source: str = ""
    statement: str = ""
    requirement: str = ""
    seconds: float = 0.0

    @property
    def holds(self) -> bool:
        """Whether it held. False where it does not apply, too: ask `state`."""
        return self.state is ClaimState.HELD

    @property
    def name(self) -> str:
        """The title."""
        return self.title

    @property
    def paper(self) -> str:
        """The statement."""
        return self.statement

    def to_dict(self) -> dict[str, Any]:
        """The finding as JSON can hold it: shares with their intervals, infinity as null."""
        fields = {name: getattr(self, name) for name in self.__dataclass_fields__}
        return {
            **fields,
            "state": str(self.state),
            "name": self.title,
            "paper": self.statement,
            "holds": self.holds,
            "numbers": _plain(self.numbers),
        }


@dataclass(frozen=True, kw_only=True)
class Claim(Generic[P]):
    """One row: what is claimed, where, and how it is measured on a problem.

    `key` names it to a machine (words with dashes, never shown as a heading), `title` to a
    reader. `source` says where it is claimed, `requirement` when it counts as held.
    `measure(problem, starts)` returns a `Finding`.
    """

    key: str
    title: str
    source: str
    statement: str
    requirement: str
    measure: Callable[[P, int], Finding]

    def evaluate(self, problem: P, starts: int) -> Finding:
        """Measure, and put the claim's words and the seconds beside the numbers."""
        began = perf_counter()
        found = self.measure(problem, starts)
        return replace(
            found,
            key=self.key,
            title=self.title,
            source=self.source,
            statement=self.statement,
            requirement=self.requirement,
            seconds=perf_counter() - began,
        )


def judged(
    holds: bool, measured: str, *, numbers: Mapping[str, Any], starts: int, reason: str = ""
) -> Finding:
    """The finding of a claim that applies."""
    state = ClaimState.HELD if holds else ClaimState.NOT_HELD
    return Finding(state=state, measured=measured, numbers=numbers, starts=starts, reason=reason)


def does_not_apply(
    reason: str, measured: str = "", *, numbers: Mapping[str, Any] | None = None, starts: int = 0
) -> Finding:
    """The finding of a claim that says nothing about this problem, and why.

    `reason` continues "does not apply, because".
    """
    return Finding(
        state=ClaimState.DOES_NOT_APPLY,
        reason=reason,
        measured=measured,
        numbers=numbers or {},
        starts=starts,
    )


def evaluate(
    claims: Sequence[Claim[P]],
    problem: P,
    *,
    starts: int,
    jobs: int = -1,
    on_finding: Callable[[Finding], None] | None = None,
) -> list[Finding]:
    """Every claim measured, `jobs` at a time in threads, in the order of the table.

    `on_finding` receives each finding as it comes.
    """
    work = joblib.Parallel(n_jobs=jobs, prefer="threads", return_as="generator_unordered")(
        joblib.delayed(claim.evaluate)(problem, starts) for claim in claims
    )
    found: dict[str, Finding] = {}
    for finding in work:
        found[finding.key] = finding
        if on_finding is not None:
            on_finding(finding)
    return [found[claim.key] for claim in claims]


def exit_status(findings: Sequence[Finding]) -> int:
    """0: every claim that applies held. 1: one did not. 3: none applies."""
    states = {finding.state for finding in findings}
    if ClaimState.NOT_HELD in states:
        return SOME_NOT_HELD
    return ALL_HELD if ClaimState.HELD in states else NONE_APPLIES


TABLE_HEAD = ("claim", "state", "measured", "starts", "required", "statement")


def table_rows(findings: Sequence[Finding]) -> list[tuple[str, ...]]:
    """The findings as rows of words under `TABLE_HEAD`, for a terminal or a page."""
    return [
        (
            finding.title,
            state_in_words(finding),
            finding.measured or "-",
            str(finding.starts or "-"),
            finding.requirement,
            f"{finding.statement} [{finding.source}]" if finding.source else finding.statement,
        )
        for finding in findings
    ]


def state_in_words(finding: Finding) -> str:
    """held, NOT held, or does not apply and why."""
    if finding.state is ClaimState.DOES_NOT_APPLY:
        return f"does not apply, because {finding.reason}"
    return "held" if finding.holds else "NOT held"


def summary(findings: Sequence[Finding]) -> str:
    """One sentence: how many claims held, did not hold, and did not apply."""
    of = {one: sum(f.state is one for f in findings) for one in ClaimState}
    return (
        f"{of[ClaimState.HELD]} of {len(findings)} claims held, {of[ClaimState.NOT_HELD]} did not, "
        f"{of[ClaimState.DOES_NOT_APPLY]} do not apply to this problem."
    )


def _plain(value: Any) -> Any:
    if isinstance(value, Share):
        return value.to_dict()
    if isinstance(value, Mapping):
        return {str(name): _plain(one) for name, one in value.items()}
    if isinstance(value, list | tuple | np.ndarray):
        return [_plain(one) for one in value]
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float) and not np.isfinite(value):
        return None
    return value
