"""`offdiag theory run | sweep | verify`: parse, call, write."""

import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table as Grid

from offdiag._checks import ConfigError
from offdiag._files import make_folder, write_json
from offdiag.plots import theory as plots
from offdiag.plots.export import save_chart
from offdiag.report.lab import Panel, Part, Table, write_lab
from offdiag.results.trajectory import Trajectory
from offdiag.theory.claims import Claim, verify
from offdiag.theory.ensemble import ensemble
from offdiag.theory.flow import flow
from offdiag.theory.phases import PhaseAnalysis, find_phases
from offdiag.theory.problem import Problem
from offdiag.theory.state import starts
from offdiag.theory.sweep import Axis, Sweep, cell_shares, run_sweep

CLAIM_FAILED = 1
STILLS = (".png", ".svg")


@dataclass(frozen=True, kw_only=True)
class ProblemFlags:
    """The problem; the defaults are the reference problem of docs/theory.md."""

    dim: int = 1000
    """Dimension d of a patch; the cost of a step does not depend on it."""
    strengths: tuple[float, ...] = (4.0, 2.0)
    """Strength of each feature."""
    probabilities: tuple[float, ...] | None = None
    """Probability of each feature; uniform unless given."""
    patches: int = 16
    """Patches of a sample."""
    feature_patches: int = 2
    """Those among them that hold the feature."""
    masks: Literal["half", "independent"] = "half"
    """A view keeps a uniform half of the patches, or each with probability 1/2."""
    noise: float = 1.0
    """Standard deviation of the noise, in each coordinate."""
    neurons: int = 2
    """Neurons of the network."""
    power: int = 3
    """Odd power of the activation: 3 or 5."""
    normaliser: Literal["bn", "none"] = "bn"
    """Batch normalisation of both outputs, or none."""
    stop_gradient: Literal["target", "none", "online"] = "target"
    """The branch that no gradient passes through."""
    head_lr_ratio: float = 0.01
    """Learning rate of the head over that of the neurons; 0: no head."""
    seed: int = 0
    """Seed of the starts."""

    def problem(self) -> Problem:
        """The problem these flags describe; ConfigError if they make no sense together."""
        return Problem(
            dim=self.dim,
            strengths=self.strengths,
            probabilities=self.probabilities,
            patches=self.patches,
            feature_patches=self.feature_patches,
            masks=self.masks,
            noise=self.noise,
            neurons=self.neurons,
            power=self.power,
            normaliser=self.normaliser,
            stop_gradient=self.stop_gradient,
            head_lr_ratio=self.head_lr_ratio,
            seed=self.seed,
        )


@dataclass(frozen=True, kw_only=True)
class TheoryRun(ProblemFlags):
    """Run the exact gradient flow from many random starts and say how they end.

    The first call compiles for half a minute or so; the machine code is kept.
    """

    time: float = 1e8
    """Gradient-flow time to run to: learning rate x steps."""
    starts: int = 100
    """Random starts."""
    rtol: float = 1e-6
    """Relative tolerance of a step."""
    shown: int | None = None
    """The start that --out draws; the first one that the head rescues unless given."""
    json: Path | None = None
    """Write the numbers to this file."""
    out: Path | None = None
    """Write a page, pictures and the drawn trajectories into this directory."""

    def run(self) -> None:
        """Run, print, and write what was asked for."""
        problem = self.problem()
        if self.shown is not None and not 0 <= self.shown < self.starts:
            raise ConfigError(f"shown must be one of 0 to {self.starts - 1}; got {self.shown}.")
        _prepare(self.json, self.out)
        result = ensemble(problem, time=self.time, count=self.starts, rtol=self.rtol)
        numbers = result.to_dict()
        _print_numbers(numbers)
        if self.json is not None:
            write_json(self.json, numbers)
        if self.out is not None:
            chosen = _rescued(problem, self) if self.shown is None else self.shown
            _write_run(self.out, problem, numbers, chosen, self)


