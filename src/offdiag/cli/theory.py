"""`offdiag theory run | sweep | verify | explore`: parse, call, write."""

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import tyro
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table as Grid

from offdiag._checks import ConfigError, at_least
from offdiag._files import make_folder, write_json
from offdiag.cli.explore import TheoryExplore
from offdiag.cli.theory_dynamics import DEFAULT, run_named, verify_named
from offdiag.plots import theory as plots
from offdiag.plots.export import save_chart
from offdiag.report.lab import Panel, Part, Table, write_lab
from offdiag.results.trajectory import Trajectory
from offdiag.theory.claim import (
    SOME_NOT_HELD,
    TABLE_HEAD,
    Finding,
    Share,
    exit_status,
    state_in_words,
    summary,
    table_rows,
)
from offdiag.theory.claims import CLAIMS, verify
from offdiag.theory.ensemble import Ensemble, InterruptedEnsemble, ensemble
from offdiag.theory.flow import check_size, estimated_seconds, flow
from offdiag.theory.outcomes import Outcome, main_feature
from offdiag.theory.phase_one import favoured_feature, horizon, learning_times
from offdiag.theory.phases import NAMES, PhaseAnalysis, find_phases
from offdiag.theory.population import balance
from offdiag.theory.problem import Problem
from offdiag.theory.state import starts
from offdiag.theory.sweep import Axis, Sweep, cell_shares, run_sweep

CLAIM_FAILED = SOME_NOT_HELD
STILLS = (".png", ".svg", ".pdf")
WORTH_PRINTING = 5.0  # seconds; a shorter estimate is not printed


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

    The first call compiles for half a minute or so; the machine code is kept. Ctrl-C keeps
    the starts that have ended.
    """

    dynamics: str = DEFAULT
    """The dynamics to run; the flags of the problem and --jobs are wen-li's."""
    set: tuple[str, ...] = ()
    """Settings of another dynamics, as name=value."""
    time: float | None = None
    """Gradient-flow time to run to: learning rate x steps. Unless given, 30,000 times the median
    first learning time, which grows as d^(q-1)."""
    starts: int = 100
    """Random starts."""
    rtol: float = 1e-6
    """Relative tolerance of a step."""
    shown: int | None = None
    """The start that --out draws; the first one that the head rescues unless given."""
    jobs: int = -1
    """Threads; -1: one for each core."""
    json: Path | None = None
    """Write the numbers to this file."""
    out: Path | None = None
    """Write a page, pictures and the drawn trajectories into this directory."""

    def run(self) -> None:
        """Run, print, and write what was asked for."""
        if self.dynamics != DEFAULT:
            run_named(
                self.dynamics,
                self.set,
                time=self.time,
                starts=self.starts,
                rtol=self.rtol,
                seed=self.seed,
                shown=self.shown or 0,
                json=self.json,
                out=self.out,
            )
            return
        problem = self.problem()
        at_least("starts", float(self.starts), 1.0)
        if self.shown is not None and not 0 <= self.shown < self.starts:
            raise ConfigError(f"shown must be one of 0 to {self.starts - 1}; got {self.shown}.")
        check_size(problem)
        _prepare(self.json, self.out)
        time = _time_of(problem, self.time)
        result = self._ensemble(problem, time)
        numbers = result.to_dict()
        _print_numbers(numbers)
        if self.json is not None:
            write_json(self.json, numbers)
        if self.out is not None:
            self._write(self.out, result)

    def _ensemble(self, problem: Problem, time: float) -> Ensemble:
        """The ensemble, with an estimate and the time left; what is done of it on Ctrl-C."""
        _print_estimate(estimated_seconds(problem, starts=self.starts, jobs=self.jobs))
        try:
            with _progress("starts", self.starts) as advance:
                return ensemble(
                    problem,
                    time=time,
                    count=self.starts,
                    rtol=self.rtol,
                    jobs=self.jobs,
                    on_progress=lambda done, _: advance(done),
                )
        except InterruptedEnsemble as stopped:
            if stopped.partial is not None:
                numbers = {**stopped.partial.to_dict(), "interrupted": True}
                _print_numbers(numbers)
                if self.json is not None:
                    write_json(self.json, numbers)
            raise

    def _write(self, out: Path, result: Ensemble) -> None:
        """The page, the pictures and the trajectories of one start."""
        problem, chosen = result.problem, self.shown
        if chosen is None:
            plain = replace(problem, head_lr_ratio=0.0)
            chosen = _rescued(result, self._ensemble(plain, result.time))
        _write_run(out, result, chosen, rtol=self.rtol)


