"""What happened: the phases of a trajectory, the substitution and the acceleration."""

import warnings
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from jaxtyping import Float

from offdiag.results.trajectory import Trajectory
from offdiag.theory import kernels
from offdiag.theory.population import log_growth
from offdiag.theory.problem import Problem

LEARNED = kernels.LEARNED
IDENTITY = 0.01  # the head is back once its off-diagonal norm is below this share of its peak

NAMES = ("strong feature", "substitution", "acceleration", "identity")


@dataclass(frozen=True, kw_only=True)
class Phase:
    """One of the paper's four phases: when, and the readings that say so.

    `evidence` maps the name of a reading to its value; docs/theory.md, section 7, lists
    them. The end is that of the record where the phase was not over by then.
    """

    name: str
    start: float
    end: float
    complete: bool
    evidence: Mapping[str, float]


@dataclass(frozen=True, kw_only=True)
class PhaseAnalysis:
    """A trajectory read through its leader and its follower.

    The leader is the neuron whose |c| passes 0.5 first; the follower the next one to pass
    it on another feature, or, where none does, the neuron that the leader feeds most;
    None where there is none.

    `substitution[t]` is the share of the follower's output on the leader's feature that
    comes through the head, in [0, 1]: 0 with the identity, above 1/2 where the borrowed
    signal is the larger one. `own_growth` and `other_growth` are the rates d log|c|/dt of
    the follower along its own feature and along the leader's; nan without a follower.
    """

    leader: int | None
    leader_feature: int | None
    follower: int | None
    follower_feature: int | None
    phases: tuple[Phase, ...]
    substitution: Float[np.ndarray, " times"]
    own_growth: Float[np.ndarray, " times"]
    other_growth: Float[np.ndarray, " times"]


def find_phases(run: Trajectory, *, frozen: Trajectory | None = None) -> PhaseAnalysis:
    """Find leader, follower and the phases that took place.

    A phase that never began is left out: without a head only the first is found. `frozen`
    is a run from the same start whose head stays the identity; with it the evidence of the
    third phase says how far the follower gets in the same time without the head.
    """
    problem = Problem.from_dict(run.problem)
    crossing = crossing_times(run)
    leader, follower = find_leader(crossing), None
    if leader is not None and min(problem.neurons, problem.features) > 1:
        follower = find_follower(run, crossing, leader)
    first = _strong_feature(run, crossing)
    if leader is None or follower is None:
        unknown = np.full(run.time.size, np.nan)
        return PhaseAnalysis(
            leader=None if leader is None else leader[0],
            leader_feature=None if leader is None else leader[1],
            follower=None,
            follower_feature=None,
            phases=(first,),
            substitution=unknown,
            own_growth=unknown,
            other_growth=unknown,
        )
    (a, f), (b, g) = leader, follower
    rates = log_growth(problem, run.inner_products, run.noise, run.head)
    analysis = PhaseAnalysis(
        leader=a,
        leader_feature=f,
        follower=b,
        follower_feature=g,
        phases=(first,),
        substitution=borrowed_share(problem, run, neuron=b, feature=f),
        own_growth=rates[:, b, g],
        other_growth=rates[:, b, f],
    )
    return replace(
        analysis, phases=(first, *_later_phases(problem, run, analysis, crossing, frozen))
    )


def find_leader(crossing: Float[np.ndarray, "neurons features"]) -> tuple[int, int] | None:
    """The neuron and the feature of the first crossing; None if there is none."""
    if not np.isfinite(crossing).any():
        return None
    neuron, feature = np.unravel_index(int(crossing.argmin()), crossing.shape)
    return int(neuron), int(feature)


def find_follower(
    run: Trajectory, crossing: Float[np.ndarray, "neurons features"], leader: tuple[int, int]
) -> tuple[int, int]:
    """The follower and its feature, as `PhaseAnalysis` says."""
    a, f = leader
    later = crossing.copy()
    later[a], later[:, f] = np.inf, np.inf
    found = find_leader(later)
    if found is not None:
        return found
    fed = np.abs(run.head[:, :, a]).max(0)
    fed[a] = -1.0
    neuron = int(fed.argmax())
    others = np.abs(run.inner_products[-1, neuron])
    others[f] = -1.0
    return neuron, int(others.argmax())


def crossing_times(
    run: Trajectory, *, level: float = LEARNED
) -> Float[np.ndarray, "neurons features"]:
    """First time at which |c_jl| passes `level`, between records by linear interpolation.

    Infinity where it never does, 0 where it starts above.
    """
    size = np.abs(run.inner_products)
    above = size > level
    first = above.argmax(0)
    out = np.full(first.shape, np.inf)
    for j, feature in zip(*np.nonzero(above.any(0)), strict=True):
        at = int(first[j, feature])
        out[j, feature] = _between(run.time, size[:, j, feature], at, level)
    return out


def borrowed_share(
    problem: Problem, run: Trajectory, *, neuron: int, feature: int
) -> Float[np.ndarray, " times"]:
    """Share of |F_neuron| on samples of `feature` that comes through the head, in [0, 1].

    |sum_s E_js phi_s| / (|sum_s E_js phi_s| + |E_jj phi_j|) with s over the other neurons,
    phi the neurons' signals on that feature (docs/theory.md, eq. 16).
    """
    phi = (problem.strengths[feature] * run.inner_products[:, :, feature]) ** problem.power
    parts = run.head[:, neuron, :] * phi
    own = np.abs(parts[:, neuron])
    borrowed = np.abs(parts.sum(1) - parts[:, neuron])
    total = own + borrowed
    share: np.ndarray = np.zeros_like(total)
    np.divide(borrowed, total, out=share, where=total > 0)
    return share


