"""Claims of the papers as rows: which of two runs has more of what, and whether it is so here."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from types import MappingProxyType
from typing import Any

from offdiag._checks import ConfigError, RunError
from offdiag.results.comparison import Cell, Difference, Spread, Status
from offdiag.results.history import RunRecord
from offdiag.runs.compare import CELLS, compare
from offdiag.runs.config import RunConfig
from offdiag.runs.grid import SEED, CellSpec, Grid

RANK = "projection.effective_rank"
STD = "projection.std"
KNN = "knn.features"


@dataclass(frozen=True, kw_only=True)
class Claim:
    """What a paper leads one to expect: `reading` is larger with `more` than with `less`.

    Both are settings of a run, by the names of a grid's axes ("head", "method.variance").
    `reading` is "knn." or "linear." and a part, of the evaluation, or a part and one of its
    readings at the end, as in "projection.effective_rank".
    """

    name: str
    paper: str
    text: str
    more: Mapping[str, Any]
    less: Mapping[str, Any]
    reading: str = RANK


class Outcome(StrEnum):
    """What the interval of the difference, more minus less, says of a claim."""

    HELD = "held"
    """It lies above 0."""
    OPPOSITE = "opposite"
    """It lies below 0."""
    UNDECIDED = "undecided"
    """It holds 0, or there are too few seeds for an interval."""
    NOT_MEASURED = "not measured"
    """No seed has the reading on both sides."""


@dataclass(frozen=True, kw_only=True)
class Finding:
    """A claim and what was measured. `difference` is more minus less, paired by seed.

    Spreads and difference are None where no run has the reading. `failed` are the sentences of
    runs that failed.
    """

    claim: Claim
    more: Spread | None
    less: Spread | None
    difference: Difference | None
    failed: tuple[str, ...] = ()
    config: Mapping[str, Any] = field(default_factory=dict)
    environment: Mapping[str, Any] = field(default_factory=dict)

    @property
    def outcome(self) -> Outcome:
        if self.difference is None:
            return Outcome.NOT_MEASURED
        if self.difference.low > 0:
            return Outcome.HELD
        return Outcome.OPPOSITE if self.difference.high < 0 else Outcome.UNDECIDED


NO_HEAD = MappingProxyType({"method": "simsiam", "head": "none"})
"""SimSiam whose head is the frozen identity: its projection collapses to few directions."""


def _of_head(name: str, head: str, paper: str, text: str, reading: str = RANK) -> Claim:
    more = {"method": "simsiam", "head": head}
    return Claim(name=name, paper=paper, text=text, more=more, less=NO_HEAD, reading=reading)


def _of_term(name: str, paper: str, text: str, method: str, term: str, reading: str) -> Claim:
    """The method as it is against the same with one weight at 0."""
    less = {"method": method, f"method.{term}": 0.0}
    return Claim(
        name=name, paper=paper, text=text, more={"method": method}, less=less, reading=reading
    )


CLAIMS: Mapping[str, Claim] = MappingProxyType(
    {
        claim.name: claim
        for claim in (
            _of_head(
                "off-diagonal-rank",
                "off-diagonal",
                "Wen & Li 2022",
                "a head that starts as the identity and trains its off-diagonal entries keeps "
                "more directions than no head",
            ),
            _of_head(
                "off-diagonal-knn",
                "off-diagonal",
                "Wen & Li 2022",
                "features learned with the off-diagonal head are worth more than without a head",
                KNN,
            ),
            _of_head(
                "mlp-rank",
                "mlp",
                "Chen & He 2021",
                "an MLP head keeps more directions than no head",
            ),
            _of_head(
                "direct-pred-rank",
                "direct-pred",
                "Tian et al. 2021",
                "a head set from eigenvalues, without gradient, keeps more directions than no head",
            ),
            _of_head(
                "direct-copy-rank",
                "direct-copy",
                "Wang et al. 2021",
                "the second moment itself, as the head, keeps more directions than no head",
            ),
            _of_head(
                "iso-rank",
                "iso",
                "Halvagal et al. 2023",
                "equal speed for all eigenvalues keeps more directions than no head",
            ),
            _of_head(
                "newton-schulz-rank",
                "newton-schulz",
                "Richemond et al. 2023",
                "a root of the second moment as the head keeps more directions than no head",
            ),
            _of_head(
                "spectral-filter-rank",
                "spectral-filter",
                "Zhuo et al. 2023",
                "a low-pass filter on the online side keeps more directions than no head",
            ),
            Claim(
                name="stop-gradient",
                paper="Chen & He 2021",
                text="without the stop-gradient SimSiam collapses: the normalised outputs spread "
                "less",
                more={"method": "simsiam", "head": "mlp", "normaliser": "l2"},
                less={
                    "method": "simsiam",
                    "head": "mlp",
                    "normaliser": "l2",
                    "method.stop_gradient": "none",
                },
                reading=STD,
            ),
            _of_term(
                "vicreg-variance",
                "Bardes et al. 2022",
                "without its variance term VICReg collapses: the normalised outputs spread less",
                "vicreg",
                "variance",
                STD,
            ),
            _of_term(
                "vicreg-covariance",
                "Bardes et al. 2022",
                "without its covariance term the projection of VICReg has fewer directions",
                "vicreg",
                "covariance",
                RANK,
            ),
            _of_term(
                "barlow-redundancy",
                "Zbontar et al. 2021",
                "without redundancy reduction the projection of Barlow Twins has fewer directions",
                "barlow-twins",
                "redundancy",
                RANK,
            ),
            Claim(
                name="koleo-rank",
                paper="Sablayrolles et al. 2019",
                text="pushing each sample from its nearest neighbour keeps more directions than "
                "no head alone",
                more={**NO_HEAD, "regulariser": "koleo"},
                less=NO_HEAD,
            ),
            Claim(
                name="sigreg-rank",
                paper="Balestriero & LeCun 2025",
                text="projections towards a standard Gaussian, in place of a head, keep more "
                "directions than no head alone",
                more={"method": "sigreg"},
                less=NO_HEAD,
            ),
        )
    }
)
"""By name; a new claim is one more row."""


def chosen_claims(only: Sequence[str] = ()) -> list[Claim]:
    """Those of CLAIMS, or some by name; ConfigError for a name that is none."""
    for name in only:
        if name not in CLAIMS:
            raise ConfigError(f"there is no claim {name!r}: choose among {', '.join(CLAIMS)}.")
    return [claim for name, claim in CLAIMS.items() if not only or name in only]


def claims_grid(base: RunConfig, claims: Sequence[Claim], seeds: Sequence[int]) -> Grid:
    """The runs that the claims need, each once."""
    rows: list[Mapping[str, Any]] = []
    for claim in claims:
        rows += [dict(side) for side in (claim.more, claim.less) if dict(side) not in rows]
    return Grid(base=base, rows=tuple(rows), axes={SEED: tuple(seeds)})


def verify(
    base: RunConfig,
    claims: Sequence[Claim],
    out: Path,
    *,
    seeds: Sequence[int] = (0, 1, 2, 3, 4),
    jobs: int | None = None,
    on_cell: Callable[[Cell], None] = lambda cell: None,
) -> list[Finding]:
    """Train what the claims need on `base`'s data and budget, and measure each.

    Runs that claims share are trained once. The directory is a grid of runs: the same call
    again goes on, and a cell that fails stops no other.
    """
    grid = claims_grid(base, claims, seeds)
    ended = compare(grid, out, jobs=jobs, on_cell=on_cell)
    cells = {cell.name: cell for cell in ended.cells}
    return [_finding(claim, grid, cells, out) for claim in claims]


def _finding(claim: Claim, grid: Grid, cells: Mapping[str, Cell], out: Path) -> Finding:
    sides = [
        [cells[name] for name, spec in grid.cells().items() if _row(spec) == dict(side)]
        for side in (claim.more, claim.less)
    ]
    more, less = (_by_seed(side, claim.reading, out) for side in sides)
    first = sides[0][0]
    return Finding(
        claim=claim,
        more=Spread.of(more.values()),
        less=Spread.of(less.values()),
        difference=Difference.of(more, less),
        failed=tuple(cell.error for side in sides for cell in side if cell.error is not None),
        config=first.settings,
        environment=first.circumstances,
    )


def _by_seed(cells: Sequence[Cell], reading: str, out: Path) -> dict[int, float]:
    found = {cell.seed: value(out, cell, reading) for cell in cells}
    return {seed: one for seed, one in found.items() if one is not None}


def _row(spec: CellSpec) -> dict[str, Any]:
    return {axis: one for axis, one in spec.values.items() if axis != SEED}


def value(out: Path, cell: Cell, reading: str) -> float | None:
    """A reading of a finished run; None where the run lacks it or it is not finite."""
    if cell.status is not Status.FINISHED:
        return None
    try:
        record = RunRecord.load(out / CELLS / cell.name)
    except RunError:
        return None
    part, _, name = reading.partition(".")
    if part in ("knn", "linear"):
        found = (record.evaluation or {}).get(part, {}).get(name)
    else:
        found = getattr(getattr(record.history[-1], part), name, None)
    return float(found) if found is not None and math.isfinite(found) else None