@dataclass(frozen=True, kw_only=True)
class TheorySweep(ProblemFlags):
    """Run many starts in every cell of a grid; write one table and its phase diagrams.

    A sweep that is stopped goes on when the same command is given again.
    """

    vary: tyro.conf.UseAppendAction[tuple[tuple[str, ...], ...]]
    """NAME LOW HIGH STEPS [log], once for each parameter to vary; strengths.2 is the second."""
    out: Path
    """Directory of the table, the page and, until it is done, the finished cells."""
    time: float = 1e8
    """Gradient-flow time to run to."""
    starts: int = 32
    """Random starts in each cell."""
    rtol: float = 1e-6
    """Relative tolerance of a step."""
    jobs: int = -1
    """Threads; -1: one for each core."""

    def run(self) -> None:
        """Run what is not on disk yet, with the time left, and draw."""
        sweep = Sweep(
            problem=self.problem(),
            axes=tuple(_axis(words) for words in self.vary),
            starts=self.starts,
            time=self.time,
            rtol=self.rtol,
        )
        _prepare(None, self.out)
        with Progress(
            TextColumn("cells"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("time left"),
            TimeRemainingColumn(),
            console=Console(stderr=True),
        ) as progress:
            task = progress.add_task("cells", total=len(sweep))
            table = run_sweep(
                sweep,
                self.out,
                jobs=self.jobs,
                on_cell=lambda done, _: progress.update(task, completed=done),
            )
        failed = sum(one == "failed" for one in table["outcome"].to_pylist())
        print(f"{table.num_rows} starts in {len(sweep)} cells; {failed} failed.")
        _write_sweep(self.out, sweep, cell_shares(table), failed)


@dataclass(frozen=True, kw_only=True)
class TheoryVerify(ProblemFlags):
    """Measure the theorem claim by claim; ends with 1 if a claim does not hold."""

    starts: int = 200
    """Random starts for each measurement."""
    jobs: int = -1
    """Threads; -1: one for each core."""
    json: Path | None = None
    """Write the claims to this file."""
    out: Path | None = None
    """Write a page with the table and the laws into this directory."""

    def run(self) -> None:
        """Measure, print the table, write what was asked for."""
        _prepare(self.json, self.out)
        claims = verify(self.problem(), count=self.starts, jobs=self.jobs)
        grid = Grid(title="The theorem, claim by claim", show_lines=True)
        for heading in ("claim", "the paper", "asked for", "measured", "starts", "holds"):
            grid.add_column(heading)
        for claim in claims:
            holds = "[green]yes[/]" if claim.holds else "[bold red]NO[/]"
            grid.add_row(
                claim.name,
                claim.paper,
                claim.requirement,
                claim.measured,
                str(claim.starts),
                holds,
            )
        Console().print(grid)
        if self.json is not None:
            write_json(self.json, [claim.to_dict() for claim in claims])
        if self.out is not None:
            _write_claims(self.out, claims)
        broken = [claim.name for claim in claims if not claim.holds]
        if broken:
            print(f"does not hold: {'; '.join(broken)}", file=sys.stderr)
            sys.exit(CLAIM_FAILED)


Theory = (
    Annotated[TheoryRun, tyro.conf.subcommand("run")]
    | Annotated[TheorySweep, tyro.conf.subcommand("sweep")]
    | Annotated[TheoryVerify, tyro.conf.subcommand("verify")]
)


def _axis(words: tuple[str, ...]) -> Axis:
    expected = "expected --vary NAME LOW HIGH STEPS [log]"
    if len(words) not in (4, 5) or (len(words) == 5 and words[4] != "log"):
        raise ConfigError(f"{expected}; got {' '.join(words)!r}.")
    try:
        low, high, steps = float(words[1]), float(words[2]), int(words[3])
    except ValueError:
        raise ConfigError(f"{expected}, with numbers; got {' '.join(words)!r}.") from None
    name = words[0].lstrip("-").replace("-", "_")
    return Axis(name=name, low=low, high=high, steps=steps, log=len(words) == 5)


def _rescued(problem: Problem, flags: TheoryRun) -> int:
    """The first start that is diverse with the head and not without; else the first one."""
    count = min(flags.starts, 100)
    with_head = ensemble(problem, time=flags.time, count=count, rtol=flags.rtol)
    plain = replace(problem, head_lr_ratio=0.0)
    without = ensemble(plain, time=flags.time, count=count, rtol=flags.rtol)
    pairs = zip(with_head.outcomes, without.outcomes, strict=True)
    found = (i for i, (now, then) in enumerate(pairs) if now == "diverse" != then)
    return next(found, 0)


def _write_run(
    out: Path, problem: Problem, numbers: dict[str, Any], chosen: int, flags: TheoryRun
) -> None:
    start = starts(problem, chosen + 1)[chosen]
    plain = replace(problem, head_lr_ratio=0.0)
    with_head = flow(problem, start, time=flags.time, rtol=flags.rtol)
    without = flow(plain, start, time=flags.time, rtol=flags.rtol)
    story = find_phases(with_head, frozen=without)
    phases = [(phase.name, phase.start, phase.end) for phase in story.phases]
    with_head.save(out / "with-head.npz")
    without.save(out / "without-head.npz")
    picture = plots.story(with_head, without, phases=phases)
    for ending in STILLS:
        save_chart(picture, out / f"story{ending}")
    write_json(out / "numbers.json", numbers)
    shares = f"{numbers['diverse']:.0%} of {numbers['starts']} starts learn all they can"
    write_lab(
        out / "theory.html",
        title="One theorem, many starts",
        lede=[f"{shares}; {numbers['collapsed_strong']:.0%} collapse on the strong feature."],
        parts=[
            Part(heading="How they end", table=_table(numbers)),
            Part(
                heading=f"Start {chosen}, with the head and without",
                lead="Time is learning rate times steps, on a logarithmic axis; the phases are "
                "shaded where they were found.",
                table=_phases(story),
                panels=_pairs(with_head, without, phases),
            ),
        ],
    )
    print(f"wrote {out / 'theory.html'}")


def _pairs(
    with_head: Trajectory, without: Trajectory, phases: list[tuple[str, float, float]]
) -> list[Panel]:
    words = (
        ("What is learned", "Inner products of neurons and features."),
        ("The head", "Its entries off the diagonal."),
        ("The noise", "Each neuron's response to a patch of noise."),
        ("The loss", "Of the population. It cannot tell both ends apart."),
    )
    columns = (plots.panels(with_head, phases=phases), plots.panels(without))
    return [
        Panel(title=f"{title} {side}", how=how, chart=chart)
        for (title, how), pair in zip(words, zip(*columns, strict=True), strict=True)
        for side, chart in zip(("with the head", "without"), pair, strict=True)
    ]


def _write_sweep(out: Path, sweep: Sweep, cells: list[dict[str, Any]], failed: int) -> None:
    axes = [(axis.name, axis.values, axis.log) for axis in sweep.axes]
    if len(axes) > 2:
        print(f"{len(axes)} parameters vary: no phase diagram, only {out / 'sweep.parquet'}.")
        return
    readings = (
        ("diverse", "all features learned"),
        ("collapsed_strong", "all neurons on the strong feature"),
        ("unlearned", "a neuron has learned nothing"),
        ("median_max_off_diagonal", "how far the head went, |E| at its peak"),
    )
    panels = []
    for reading, how in readings:
        chart = plots.phase_diagram(cells, axes, reading=reading)
        panels.append(Panel(title=reading.replace("_", " "), how=how, chart=chart))
        for ending in STILLS:
            save_chart(chart, out / f"{reading.replace('_', '-')}{ending}", width=640, height=480)
    write_lab(
        out / "sweep.html",
        title="Phase diagram",
        lede=[f"{sweep.starts} starts in each of {len(sweep)} cells; {failed} starts failed."],
        parts=[Part(heading="Shares of the starts", panels=panels)],
    )
    print(f"wrote {out / 'sweep.html'}")


def _write_claims(out: Path, claims: list[Claim]) -> None:
    numbers = {claim.name: claim.numbers for claim in claims}
    size, wait = numbers["max |E_21| ~ sqrt(rho)"], numbers["T_1 ~ d^2"]
    rho, dims = size["head_lr_ratio"], wait["dim"]
    middle = wait["median_time"][len(dims) // 2] / dims[len(dims) // 2] ** 2
    laws = {
        "sqrt-law": plots.power_law(
            rho,
            size["median_max"],
            [(value / 3) ** 0.5 for value in rho],
            x_title="learning rate of the head / of the neurons, ρ",
            y_title="median of the largest |E|",
            law_name="sqrt(ρ / 3)",
        ),
        "d2-law": plots.power_law(
            dims,
            wait["median_time"],
            [middle * d**2 for d in dims],
            x_title="dimension d",
            y_title="median T1 (learning rate × steps)",
            law_name="∝ d²",
        ),
    }
    for name, chart in laws.items():
        for ending in STILLS:
            save_chart(chart, out / f"{name}{ending}")
    held = sum(claim.holds for claim in claims)
    rows = [
        (c.name, c.paper, c.measured, c.requirement, str(c.starts), "yes" if c.holds else "NO")
        for c in claims
    ]
    head = ("claim", "the paper", "measured", "asked for", "starts", "holds")
    write_lab(
        out / "verify.html",
        title="The theorem, claim by claim",
        lede=[f"{held} of {len(claims)} claims hold."],
        parts=[
            Part(heading="Claims", table=Table(head=head, rows=rows)),
            Part(
                heading="Two laws",
                panels=[
                    Panel(
                        title="The head grows as sqrt(ρ)",
                        how="The line is the bound that a conserved quantity sets, reached.",
                        chart=laws["sqrt-law"],
                    ),
                    Panel(
                        title="The first feature takes time d²",
                        how="The line goes through the middle point.",
                        chart=laws["d2-law"],
                    ),
                ],
            ),
        ],
    )
    write_json(out / "claims.json", [claim.to_dict() for claim in claims])
    print(f"wrote {out / 'verify.html'}")


def _print_numbers(numbers: dict[str, Any]) -> None:
    grid = Grid(title=f"{numbers['starts']} starts to time {numbers['time']:g}", show_header=False)
    for name, value in _table(numbers).rows:
        grid.add_row(name, value)
    console = Console()
    console.print(grid)
    for failure in numbers["failures"]:
        console.print(f"start {failure['start']} failed: {failure['why']}")


def _table(numbers: dict[str, Any]) -> Table:
    rows = [
        (name.replace("_", " "), "never" if value is None else f"{value:.4g}")
        for name, value in numbers.items()
        if isinstance(value, float) or value is None
    ]
    return Table(head=("reading", "value"), rows=rows)


def _phases(story: PhaseAnalysis) -> Table:
    rows = [
        (
            phase.name,
            f"{phase.start:.4g}",
            f"{phase.end:.4g}" if phase.complete else "not over",
            "; ".join(f"{name} {value:.3g}" for name, value in phase.evidence.items()),
        )
        for phase in story.phases
    ]
    return Table(head=("phase", "from", "to", "evidence"), rows=rows)


def _prepare(file: Path | None, folder: Path | None) -> None:
    """Make the places to write to before the work, so that a wrong one is known at once."""
    if folder is not None:
        make_folder(folder)
    if file is not None:
        if file.is_dir():
            raise ConfigError(f"--json needs a file to write; {file} is a folder.")
        make_folder(file.parent)