def off_diagonal_norm(
    head: Float[np.ndarray, "*batch neurons neurons"],
) -> Float[np.ndarray, "*batch"]:
    """Frobenius norm of the head off its diagonal."""
    return np.asarray(np.sqrt(((head * ~np.eye(head.shape[-1], dtype=bool)) ** 2).sum((-2, -1))))


def _between(time: Float[np.ndarray, " times"], value: np.ndarray, at: int, level: float) -> float:
    if at == 0:
        return 0.0
    low, high = value[at - 1], value[at]
    part = (level - low) / (high - low)
    return float(time[at - 1] + part * (time[at] - time[at - 1]))


def _strong_feature(run: Trajectory, crossing: Float[np.ndarray, "neurons features"]) -> Phase:
    end = float(crossing.min())
    done = bool(np.isfinite(end))
    at = min(int(np.searchsorted(run.time, end)), run.time.size - 1)
    size = np.abs(run.inner_products[at])
    others = size.copy()
    others[np.unravel_index(int(size.argmax()), size.shape)] = 0.0
    return Phase(
        name=NAMES[0],
        start=0.0,
        end=end if done else float(run.time[-1]),
        complete=done,
        evidence={
            "largest |c|": float(size.max()),
            "second largest |c|": float(others.max()),
            "off-diagonal norm of E": float(off_diagonal_norm(run.head)[at]),
        },
    )


def _later_phases(
    problem: Problem,
    run: Trajectory,
    analysis: PhaseAnalysis,
    crossing: Float[np.ndarray, "neurons features"],
    frozen: Trajectory | None,
) -> list[Phase]:
    a, f, b, g = (
        analysis.leader,
        analysis.leader_feature,
        analysis.follower,
        analysis.follower_feature,
    )
    assert a is not None and f is not None and b is not None and g is not None
    time, last, began = run.time, float(run.time[-1]), float(crossing.min())
    entry, norm = np.abs(run.head[:, b, a]), off_diagonal_norm(run.head)
    ratio = dominance(problem, run, neuron=b, feeder=a, feature=f)
    above = (ratio > 1.0) & (time >= began)
    if not above.any():
        return []
    at = int(above.argmax())
    dominated = max(began, _between(time, ratio, at, 1.0) if ratio[at - 1] < 1.0 else time[at])
    learned = float(crossing[b, g])
    done = dominated < learned < np.inf
    end = learned if done else last
    scale = np.sqrt(problem.head_lr_ratio) if problem.head_lr_ratio else np.nan
    phases = [
        Phase(
            name=NAMES[1],
            start=began,
            end=dominated,
            complete=True,
            evidence={
                "share of the signal through the head": float(analysis.substitution[at]),
                "|E| over sqrt(rho)": float(entry[at] / scale),
            },
        ),
        Phase(
            name=NAMES[2],
            start=dominated,
            end=end,
            complete=done,
            evidence={
                "e-folds along its own feature": _gained(run, b, g, dominated, end),
                "e-folds along the leader's feature": _gained(run, b, f, dominated, end),
                **(
                    {"e-folds with the head frozen": _gained(frozen, b, g, dominated, end)}
                    if frozen is not None
                    else {}
                ),
                "largest |E| over sqrt(rho)": float(entry.max() / scale),
            },
        ),
    ]
    if done:
        back = (time >= learned) & (norm < IDENTITY * norm.max())
        phases.append(
            Phase(
                name=NAMES[3],
                start=learned,
                end=float(time[int(back.argmax())]) if back.any() else last,
                complete=bool(back.any()),
                evidence={"off-diagonal norm of E at the end": float(norm[-1])},
            )
        )
    return phases


def dominance(
    problem: Problem, run: Trajectory, *, neuron: int, feeder: int, feature: int
) -> Float[np.ndarray, " times"]:
    """How far the borrowed output outweighs the neuron's own, on samples of `feature`.

    k11 (E_ba phi_a)^2 over k11 phi_b^2 + nu K_bb: the variance that comes through the
    head over that of the neuron itself, its noise included (docs/theory.md, eq. 17). Above
    1 the follower's gradient sees mostly what it borrows.
    """
    k = problem.constants()
    phi = k.signal[feature] * run.inner_products[:, :, feature] ** problem.power
    own = k.same * phi[:, neuron] ** 2
    own += k.noise_patches * k.moments.sum() * run.noise[:, neuron, neuron] ** problem.power
    borrowed = k.same * (run.head[:, neuron, feeder] * phi[:, feeder]) ** 2
    ratio: np.ndarray = np.full_like(own, np.inf)
    np.divide(borrowed, own, out=ratio, where=own > 0)
    return ratio


def _gained(run: Trajectory, neuron: int, feature: int, start: float, end: float) -> float:
    """By how many factors of e |c| grows from start to end."""
    size = np.log(np.maximum(np.abs(run.inner_products[:, neuron, feature]), 1e-300))
    first, last = np.interp([start, end], run.time, size)
    return float(last - first)


_RENAMED = {"tell": "find_phases", "Story": "PhaseAnalysis"}


def __getattr__(name: str) -> Any:
    if name in _RENAMED:
        new = _RENAMED[name]
        warnings.warn(f"{name} is now called {new}", DeprecationWarning, stacklevel=2)
        return globals()[new]
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
