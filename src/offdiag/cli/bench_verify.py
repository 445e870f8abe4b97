"""`offdiag bench verify`"""

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from tyro.conf import OmitArgPrefixes

from offdiag._checks import ConfigError, TrainingError
from offdiag.cli.bench import EPOCHS, refuse_a_method
from offdiag.cli.part_settings import configured
from offdiag.runs.config import RunConfig

if TYPE_CHECKING:
    from offdiag.results.comparison import Cell


@dataclass(frozen=True, kw_only=True)
class BenchVerify:
    """Measure claims of the papers: expected direction, difference, interval, held or not.

    The same command again skips what is finished, goes on with what was cut short, and tries
    again what failed. A claim that does not hold is a result: the exit status is 0.
    """

    out: Path | None = None
    """Directory of claims.html, claims.parquet and the runs (in cells)."""
    only: tuple[str, ...] = ()
    """Some claims by name: off-diagonal-rank vicreg-variance; a name that is none lists all."""
    seeds: tuple[int, ...] = (0, 1, 2, 3, 4)
    jobs: int | None = None
    """Runs at a time; by default one for each core, or one on an accelerator."""
    config: Annotated[RunConfig, OmitArgPrefixes] = field(
        default_factory=lambda: RunConfig(epochs=EPOCHS, device="cpu", checkpoint_seconds=60.0)
    )

    def run(self) -> None:
        from offdiag.cli.progress import console
        from offdiag.report.claims import lede, line, write_claims, write_claims_table
        from offdiag.runs.claims import chosen_claims, claims_grid, verify

        if self.out is None:
            raise ConfigError("bench verify needs a directory to write to: give --out DIR.")
        base = configured(self)
        refuse_a_method(base, "bench verify", "off-diagonal-rank")
        base = replace(base, seed=self.seeds[0])
        chosen = chosen_claims(self.only)
        total, done = len(claims_grid(base, chosen, self.seeds).cells()), 0

        def on_cell(cell: "Cell") -> None:
            nonlocal done
            done += 1
            ended = cell.error or (f"{cell.ending.seconds:.0f} s" if cell.ending else "")
            console.print(f"{done}: {cell.name}: {ended}", soft_wrap=True, markup=False)

        console.print(f"{len(chosen)} claims need {total} runs", soft_wrap=True)
        findings = verify(base, chosen, self.out, seeds=self.seeds, jobs=self.jobs, on_cell=on_cell)
        for sentence in [*map(line, findings), *lede(findings)]:
            console.print(sentence, soft_wrap=True, markup=False, highlight=False)
        write_claims(findings, self.out / "claims.html")
        write_claims_table(findings, self.out / "claims.parquet")
        for name in ("claims.html", "claims.parquet"):
            console.print(f"wrote {self.out / name}", soft_wrap=True)
        failed = [(one.claim.name, sentence) for one in findings for sentence in one.failed]
        if failed:
            raise TrainingError(
                f"runs of {len({name for name, _ in failed})} of {len(findings)} claims failed, "
                f"first of {failed[0][0]}: {failed[0][1].rstrip('.')}. The same command tries "
                "them again."
            )