@dataclass(frozen=True, kw_only=True)
class TheorySweep(ProblemFlags):
    """Run many starts in every cell of a grid; write one table and its phase diagrams.

    A sweep that is stopped goes on when the same command is given again.
    """

    vary: tyro.conf.UseAppendAction[tuple[tuple[str, ...], ...]]
    """NAME LOW HIGH STEPS [log], once for each parameter to vary; strengths.2 is the second."""
    out: Path
    """Directory of the table, the page and, until it is done, the finished cells."""
    time: float | None = None
    """Gradient-flow time to run to. Unless given, each cell runs 30,000 of its own median first
    learning times, which grow as d^(q-1)."""
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
        low, high = sweep.times()
        print(f"cells run to time {low:.3g}" + (f" to {high:.3g}" if high > low else "") + ".")
        _print_estimate(sweep.estimated_seconds(jobs=self.jobs))
        done = 0
        try:
            with _progress("cells", len(sweep)) as advance:

                def on_cell(count: int, _: int) -> None:
                    nonlocal done
                    done = count
                    advance(count)

                table = run_sweep(sweep, self.out, jobs=self.jobs, on_cell=on_cell)
        except KeyboardInterrupt:
            print(
                f"{done} of {len(sweep)} cells are kept in {self.out}: give the same command "
                "again to go on.",
                file=sys.stderr,
            )
            raise
        failed = sum(one == "failed" for one in table["outcome"].to_pylist())
        print(f"{table.num_rows} starts in {len(sweep)} cells; {failed} failed.")
        _write_sweep(self.out, sweep, cell_shares(table), failed)


@dataclass(frozen=True, kw_only=True)
class TheoryVerify(ProblemFlags):
    """Measure the theorem claim by claim.

    Ends with 0 if every claim that applies to the problem held, 1 if one did not hold, 3 if none
    applies (2: a setting that makes no sense; 130: interrupted, after printing what is done).
    """

    dynamics: str = DEFAULT
    """The dynamics whose claims are measured, or all. The flags of the problem are wen-li's; the
    others have their defaults."""
    starts: int | None = None
    """Random starts for each measurement: 200 unless given, 20 for a dynamics other than wen-li."""
    jobs: int = -1
    """Threads; -1: one for each core."""
    json: Path | None = None
    """Write the claims to this file."""
    out: Path | None = None
    """Write a page with the table and the laws into this directory."""

    def run(self) -> int:
        """Measure, print the table, write what was asked for; the exit status."""
        _prepare(self.json, self.out)
        if self.dynamics != DEFAULT:
            few = 20 if self.starts is None else self.starts
            return verify_named(
                self.dynamics, starts=few, jobs=self.jobs, json=self.json, out=self.out
            )
        problem, starts = self.problem(), 200 if self.starts is None else self.starts
        at_least("starts", float(starts), 8.0)
        check_size(problem)
        findings: list[Finding] = []
        try:
            with _progress("claims", len(CLAIMS)) as advance:

                def on_finding(finding: Finding) -> None:
                    findings.append(finding)
                    advance(len(findings))

                findings = verify(problem, count=starts, jobs=self.jobs, on_finding=on_finding)
        except KeyboardInterrupt:
            print_findings(findings, title="The theorem, as far as it was measured")
            if self.json is not None:
                write_json(self.json, [finding.to_dict() for finding in findings])
            raise
        print_findings(findings, title="The theorem, claim by claim")
        if self.json is not None:
            write_json(self.json, [finding.to_dict() for finding in findings])
        if self.out is not None:
            _write_claims(self.out, findings, problem)
        return exit_status(findings)


