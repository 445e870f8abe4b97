"""Any dynamics solved: one start, many starts, a grid of parameters."""

import math
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, is_dataclass, replace
from enum import StrEnum
from itertools import product
from time import perf_counter
from typing import Any, TypeVar

import joblib
import numpy as np
from jaxtyping import Float
from scipy.integrate import LSODA

from offdiag._checks import ConfigError, at_least, within
from offdiag.theory.claim import Share
from offdiag.theory.dynamics import Dynamics, Integrates
from offdiag.theory.solution import Solution, State

D = TypeVar("D")

MAX_STEPS = 20_000  # of the integrator; the dynamics of the table take some hundred
FLOOR = 1e-6  # absolute tolerance over the relative one, times the largest entry of the start


def solve(
    dynamics: Dynamics,
    start: State,
    *,
    time: float | None = None,
    rtol: float = 1e-6,
    at: Sequence[float] | Float[np.ndarray, " times"] | None = None,
) -> Solution:
    """The trajectory from `start` to `time` (the dynamics' horizon unless given).

    SciPy's LSODA, unless the dynamics brings its own integrator; `rtol` bounds the error of one
    step relative to each entry. States are kept at the integrator's steps, or at the times
    `at`. A run that fails is returned as far as it got, with `failure` saying why.
    """
    end = dynamics.horizon if time is None else float(time)
    if not 0 < end < math.inf:
        raise ConfigError(f"time must be a positive number; got {end}.")
    within("rtol", rtol, 1e-12, 1e-2)
    if isinstance(dynamics, Integrates):
        if at is not None:
            raise ConfigError("this dynamics chooses its own times; leave out at.")
        return dynamics.integrate(start, time=end, rtol=rtol)
    began = perf_counter()
    names = list(start)
    shapes = [np.shape(start[name]) for name in names]
    cuts = np.cumsum([int(np.prod(shape)) for shape in shapes])[:-1]

    def unpack(flat: np.ndarray) -> dict[str, np.ndarray]:
        parts = np.split(flat, cuts)
        return {n: p.reshape(s) for n, p, s in zip(names, parts, shapes, strict=True)}

    def slope(now: float, flat: np.ndarray) -> np.ndarray:
        moved = dynamics.velocity(float(now), unpack(flat))
        return np.concatenate([np.ravel(moved[name]) for name in names])

    first = np.concatenate([np.ravel(start[name]) for name in names]).astype(float)
    floor = FLOOR * rtol * max(float(np.abs(first).max(initial=0.0)), 1e-300)
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
        times, table, evaluations, why = _integrate(slope, first, end, rtol, floor, at)
    states = {
        name: part.reshape(len(table), *shape)
        for name, part, shape in zip(names, np.split(table, cuts, axis=1), shapes, strict=True)
    }
    failure = f"stopped at time {times[-1]:.6g} of {end:.6g}: {why}" if why else None
    return Solution(
        time=times,
        states=states,
        settings=settings_of(dynamics),
        method={"name": "LSODA", "rtol": rtol, "evaluations": evaluations},
        seconds=perf_counter() - began,
        failure=failure,
    )


def _integrate(
    slope: Callable[[float, np.ndarray], np.ndarray],
    first: np.ndarray,
    end: float,
    rtol: float,
    floor: float,
    at: Any,
) -> tuple[np.ndarray, np.ndarray, int, str]:
    """Times, states, evaluations, and why it stopped early ("" if it did not)."""
    asked = None if at is None else np.asarray(at, float)
    times, states = ([0.0], [first]) if asked is None else ([], [])
    if asked is not None and asked.size and asked[0] == 0:
        times, states = [0.0], [first]
    why, steps = "", 0
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # LSODA's own words; `why` says it
        solver = LSODA(slope, 0.0, first, end, rtol=rtol, atol=floor)
        while solver.status == "running":
            message = solver.step()
            steps += 1
            if message or not np.isfinite(solver.y).all():
                why = message or "the state is not finite"
            elif steps >= MAX_STEPS:
                why = f"it took more than {MAX_STEPS} steps"
            if why:
                break
            if asked is None:
                times.append(float(solver.t))
                states.append(solver.y.copy())
            else:
                between = asked[(asked > solver.t_old) & (asked <= solver.t)]
                if between.size:
                    dense = solver.dense_output()
                    times += [float(one) for one in between]
                    states += [dense(one) for one in between]
    if not times:
        times, states = [0.0], [first]
    return np.array(times), np.stack(states), int(solver.nfev), why


