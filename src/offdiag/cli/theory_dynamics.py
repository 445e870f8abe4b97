"""The bodies of `offdiag theory run | verify --dynamics NAME`."""

import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table as Grid

from offdiag._checks import ConfigError, at_least
from offdiag._files import make_folder, write_json
from offdiag.plots.dynamics import reading_over_time, wants_log_time
from offdiag.plots.export import save_chart
from offdiag.report.lab import Panel, Part, Table, write_lab
from offdiag.theory.claim import TABLE_HEAD, Finding, exit_status, summary, table_rows
from offdiag.theory.dynamics import Dynamics, dynamics_entry
from offdiag.theory.solve import (
    generators,
    numeric_fields,
    settings_of,
    solve,
    solve_ensemble,
    with_fields,
)
from offdiag.theory.verify import names_of, verify_dynamics

DEFAULT = "wen-li"
STILLS = (".png", ".svg", ".pdf")


def verify_named(name: str, *, starts: int, jobs: int, json: Path | None, out: Path | None) -> int:
    """Measure the claims of a dynamics, or of all, print and write them; the exit status."""
    at_least("starts", float(starts), 2.0)
    names = names_of(name)
    found = verify_dynamics(
        names,
        starts=starts,
        jobs=jobs,
        on_finding=lambda of, finding: print(
            f"{of}: {finding.title}: {finding.state}", file=sys.stderr
        ),
    )
    everything = [finding for one in names for finding in found[one]]
    for one in names:
        _print_findings(f"{one}: {dynamics_entry(one).paper}", found[one])
    print(summary(everything))
    if json is not None:
        make_folder(json.parent)
        write_json(json, {one: [f.to_dict() for f in found[one]] for one in names})
    if out is not None:
        make_folder(out)
        write_lab(
            out / "verify.html",
            title="Claims of the dynamics",
            lede=[summary(everything)],
            parts=[
                Part(
                    heading=one,
                    lead=f"{dynamics_entry(one).summary}. {dynamics_entry(one).paper}; "
                    f"read: {dynamics_entry(one).read}.",
                    table=Table(head=TABLE_HEAD, rows=table_rows(found[one])),
                )
                for one in names
            ],
        )
        print(f"wrote {out / 'verify.html'}")
    return exit_status(everything)


def run_named(
    name: str,
    settings: Sequence[str],
    *,
    time: float | None,
    starts: int,
    rtol: float,
    seed: int,
    shown: int,
    json: Path | None,
    out: Path | None,
) -> None:
    """Run a dynamics from many starts, say how they end, and draw one of them."""
    entry = dynamics_entry(name)
    dynamics: Dynamics = with_settings(entry.target(), settings)
    end = dynamics.horizon if time is None else time
    if not 0 <= shown < starts:
        raise ConfigError(f"shown must be one of 0 to {starts - 1}; got {shown}.")
    ensemble = solve_ensemble(dynamics, starts=starts, time=end, rtol=rtol, seed=seed)
    shares = [(str(one), str(share)) for one, share in ensemble.shares.items()]
    grid = Grid(title=f"{name}: {starts} starts to time {end:.4g}", show_header=False)
    for row in shares:
        grid.add_row(*row)
    Console().print(grid)
    if json is not None:
        make_folder(json.parent)
        numbers: dict[str, Any] = {
            "dynamics": name,
            "settings": settings_of(dynamics),
            "time": end,
            "seed": seed,
            "shares": {str(one): share.to_dict() for one, share in ensemble.shares.items()},
            "readings": {one: values.tolist() for one, values in ensemble.readings.items()},
        }
        write_json(json, numbers)
    if out is not None:
        make_folder(out)
        run = solve(
            dynamics, dynamics.start(generators(shown + 1, seed)[shown]), time=end, rtol=rtol
        )
        run.save(out / f"{name}.npz")
        readings = dynamics.readings(run)
        log_time = wants_log_time(run.time, list(readings.values()))
        panels = []
        for reading, values in readings.items():
            chart = reading_over_time(run.time, values, name=reading, log_time=log_time)
            title = reading.replace("_", " ")
            panels.append(Panel(title=title, how=f"Start {shown}, over time.", chart=chart))
            for ending in STILLS:
                save_chart(chart, out / f"{reading.replace('_', '-')}{ending}")
        fields = [(one, str(value)) for one, value in settings_of(dynamics).items()]
        write_lab(
            out / "theory.html",
            title=f"{entry.summary} ({name})",
            lede=[f"{entry.paper}. {starts} starts to time {end:.4g}, seed {seed}."],
            parts=[
                Part(heading="How they end", table=Table(head=("outcome", "share"), rows=shares)),
                Part(heading=f"Start {shown}", panels=panels),
                Part(heading="Settings", table=Table(head=("setting", "value"), rows=fields)),
            ],
        )
        print(f"wrote {out / 'theory.html'}")


def with_settings(dynamics: Any, settings: Sequence[str]) -> Any:
    """The dynamics with settings "name=value" replaced: numbers, yes or no, lists with commas."""
    for setting in settings:
        name, equals, words = setting.partition("=")
        name = name.replace("-", "_")
        if not equals:
            raise ConfigError(f"a setting is name=value; got {setting!r}.")
        if name in numeric_fields(dynamics):
            dynamics = with_fields(dynamics, {name: _number(name, words)})
            continue
        known = settings_of(dynamics)
        if name not in known:
            raise ConfigError(f"unknown setting {name!r}: choose one of {', '.join(known)}.")
        value: Any = words
        if isinstance(known[name], bool):
            if words not in ("yes", "no"):
                raise ConfigError(f"{name} is yes or no; got {words!r}.")
            value = words == "yes"
        elif isinstance(known[name], tuple):
            value = tuple(_number(name, one) for one in words.split(","))
        elif not isinstance(known[name], str):
            raise ConfigError(f"{name} cannot be set here; set one of its fields.")
        dynamics = replace(dynamics, **{name: value})
    return dynamics


def _number(name: str, words: str) -> float:
    try:
        return float(words)
    except ValueError:
        raise ConfigError(f"{name} must be a number; got {words!r}.") from None


def _print_findings(title: str, findings: Sequence[Finding]) -> None:
    grid = Grid(title=title, show_lines=True)
    for heading in TABLE_HEAD:
        grid.add_column(heading)
    for row in table_rows(findings):
        grid.add_row(*row)
    Console().print(grid)