@dataclass(frozen=True, kw_only=True)
class Theory:
    """The exact dynamics of the paper's theorem: run starts, sweep a grid, verify the claims."""

    command: tyro.conf.OmitSubcommandPrefixes[
        Annotated[TheoryRun, tyro.conf.subcommand("run", prefix_name=False)]
        | Annotated[TheorySweep, tyro.conf.subcommand("sweep", prefix_name=False)]
        | Annotated[TheoryVerify, tyro.conf.subcommand("verify", prefix_name=False)]
        | Annotated[TheoryExplore, tyro.conf.subcommand("explore", prefix_name=False)]
    ]
    """What to do."""

    def run(self) -> int | None:
        """Run the command that was chosen."""
        return self.command.run()


def print_findings(findings: Sequence[Finding], *, title: str) -> None:
    """The table of claims, a summary, and on stderr the claims that did not hold."""
    grid = Grid(title=title, show_lines=True)
    for heading in TABLE_HEAD:
        grid.add_column(heading)
    colours = {"held": "green", "not held": "bold red", "does not apply": "dim"}
    for finding, row in zip(findings, table_rows(findings), strict=True):
        colour = colours[str(finding.state)]
        grid.add_row(row[0], f"[{colour}]{state_in_words(finding)}[/]", *row[2:])
    Console().print(grid)
    print(summary(findings))
    broken = [finding.title for finding in findings if finding.state == "not held"]
    if broken:
        print(f"does not hold: {'; '.join(broken)}", file=sys.stderr)


@contextmanager
def _progress(what: str, total: int) -> Iterator[Callable[[int], None]]:
    """A bar on stderr with the time left; yields what moves it."""
    with Progress(
        TextColumn(what),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("time left"),
        TimeRemainingColumn(),
        console=Console(stderr=True),
        transient=True,
    ) as progress:
        task = progress.add_task(what, total=total)
        yield lambda done: progress.update(task, completed=done)


def _print_estimate(seconds: float) -> None:
    if seconds > WORTH_PRINTING:
        unit, size = ("minutes", 60.0) if seconds > 120 else ("seconds", 1.0)
        print(f"about {seconds / size:.0f} {unit} of work, after compiling.", file=sys.stderr)


def _time_of(problem: Problem, given: float | None) -> float:
    """The time to run to: as given, or the problem's horizon."""
    return horizon(replace(problem, normaliser="bn")) if given is None else given


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


def _rescued(with_head: Ensemble, without: Ensemble) -> int:
    """The first start that is diverse with the head and not without; else the first one."""
    pairs = zip(with_head.outcomes, without.outcomes, strict=True)
    found = (i for i, (now, then) in enumerate(pairs) if now == "diverse" != then)
    return next(found, 0)


def _write_run(out: Path, result: Ensemble, chosen: int, *, rtol: float) -> None:
    problem, numbers = result.problem, result.to_dict()
    start = starts(problem, chosen + 1)[chosen]
    plain = replace(problem, head_lr_ratio=0.0)
    with_head = flow(problem, start, time=result.time, rtol=rtol)
    without = flow(plain, start, time=result.time, rtol=rtol)
    analysis = find_phases(with_head, frozen=without)
    phases = [(phase.name, phase.start, phase.end) for phase in analysis.phases]
    with_head.save(out / "with-head.npz")
    without.save(out / "without-head.npz")
    picture = plots.story(with_head, without, phases=phases)
    for ending in STILLS:
        save_chart(picture, out / f"story{ending}")
    write_json(out / "numbers.json", numbers)
    write_lab(
        out / "theory.html",
        title="One theorem, many starts",
        lede=[
            f"{Share(result.outcomes.count(Outcome.DIVERSE), len(result.outcomes))} starts learn "
            f"all they can; {numbers['collapsed_strong']:.0%} collapse on the strong feature."
        ],
        parts=[
            Part(
                heading="What was asked",
                lead=f"{numbers['starts']} random starts to time {result.time:.4g} (learning rate "
                f"x steps), with a relative tolerance of {rtol:g} a step.",
                table=_settings(problem),
            ),
            Part(
                heading=f"What happened: start {chosen}, with the head and without",
                lead=_phases_in_words(analysis),
                panels=_pairs(with_head, without, phases),
            ),
            Part(
                heading="How often",
                lead="Shares of the starts, with 95% intervals (Wilson).",
                table=_outcomes(result),
            ),
            Part(
                heading="Why", lead=_why(with_head, problem), table=_conserved(with_head, without)
            ),
            Part(heading="How to go on", table=_go_on(problem)),
            Part(heading="The phases in numbers", table=_phases(analysis)),
            Part(heading="All numbers", table=_table(numbers)),
        ],
    )
    print(f"wrote {out / 'theory.html'}")