def settings_of(dynamics: Any) -> dict[str, Any]:
    """The fields of a dynamics, nested ones too, as JSON can hold them."""
    return asdict(dynamics)


def generators(count: int, seed: int = 0) -> list[np.random.Generator]:
    """`count` generators; the i-th is the same whatever the count."""
    return [
        np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(i,))) for i in range(count)
    ]


def solve_starts(
    dynamics: Dynamics, count: int, *, time: float | None = None, rtol: float = 1e-6, seed: int = 0
) -> list[Solution]:
    """The trajectories from `count` starts."""
    return [
        solve(dynamics, dynamics.start(g), time=time, rtol=rtol) for g in generators(count, seed)
    ]


@dataclass(frozen=True, kw_only=True)
class SolvedEnsemble:
    """How many starts of one dynamics ended; `readings[name][i]` is the last one of start i."""

    settings: Mapping[str, Any]
    outcomes: Sequence[StrEnum]
    readings: Mapping[str, np.ndarray]

    def share(self, outcome: StrEnum) -> Share:
        """The share of starts that ended so, with its interval."""
        return Share(sum(one == outcome for one in self.outcomes), len(self.outcomes))

    @property
    def shares(self) -> dict[str, Share]:
        """The share of each outcome that can occur."""
        return {str(one): self.share(one) for one in type(self.outcomes[0])}


def solve_ensemble(
    dynamics: Dynamics,
    *,
    starts: int,
    time: float | None = None,
    rtol: float = 1e-6,
    seed: int = 0,
    jobs: int = 1,
) -> SolvedEnsemble:
    """Outcomes and last readings of `starts` starts, on `jobs` processes."""
    at_least("starts", float(starts), 1.0)
    ends = joblib.Parallel(n_jobs=jobs)(
        joblib.delayed(_end)(dynamics, generator, time, rtol)
        for generator in generators(starts, seed)
    )
    return SolvedEnsemble(
        settings=settings_of(dynamics),
        outcomes=[outcome for outcome, _ in ends],
        readings={name: np.stack([last[name] for _, last in ends]) for name in ends[0][1]},
    )


def solve_sweep(
    dynamics: Dynamics,
    axes: Mapping[str, Sequence[float]],
    *,
    starts: int,
    time: float | None = None,
    rtol: float = 1e-6,
    seed: int = 0,
    jobs: int = 1,
) -> list[tuple[dict[str, float], SolvedEnsemble]]:
    """An ensemble for every combination of the values of the numeric fields `axes` names.

    The same starts in each cell. "problem.dim" names the field of a field. The horizon is each
    cell's own unless `time` is given.
    """
    cells = [dict(zip(axes, values, strict=True)) for values in product(*axes.values())]
    varied = [with_fields(dynamics, cell) for cell in cells]
    solved = joblib.Parallel(n_jobs=jobs)(
        joblib.delayed(solve_ensemble)(one, starts=starts, time=time, rtol=rtol, seed=seed)
        for one in varied
    )
    return list(zip(cells, solved, strict=True))


def with_fields(dynamics: D, values: Mapping[str, float]) -> D:
    """The same dynamics with numeric fields replaced; whole-number fields are rounded."""
    changed: Any = dynamics
    for name, value in values.items():
        changed = _with_field(changed, name, value)
    return changed


def numeric_fields(dynamics: Any, prefix: str = "") -> list[str]:
    """The names that a sweep may vary."""
    names = []
    for field in fields(dynamics):
        value = getattr(dynamics, field.name)
        if is_dataclass(value):
            names += numeric_fields(value, f"{prefix}{field.name}.")
        elif isinstance(value, int | float) and not isinstance(value, bool):
            names.append(f"{prefix}{field.name}")
    return names


def _with_field(dynamics: Any, name: str, value: float) -> Any:
    if name not in numeric_fields(dynamics):
        known = ", ".join(numeric_fields(dynamics))
        raise ConfigError(f"a sweep varies a numeric field, one of {known}; got {name!r}.")
    head, _, rest = name.partition(".")
    if rest:
        return replace(dynamics, **{head: _with_field(getattr(dynamics, head), rest, value)})
    whole = isinstance(getattr(dynamics, head), int)
    return replace(dynamics, **{head: round(value) if whole else float(value)})


def _end(
    dynamics: Dynamics, generator: np.random.Generator, time: float | None, rtol: float
) -> tuple[StrEnum, dict[str, np.ndarray]]:
    solution = solve(dynamics, dynamics.start(generator), time=time, rtol=rtol)
    last = {name: np.asarray(one[-1]) for name, one in dynamics.readings(solution).items()}
    return dynamics.outcome(solution), last