def _settings(problem: Problem) -> Table:
    """Every setting, the unset ones with what they mean."""
    unset = {
        "probabilities": "uniform",
        "head_trains": "all entries off the diagonal",
        "head_start": "the identity",
    }
    rows = [
        (name.replace("_", " "), unset[name] if value is None else str(value))
        for name, value in problem.to_dict().items()
    ]
    return Table(head=("setting", "value"), rows=rows)


def _outcomes(result: Ensemble) -> Table:
    total, rows = len(result.outcomes), []
    for outcome in Outcome:
        share = Share(result.outcomes.count(outcome), total)
        if share.count:
            name = str(outcome).replace("_", " ")
            rows.append((name, str(share.count), f"{share.value:.1%}", _interval(share)))
    return Table(head=("outcome", "starts", "share", "95% interval"), rows=rows)


def _interval(share: Share) -> str:
    return f"{share.low:.1%} to {share.high:.1%}"


def _phases_in_words(analysis: PhaseAnalysis) -> str:
    """A sentence for each phase that took place."""
    leader = "No neuron" if analysis.leader is None else f"Neuron {analysis.leader + 1}"
    meaning = {
        NAMES[0]: f"{leader} learns its feature, and nothing else moves much.",
        NAMES[1]: "The head grows until what it brings the other neuron outweighs that neuron's "
        "own output.",
        NAMES[2]: "The other neuron's gradient now sees mostly what it is brought, so it gains "
        "along its own feature only.",
        NAMES[3]: "Both have learned; the head returns to the identity.",
    }
    numerals = dict(zip(NAMES, ("I", "II", "III", "IV"), strict=True))
    sentences = [
        f"{numerals[phase.name]} ({phase.name}, time {phase.start:.3g} to {phase.end:.3g}): "
        + meaning[phase.name]
        for phase in analysis.phases
    ]
    return " ".join([*sentences, "Time is on a logarithmic axis; the phases are shaded."])


def _why(run: Trajectory, problem: Problem) -> str:
    """What the closed forms say of this start."""
    first = run.inner_products[0]
    favoured = ", ".join(
        f"neuron {j + 1} feature {int(feature) + 1}"
        for j, feature in enumerate(favoured_feature(problem, first))
    )
    predicted = learning_times(problem, run.inner_products[:1], run.noise[:1]).min()
    return (
        f"Without a head the start decides: it favours {favoured}. The closed form puts the first "
        f"learning time at {predicted:.4g}. With the head, a neuron that feeds others grows by "
        "what they lose, which bounds how far the head can go (docs/theory.md, eq. 14 and 15)."
    )


def _conserved(with_head: Trajectory, without: Trajectory) -> Table:
    """The conserved quantity of each neuron at both ends, and how much of its bound is used."""
    problem = Problem.from_dict(with_head.problem)
    learned = main_feature(with_head.inner_products[-1]), main_feature(without.inner_products[-1])
    off = ~np.eye(problem.neurons, dtype=bool)
    conserving = (
        problem.head_lr_ratio > 0 and problem.normaliser == "bn" and problem.head_trains is None
    )
    kept = (
        balance(problem, with_head.inner_products, with_head.noise, with_head.head)
        if conserving
        else None
    )
    squares = with_head.head**2 * off
    fed = (squares.sum(2) - squares.sum(1)).max(0)
    rows = []
    for j in range(problem.neurons):
        used = "-"
        if kept is not None:
            limit = problem.head_lr_ratio / problem.power * float(kept[0, j])
            used = f"{fed[j] / limit:.1%}"
        rows.append(
            (
                f"neuron {j + 1}",
                _feature_name(learned[0][j]),
                _feature_name(learned[1][j]),
                "-" if kept is None else f"{kept[0, j]:.6g}",
                "-" if kept is None else f"{kept[-1, j]:.6g}",
                used,
            )
        )
    return Table(
        head=(
            "neuron",
            "learned with the head",
            "learned without",
            "(14) at the start",
            "(14) at the end",
            "largest share of the bound (15) on what it is fed",
        ),
        rows=rows,
    )


def _feature_name(feature: Any) -> str:
    return "nothing" if int(feature) < 0 else f"feature {int(feature) + 1}"


def _go_on(problem: Problem) -> Table:
    words = "" if problem == Problem() else " with the same settings"
    return Table(
        head=("command", "what it does"),
        rows=[
            ("offdiag theory verify", f"measures the theorem claim by claim{words}"),
            (
                "offdiag theory sweep --vary dim 100 1e5 8 log --vary head-lr-ratio 1e-4 1 8 log "
                "--out DIR",
                f"draws the outcomes over d and rho{words}",
            ),
            ("offdiag theory run --shown N --out DIR", "draws another start"),
        ],
    )


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
        ("unlearned", "a neuron has learned nothing by the end"),
        ("median_max_off_diagonal", "how far the head went, |E| at its peak"),
    )
    low, high = sweep.times()
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
        parts=[
            Part(
                heading="What was asked",
                lead=f"Every combination of {', '.join(name for name, _, _ in axes)}; each cell "
                f"ran to time {low:.3g}" + (f" to {high:.3g}" if high > low else "") + ".",
                table=_settings(sweep.problem),
            ),
            Part(heading="Shares of the starts", panels=panels),
        ],
    )
    print(f"wrote {out / 'sweep.html'}")


def _write_claims(out: Path, findings: Sequence[Finding], problem: Problem) -> None:
    measured = {finding.key: finding.numbers for finding in findings}
    panels = []
    size, wait = measured.get("head-size", {}), measured.get("first-learning-time", {})
    if size:
        rho, q = size["head_lr_ratio"], problem.power
        chart = plots.power_law(
            rho,
            size["median_max"],
            [(value / q) ** 0.5 for value in rho],
            x_title="learning rate of the head / of the neurons, ρ",
            y_title="median of the largest |E|",
            law_name=f"sqrt(ρ / {q})",
        )
        panels.append(
            Panel(
                title="The head grows as sqrt(ρ)",
                how="The line is the bound that a conserved quantity sets.",
                chart=chart,
            )
        )
        _save_stills(chart, out, "sqrt-law")
    if wait:
        chart = plots.power_law(
            wait["dim"],
            wait["median_time"],
            wait["predicted_time"],
            x_title="dimension d",
            y_title="median T1 (learning rate × steps)",
            law_name="closed form",
        )
        panels.append(
            Panel(
                title=f"The first feature takes time ∝ d^{problem.power - 1}",
                how="The line is the closed form for the same starts; nothing is fitted.",
                chart=chart,
            )
        )
        _save_stills(chart, out, "d2-law")
    write_lab(
        out / "verify.html",
        title="The theorem, claim by claim",
        lede=[summary(findings)],
        parts=[
            Part(heading="What was asked", table=_settings(problem)),
            *([Part(heading="Laws", panels=panels)] if panels else []),
            Part(heading="Claims", table=Table(head=TABLE_HEAD, rows=table_rows(findings))),
        ],
    )
    write_json(out / "claims.json", [finding.to_dict() for finding in findings])
    print(f"wrote {out / 'verify.html'}")


def _save_stills(chart: Any, out: Path, name: str) -> None:
    for ending in STILLS:
        save_chart(chart, out / f"{name}{ending}")


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
