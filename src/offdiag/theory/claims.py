"""The claims of Wen and Li's theorem, and what an independent check added, as one table.

Each claim says when it is made: outside of that it does not apply, and the finding says why.
Times come from the closed form of the first learning time (`phase_one`), not from a constant.
"""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from offdiag.theory.claim import (
    Claim,
    Finding,
    Share,
    does_not_apply,
    evaluate,
    judged,
)
from offdiag.theory.ensemble import Ensemble, ensemble
from offdiag.theory.flow import flow
from offdiag.theory.outcomes import Outcome, main_feature
from offdiag.theory.phase_one import (
    ENOUGH,
    FEWEST,
    LONGEST,
    favoured_feature,
    feature_pull,
    first_times,
    head_delay,
    horizon,
    inverse_powers,
    median_first_time,
    outweighing_entry,
    time_after_jump,
)
from offdiag.theory.phases import NAMES, find_phases
from offdiag.theory.population import balance
from offdiag.theory.problem import Problem
from offdiag.theory.state import State, starts

PAPER = "Wen and Li 2022"
CHECK = "docs/beyond.md"
DIMS = (100, 300, 1_000, 3_000, 10_000, 30_000, 100_000, 300_000, 1_000_000)
RATIOS = (1e-4, 1e-3, 1e-2, 1e-1)
LARGEST_PULL = 1_000.0  # of the strong feature over the next, as a ratio of pi a^(2q)
LARGE_RATIO = 0.1  # above it the head learns about as fast as the neurons
SMALL_STARTS = 3_000  # the dimension from which a start has no |c| near .1, the level of learned
TRAJECTORIES = 24  # of which whole trajectories are kept
RESCUED = 60  # starts whose phases are looked at, at most


@dataclass(kw_only=True)
class Lab:
    """A problem to measure claims around, and the ensembles that several of them share."""

    problem: Problem
    jobs: int = -1
    ensembles: dict[tuple[Problem, int, float], Ensemble] = field(default_factory=dict)

    def run(self, problem: Problem, count: int, *, times: float = ENOUGH) -> Ensemble:
        """`count` starts to their horizon; computed once.

        The horizon is that of the problem with the normaliser: without one nothing is learned,
        and the first learning time means nothing.
        """
        key = (problem, count, times)
        if key not in self.ensembles:
            time = horizon(replace(problem, normaliser="bn"), first_times=times)
            self.ensembles[key] = ensemble(problem, time=time, count=count, jobs=self.jobs)
        return self.ensembles[key]


def verify(
    base: Problem | None = None,
    *,
    count: int = 200,
    jobs: int = -1,
    on_finding: Callable[[Finding], None] | None = None,
) -> list[Finding]:
    """Measure every claim around a problem, the reference one unless given.

    `count` starts for each measurement, `jobs` threads (-1: one for each core).
    `on_finding` receives each finding as it comes.
    """
    lab = Lab(problem=Problem() if base is None else base, jobs=jobs)
    return evaluate(CLAIMS, lab, starts=count, jobs=1, on_finding=on_finding)


# When the claims are made


def outside_setting(problem: Problem, *, stop_gradient: bool = True) -> str | None:
    """Why the theorem says nothing about a problem, whatever its head; None if it does."""
    if problem.neurons < 2 or problem.features < 2:
        return (
            "it takes two neurons and two features to tell collapse from success; here are "
            f"{problem.neurons} and {problem.features}"
        )
    if problem.normaliser == "none":
        return "the outputs are not normalised"
    if stop_gradient and problem.stop_gradient != "target":
        return "the gradient is not stopped at the target"
    if problem.patches == problem.feature_patches:
        return "no patch holds noise alone, so nothing delays learning"
    return None


def outside_head(problem: Problem) -> str | None:
    """Why the theorem says nothing about this head."""
    reason = outside_setting(problem)
    if reason is not None:
        return reason
    off = ~np.eye(problem.neurons, dtype=bool)
    if problem.head_lr_ratio == 0:
        return "the head does not train"
    if not np.array_equal(problem.trains, off) or not np.array_equal(
        problem.head, np.eye(problem.neurons)
    ):
        return "the head does not start as the identity or does not train exactly off its diagonal"
    if problem.head_lr_ratio > LARGE_RATIO:
        return (
            "the paper's eta_E / eta tends to 0 as d grows; at "
            f"{problem.head_lr_ratio:g} > {LARGE_RATIO:g} the head is no slow addition"
        )
    return None


def no_strong_feature(problem: Problem) -> str | None:
    """Why no feature is the strong one: it must lead both in strength and in pull."""
    pull = feature_pull(problem)
    order = np.sort(pull)[::-1]
    if int(np.argmax(pull)) != int(np.argmax(problem.strengths)) or order[1] > 0.5 * order[0]:
        return "no feature is the strong one: pi a^(2q), which decides, is " + ", ".join(
            f"{value:.3g}" for value in pull
        )
    return None


def too_unequal(problem: Problem) -> str | None:
    """Why the weaker feature is out of reach: the paper has a_1 / a_2 = polylog(d)."""
    order = np.sort(feature_pull(problem))[::-1]
    reason = no_strong_feature(problem)
    if reason is None and order[0] > LARGEST_PULL * order[1]:
        reason = (
            f"the strong feature pulls {order[0] / order[1]:,.0f} times more than the next, "
            f"above {LARGEST_PULL:,.0f}: nearly every follower then lives off the head"
        )
    return reason


def dims_of(
    problem: Problem, *, later: float, delay: float = np.inf, times: float = ENOUGH
) -> tuple[int, ...]:
    """The dimensions at which the first phase is the longest and a start fits the precision.

    `later` is the largest share of T_1 that `time_after_jump` may be, `delay` the longest
    `head_delay`; `times` first learning times must fit into `LONGEST`.
    """
    found = []
    for dim in DIMS:
        if dim < 4 * (problem.features + problem.neurons):
            continue
        one = replace(problem, dim=dim)
        first = median_first_time(one)
        if (
            time_after_jump(one) <= later * first
            and first * times <= LONGEST
            and (delay == np.inf or head_delay(one) <= delay)
        ):
            found.append(dim)
    return tuple(found)


def no_dims(problem: Problem, found: tuple[int, ...], least: int, *, head: bool) -> str | None:
    """Why there are not `least` dimensions to measure at."""
    if len(found) >= least:
        return None
    words = f"only {len(found)} of the dimensions {DIMS[0]} to {DIMS[-1]:,} are in the regime: "
    words += "T_1 must outlast what follows it and fit double precision"
    if head:
        words += ", and the head must grow within T_1, which at "
        words += f"rho = {problem.head_lr_ratio:g} needs a larger d"
    return words


def decades(dims: tuple[int, ...]) -> tuple[int, ...]:
    """At most five of the dimensions, spread evenly, the largest among them."""
    step = max(1, -(-len(dims) // 5))
    return tuple(dims[::-1][::step][::-1])


def compared(more: Share, less: Share) -> bool | None:
    """Whether the first share is the larger one; None where the starts cannot tell."""
    if more.value > less.value:
        return True
    return False if more.high < less.low else None


def undecided(lab_count: int) -> str:
    """The reason of a comparison that `compared` left open."""
    return f"the difference lies within the intervals of {lab_count} starts: take more starts"


def slope(x: Any, y: Any) -> float:
    """The exponent of a power law by least squares on logarithms; nan where y is not positive."""
    x, y = np.asarray(x, float), np.asarray(y, float)
    if not (np.isfinite(y).all() and (y > 0).all()):
        return float("nan")
    return float(np.polyfit(np.log(x), np.log(y), 1)[0])


# The claims


def collapse_without_head(lab: Lab, count: int) -> Finding:
    reason = outside_setting(lab.problem) or no_strong_feature(lab.problem)
    if reason is not None:
        return does_not_apply(reason)
    plain = replace(lab.problem, head_lr_ratio=0.0)
    found = tuple(dim for dim in dims_of(plain, later=0.05) if dim >= SMALL_STARTS // 3)
    short = no_dims(plain, found, 1, head=False)
    if short is not None:
        return does_not_apply(short)
    plain = replace(plain, dim=max(found[0], min(max(plain.dim, SMALL_STARTS), found[-1])))
    run = lab.run(plain, count)
    strong = int(np.argmax(plain.strengths))
    ended = main_feature(run.ends.inner_products)
    learned = (ended >= 0).all(1) & np.array([failure is None for failure in run.ends.failures])
    favoured = favoured_feature(plain, products_of(starts(plain, count)))
    collapsed = (ended == strong).all(1)
    measured = Share(int(collapsed[learned].sum()), int(learned.sum()))
    predicted = Share(int((favoured == strong).all(1)[learned].sum()), int(learned.sum()))
    excess = np.abs(run.ends.losses[learned] - plain.least_loss)
    middle = float(np.median(excess)) if excess.size else float("nan")
    agree = abs(measured.count - predicted.count) <= max(1, 0.03 * measured.total)
    if measured.total < 10:
        return does_not_apply(f"only {measured.total} starts learned on all neurons in time")
    return judged(
        agree and middle < 1e-2 * plain.neurons,
        f"all neurons on the strong feature in {measured} starts whose neurons all learned; "
        f"their starts predict {predicted.value:.1%}. Half of the losses, diverse or not, are "
        f"within {middle:.1e} of the least",
        numbers={
            "collapsed_strong": measured,
            "predicted": predicted,
            "loss_excess": middle,
            "dim": plain.dim,
        },
        starts=count,
    )


def start_decides(lab: Lab, count: int) -> Finding:
    reason = outside_setting(lab.problem, stop_gradient=False)
    if reason is not None:
        return does_not_apply(reason)
    problem = replace(lab.problem, head_lr_ratio=0.0, head_start=None)
    time = horizon(problem)
    drifts = []
    for start in starts(problem, min(count, 12)):
        run = flow(problem, start, time=time, rtol=1e-9, max_steps=20_000)
        before, after = inverse_powers(problem, run.inner_products[[0, -1]])
        moved = np.abs((after - after[:, :1]) - (before - before[:, :1])).max(1)
        drifts.append(float((moved / np.abs(before).max(1)).max()))
    worst = max(drifts)
    return judged(
        worst < 1e-4,
        f"relative drift of the differences at most {worst:.1e} over whole trajectories",
        numbers={"drift": worst},
        starts=len(drifts),
    )


def neurons_without_head(lab: Lab, count: int) -> Finding:
    reason = outside_setting(lab.problem, stop_gradient=False)
    if reason is not None:
        return does_not_apply(reason)
    agreeing, strong, neurons = [], [], tuple(range(2, 9))
    for m in neurons:
        problem = replace(
            lab.problem,
            neurons=m,
            head_lr_ratio=0.0,
            head_trains=None,
            head_start=None,
            dim=max(lab.problem.dim, SMALL_STARTS),
        )
        run = lab.run(problem, max(8, count // 4))
        ended = main_feature(run.ends.inner_products)
        favoured = favoured_feature(problem, products_of(starts(problem, len(ended))))
        learned = ended >= 0
        agreeing.append(Share(int((ended == favoured)[learned].sum()), int(learned.sum())))
        on_strong = ended == int(np.argmax(feature_pull(problem)))
        strong.append(Share(int(on_strong[learned].sum()), int(learned.sum())))
    agreed = Share(sum(s.count for s in agreeing), sum(s.total for s in agreeing))
    on_one = Share(sum(s.count for s in strong), sum(s.total for s in strong))
    if agreed.total < 10:
        return does_not_apply(f"only {agreed.total} neurons learned a feature in time")
    return judged(
        agreed.high >= 0.97,
        f"m = 2 to 8: {agreed} learned neurons end on the feature that their own start favours; "
        f"{on_one} on the one that pulls most",
        numbers={"neurons": neurons, "favoured": agreeing, "strong": strong},
        starts=sum(max(8, count // 4) for _ in neurons),
    )


def first_learning_time(lab: Lab, count: int) -> Finding:
    reason = outside_setting(lab.problem, stop_gradient=False)
    if reason is None and lab.problem.stop_gradient == "none":
        reason = "the gradient passes through both branches, which halves the time"
    if reason is not None:
        return does_not_apply(reason)
    q = lab.problem.power
    dims = dims_of(lab.problem, later=0.01, times=FEWEST)
    short = no_dims(lab.problem, dims, 3, head=False)
    if short is not None:
        return does_not_apply(short)
    dims = decades(dims)
    medians, ratios, predictions = [], [], []
    for dim in dims:
        problem = replace(lab.problem, dim=dim)
        run = lab.run(problem, count)
        measured = run.ends.learned_at.min(axis=(1, 2))
        predicted = first_times(problem, starts(problem, count))
        medians.append(float(np.median(measured)))
        predictions.append(float(np.median(predicted)))
        ratios.append(float(np.median(measured / predicted)))
    # The median over starts varies with them, so the exponent has q - 1 only up to chance.
    exponent, expected = slope(dims, medians), slope(dims, predictions)
    return judged(
        abs(exponent - expected) < 0.05 and abs(ratios[-1] - 1) < 0.01,
        f"measured over predicted {ratios[-1]:.4f} (median) at d = {dims[-1]:,}; exponent "
        f"{exponent:.2f} from d = {dims[0]:,} on, predicted for these starts {expected:.2f}, in "
        f"the mean {q - 1}",
        numbers={
            "dim": dims,
            "median_time": medians,
            "predicted_time": predictions,
            "ratio": ratios,
            "exponent": exponent,
            "predicted_exponent": expected,
        },
        starts=count * len(dims),
    )


def conserved_balance(lab: Lab, count: int) -> Finding:
    problem = lab.problem
    off = ~np.eye(problem.neurons, dtype=bool)
    if problem.normaliser == "none":
        return does_not_apply("the outputs are not normalised")
    if problem.stop_gradient == "online" or problem.head_lr_ratio == 0:
        return does_not_apply("the head does not train")
    if not np.array_equal(problem.trains, off) or problem.neurons < 2:
        return does_not_apply("the head does not train exactly off its diagonal")
    time, drifts, bounds = horizon(problem), [], []
    for start in starts(problem, min(count, TRAJECTORIES)):
        run = flow(problem, start, time=time, rtol=1e-8, max_steps=20_000)
        kept = balance(problem, run.inner_products, run.noise, run.head)
        first = np.abs(kept[0]).max()
        drifts.append(float(np.abs(kept - kept[0]).max() / first))
        squares = run.head**2 * off
        net = squares.sum(2) - squares.sum(1)  # fed less feeds
        norms = (start.inner_products**2).sum(1) + (start.noise_parts**2).sum(1)
        limit = problem.head_lr_ratio / problem.power * norms
        bounds.append(float(((net - net[0]) / limit).max()))
    return judged(
        max(drifts) < 1e-3 and max(bounds) < 1.001,
        f"relative drift of (14) at most {max(drifts):.1e}; up to {max(bounds):.3f} of the bound "
        "on what a neuron is fed less what it feeds",
        numbers={"drift": max(drifts), "share_of_bound": max(bounds)},
        starts=len(drifts),
    )


def head_size(lab: Lab, count: int) -> Finding:
    base = replace(lab.problem, head_lr_ratio=LARGE_RATIO)
    reason = outside_head(base) or too_unequal(base)
    if lab.problem.head_lr_ratio == 0:
        reason = "the head does not train"
    if reason is not None:
        return does_not_apply(reason)
    dims = dims_of(base, later=0.05)
    short = no_dims(base, dims, 1, head=False)
    if short is not None:
        return does_not_apply(short)
    dim = dims[-1]
    ratios = [
        r
        for r in RATIOS
        if head_delay(replace(base, dim=dim, head_lr_ratio=r)) < 1
        and np.sqrt(r / base.power) < 2 * outweighing_entry(base)
    ]
    if len(ratios) < 3:
        return does_not_apply(
            f"at {len(ratios)} of the ratios {RATIOS[0]:g} to {RATIOS[-1]:g} the head grows within "
            f"T_1 at d = {dim:,} and must reach its bound to outweigh the noise"
        )
    peaks = [
        float(np.median(lab.run(replace(base, dim=dim, head_lr_ratio=r), count).ends.peaks))
        for r in ratios
    ]
    exponent = slope(ratios, peaks)
    return judged(
        abs(exponent - 0.5) < 0.06,
        f"exponent {exponent:.3f} of the median peak from rho = {ratios[0]:g} to {ratios[-1]:g} at "
        f"d = {dim:,}; {peaks[0] / np.sqrt(ratios[0]):.2f} sqrt(rho) at the smallest",
        numbers={"head_lr_ratio": ratios, "median_max": peaks, "exponent": exponent, "dim": dim},
        starts=count * len(ratios),
    )


def all_features_with_head(lab: Lab, count: int) -> Finding:
    reason = outside_head(lab.problem) or too_unequal(lab.problem)
    if reason is not None:
        return does_not_apply(reason)
    dims = dims_of(lab.problem, later=0.05, delay=1.0)
    short = no_dims(lab.problem, dims, 2, head=True)
    if short is not None:
        return does_not_apply(short)
    dims = decades(dims)
    runs = [lab.run(replace(lab.problem, dim=d), count) for d in dims]
    plain = lab.run(replace(lab.problem, dim=dims[-1], head_lr_ratio=0.0), count)
    diverse = [found_all(run) for run in runs]
    collapsed = [share_of(run, Outcome.COLLAPSED_STRONG) for run in runs]
    without = found_all(plain)
    stuck = stuck_share(runs[-1])
    more = compared(diverse[-1], without)
    if more is None:
        return does_not_apply(undecided(count))
    falls = any(b.high < a.low for a, b in zip(diverse[:-1], diverse[1:], strict=True))
    return judged(
        not falls and more and collapsed[-1].low < 0.02,
        "all features found in "
        + ", ".join(f"{s.value:.1%} at d = {d:,}" for d, s in zip(dims, diverse, strict=True))
        + f"; at the largest d {diverse[-1].low:.1%} to {diverse[-1].high:.1%} against {without} "
        f"without a head, {collapsed[-1].value:.1%} collapsed, {stuck.value:.1%} with a stuck head",
        numbers={
            "dim": dims,
            "diverse": diverse,
            "collapsed_strong": collapsed,
            "without": without,
            "stuck": stuck,
        },
        starts=count * (len(dims) + 1),
    )


def substitution_then_acceleration(lab: Lab, count: int) -> Finding:
    reason = outside_head(lab.problem) or too_unequal(lab.problem)
    if reason is not None:
        return does_not_apply(reason)
    dims = dims_of(lab.problem, later=0.05, delay=1.0)
    short = no_dims(lab.problem, dims, 1, head=True)
    if short is not None:
        return does_not_apply(short)
    problem = replace(lab.problem, dim=next((d for d in dims if d >= 10_000), dims[-1]))
    plain = replace(problem, head_lr_ratio=0.0)
    with_head, without = lab.run(problem, count), lab.run(plain, count)
    rescued = [
        i
        for i, (now, before) in enumerate(zip(with_head.outcomes, without.outcomes, strict=True))
        if now == Outcome.DIVERSE and before == Outcome.COLLAPSED_STRONG
    ][:RESCUED]
    if len(rescued) < 10:
        return does_not_apply(
            f"the head rescues only {len(rescued)} of {count} starts at d = {problem.dim:,}"
        )
    drawn, time = starts(problem, count), with_head.time
    in_order, own, other, frozen = 0, [], [], []
    for i in rescued:
        analysis = find_phases(
            flow(problem, drawn[i], time=time), frozen=flow(plain, drawn[i], time=time)
        )
        phases = {phase.name: phase for phase in analysis.phases}
        if tuple(phases) != NAMES:
            continue
        in_order += phases[NAMES[1]].end < phases[NAMES[2]].end
        evidence = phases[NAMES[2]].evidence
        own.append(evidence["e-folds along its own feature"])
        other.append(evidence["e-folds along the leader's feature"])
        frozen.append(evidence["e-folds with the head frozen"])
    share = Share(int(in_order), len(rescued))
    gain = [float(np.median(values)) if values else float("nan") for values in (own, other, frozen)]
    return judged(
        share.high >= 0.95 and gain[0] > 3 * gain[1] and gain[0] > 3 * gain[2],
        f"in this order in {share} starts that the head rescues at d = {problem.dim:,}; then the "
        f"follower's own feature gains {gain[0]:.1f} e-folds, the leader's {gain[1]:.3f}, and its "
        f"own with the head frozen {gain[2]:.3f} (medians)",
        numbers={"in_order": share, "own": gain[0], "other": gain[1], "frozen": gain[2]},
        starts=len(rescued),
    )


def back_to_identity(lab: Lab, count: int) -> Finding:
    reason = outside_head(lab.problem)
    if reason is not None:
        return does_not_apply(reason)
    dims = dims_of(lab.problem, later=0.05, delay=1.0)
    short = no_dims(lab.problem, dims, 1, head=True)
    if short is not None:
        return does_not_apply(short)
    problem = replace(lab.problem, dim=dims[-1])
    run = lab.run(problem, count)
    diverse = np.array(run.outcomes) == Outcome.DIVERSE
    last, peak = run.final_off_diagonal[diverse], run.ends.peaks[diverse]
    if peak.size < 10:
        return does_not_apply(f"only {peak.size} starts are diverse at d = {problem.dim:,}")
    back, middle = Share(int((last < 1 / problem.dim).sum()), peak.size), float(np.median(peak))
    return judged(
        back.high >= 0.95 and middle > 1 / problem.dim,
        f"from a median peak of {middle:.3f} to below 1 / d in {back} diverse starts at "
        f"d = {problem.dim:,}, by time {run.time:.1e}; largest left {last.max():.1e}",
        numbers={"median_peak": middle, "back": back, "largest_at_the_end": float(last.max())},
        starts=count,
    )


def normaliser_needed(lab: Lab, count: int) -> Finding:
    reason = outside_head(replace(lab.problem, normaliser="bn"))
    if reason is not None:
        return does_not_apply(reason)
    run = lab.run(replace(lab.problem, normaliser="none"), count)
    if any(run.ends.failures):
        return does_not_apply("some starts without a normaliser are beyond the integrator")
    gone, diverse = share_of(run, Outcome.VANISHED), share_of(run, Outcome.DIVERSE)
    return judged(
        gone.high >= 0.95 and diverse.low < 0.02,
        f"without it {gone} starts vanish (complete collapse), at a median loss of "
        f"{np.median(run.ends.losses):.1e}; {diverse.value:.1%} are diverse",
        numbers={"vanished": gone, "diverse": diverse},
        starts=count,
    )


def stop_gradient_needed(lab: Lab, count: int) -> Finding:
    reason = outside_head(replace(lab.problem, stop_gradient="target")) or too_unequal(lab.problem)
    if reason is not None:
        return does_not_apply(reason)
    base = replace(lab.problem, stop_gradient="target")
    dims = dims_of(base, later=0.05, delay=1.0)
    short = no_dims(base, dims, 1, head=True)
    if short is not None:
        return does_not_apply(short)
    base = replace(base, dim=dims[-1])
    kept, through = lab.run(base, count), lab.run(replace(base, stop_gradient="none"), count)
    with_stop, diverse = found_all(kept), found_all(through)
    collapsed, stuck = share_of(through, Outcome.COLLAPSED_STRONG), stuck_share(through)
    more = compared(with_stop, diverse)
    if more is None:
        return does_not_apply(undecided(count))
    return judged(
        more,
        f"without it {diverse} starts find all features, with it {with_stop.value:.1%}; "
        f"{collapsed.value:.1%} collapse on the strong feature, and in {stuck.value:.1%} the head "
        f"ends above half its peak (d = {base.dim:,})",
        numbers={
            "diverse": diverse,
            "with_stop_gradient": with_stop,
            "collapsed_strong": collapsed,
            "head_stuck": stuck,
        },
        starts=2 * count,
    )


def scalings(lab: Lab, count: int) -> Finding:
    reason = outside_head(lab.problem) or no_strong_feature(lab.problem)
    if reason is not None:
        return does_not_apply(reason)
    dims = dims_of(lab.problem, later=0.01)
    short = no_dims(lab.problem, dims, 4, head=False)
    if short is not None:
        return does_not_apply(short)
    dims, few = decades(dims), min(count, TRAJECTORIES)
    second, entry, residual = [], [], []
    for dim in dims:
        problem = replace(lab.problem, dim=dim)
        plain, time = replace(problem, head_lr_ratio=0.0), horizon(problem)
        sizes, entries = [], []
        for start in starts(problem, few):
            analysis = find_phases(flow(problem, start, time=time))
            evidence = analysis.phases[0].evidence
            sizes.append(evidence["second largest |c|"])
            entries.append(evidence["off-diagonal norm of E"])
        ends = np.sort(np.abs(lab.run(plain, count).ends.inner_products), axis=2)
        learned = ends[:, :, -1] > 0.5
        second.append(float(np.median(sizes)))
        entry.append(float(np.median(entries)))
        residual.append(float(np.median(ends[:, :, -2][learned])))
    exponents = [slope(dims, values) for values in (second, entry, residual)]
    return judged(
        all(abs(exponents[i] + 0.5) < 0.15 for i in (0, 2)) and exponents[1] < -0.35,
        f"exponents over d = {dims[0]:,} to {dims[-1]:,}: second largest |c| at T_1 "
        f"{exponents[0]:.2f}, head at T_1 {exponents[1]:.2f}, what is left of the next feature in "
        f"a neuron without a head {exponents[2]:.2f}",
        numbers={
            "dim": dims,
            "second_largest": second,
            "head_at_T_1": entry,
            "residual": residual,
            "exponents": exponents,
        },
        starts=few * len(dims),
    )


def stuck_starts(lab: Lab, count: int) -> Finding:
    reason = outside_head(replace(lab.problem, head_lr_ratio=LARGE_RATIO)) or too_unequal(
        lab.problem
    )
    if lab.problem.head_lr_ratio == 0:
        reason = "the head does not train"
    if reason is not None:
        return does_not_apply(reason)
    base = replace(lab.problem, head_lr_ratio=0.003)
    dims = dims_of(base, later=0.05, delay=1.0, times=100 * FEWEST)
    if not dims:
        return does_not_apply("no dimension leaves room for a run a hundred times longer")
    base = replace(base, dim=dims[-1])
    ratios, early, late = (0.3, 0.03, 0.003), [], []
    for ratio in ratios:
        problem = replace(base, head_lr_ratio=ratio)
        early.append(stuck_share(lab.run(problem, count, times=FEWEST)))
        late.append(stuck_share(lab.run(problem, count, times=100 * FEWEST)))
    return judged(
        late[0].high >= late[-1].low
        and all(b.low <= a.high for a, b in zip(early, late, strict=True)),
        "head above half its peak at "
        + ", ".join(
            f"rho = {r:g}: {a.value:.1%} until T = {FEWEST:g} T_1, {b.value:.1%} until "
            f"{100 * FEWEST:g} T_1"
            for r, a, b in zip(ratios, early, late, strict=True)
        )
        + f" (d = {base.dim:,})",
        numbers={"head_lr_ratio": ratios, "stuck": early, "stuck_later": late, "dim": base.dim},
        starts=2 * count * len(ratios),
    )


def three_by_three(lab: Lab, count: int) -> Finding:
    base = replace(
        lab.problem,
        strengths=(4.0, 3.0, 2.0),
        probabilities=None,
        neurons=3,
        head_trains=None,
        head_start=None,
    )
    reason = outside_head(base)
    if reason is not None:
        return does_not_apply(reason)
    dims = dims_of(base, later=0.05, delay=1.0)
    short = no_dims(base, dims, 1, head=True)
    if short is not None:
        return does_not_apply(short)
    base = replace(base, dim=dims[-1])
    runs = [lab.run(replace(base, head_lr_ratio=r), count) for r in (base.head_lr_ratio, 0.0)]
    found = [
        float(np.mean([len(set(row[row >= 0])) for row in main_feature(run.ends.inner_products)]))
        for run in runs
    ]
    diverse = [found_all(run) for run in runs]
    more = compared(diverse[0], diverse[1])
    if more is None:
        return does_not_apply(undecided(count))
    return judged(
        more,
        f"{found[0]:.2f} features found with the head and {found[1]:.2f} without; all three in "
        f"{diverse[0]} starts, without in {diverse[1].value:.1%} (d = {base.dim:,})",
        numbers={"features": found, "diverse": diverse},
        starts=2 * count,
    )


CLAIMS: tuple[Claim[Lab], ...] = (
    Claim(
        key="collapse-without-head",
        title="Collapse without the head, at equal loss",
        source=PAPER,
        statement="without the head every neuron learns the strongest feature, at the same loss",
        requirement="as many starts collapse on it as their starts predict (to 3%), and the median "
        "loss ends within .01 a neuron of the least",
        measure=collapse_without_head,
    ),
    Claim(
        key="start-decides",
        title="Without a head the start decides: a conserved quantity",
        source=CHECK,
        statement="within a neuron the differences of |c_l|^-(2q-2) / (pi_l a_l^(2q)) are "
        "conserved",
        requirement="relative drift below 1e-4",
        measure=start_decides,
    ),
    Claim(
        key="neurons-without-head",
        title="More neurons do not help without a head",
        source=f"{PAPER}; {CHECK}",
        statement="without the head each neuron, however many, ends on argmax pi a^(2q) "
        "c(0)^(2q-2)",
        requirement="97% of the learned neurons lie within the interval",
        measure=neurons_without_head,
    ),
    Claim(
        key="first-learning-time",
        title="The first learning time in closed form",
        source=f"{PAPER}; {CHECK}",
        statement="T_1 = min nu K / (2 q (q-1) k12 pi a^(2q) c(0)^(2q-2)), hence T_1 ~ d^(q-1)",
        requirement="the median ratio within 1% of 1, the exponent within .05 of the predicted one",
        measure=first_learning_time,
    ),
    Claim(
        key="conserved-balance",
        title="A neuron that feeds others grows by what they lose",
        source=CHECK,
        statement="|w_r|^2 - (q / rho) (sum_j E_jr^2 - sum_s E_rs^2) is conserved",
        requirement="relative drift below 1e-3, and the bound that follows kept to .1%",
        measure=conserved_balance,
    ),
    Claim(
        key="head-size",
        title="The head grows to sqrt(rho)",
        source=PAPER,
        statement="the head grows to Theta(sqrt(eta_E / eta))",
        requirement="exponent within .06 of 1/2",
        measure=head_size,
    ),
    Claim(
        key="all-features-with-head",
        title="All features with the head, more surely as d grows",
        source=PAPER,
        statement="with the head each feature is learned, with a probability that tends to 1",
        requirement="the share does not fall with d beyond its interval, and at the largest d is "
        "above that without a head, where fewer than 2% collapse",
        measure=all_features_with_head,
    ),
    Claim(
        key="substitution-then-acceleration",
        title="Substitution, then acceleration",
        source=PAPER,
        statement="E_21 grows until it feeds the strong feature to the second neuron, which then "
        "grows along the weak one only",
        requirement="95% in this order lie within the interval, and the weak feature gains three "
        "times more than either other",
        measure=substitution_then_acceleration,
    ),
    Claim(
        key="back-to-identity",
        title="The head returns to the identity",
        source=PAPER,
        statement="after poly(d) / eta, |E - I| <= 1 / poly(d)",
        requirement="95% of the diverse starts below 1 / d lie within the interval",
        measure=back_to_identity,
    ),
    Claim(
        key="normaliser-needed",
        title="The normaliser is needed",
        source=PAPER,
        statement="without output normalisation the boost is absent",
        requirement="95% vanishing lie within the interval, and fewer than 2% are diverse",
        measure=normaliser_needed,
    ),
    Claim(
        key="stop-gradient-needed",
        title="The stop-gradient is needed",
        source=PAPER,
        statement="with the gradient through the target the second neuron is pulled to v_1",
        requirement="fewer starts that find all features without it",
        measure=stop_gradient_needed,
    ),
    Claim(
        key="scalings",
        title="What is left shrinks as d^(-1/2)",
        source=CHECK,
        statement="the second largest |c| at T_1 and the residual of the next feature in a neuron "
        "without a head scale as d^(-1/2); the head at T_1 shrinks at least as fast",
        requirement="two exponents within .15 of -1/2, that of the head at most -1/2 (to .15)",
        measure=scalings,
    ),
    Claim(
        key="stuck-starts",
        title="Stuck starts, until T",
        source=CHECK,
        statement="some starts keep a head near its peak; fewer with a smaller rho, and some come "
        "free later",
        requirement="not more at the smallest rho than at the largest, nor at 100 T than at T, "
        "beyond the intervals",
        measure=stuck_starts,
    ),
    Claim(
        key="three-by-three",
        title="Three neurons, three features",
        source=CHECK,
        statement="with strengths 4, 3, 2 the head more often finds all (not in the paper)",
        requirement="all three more often than without",
        measure=three_by_three,
    ),
)


def products_of(drawn: list[State]) -> np.ndarray:
    """The inner products of many starts."""
    return np.stack([start.inner_products for start in drawn])


def found_all(run: Ensemble) -> Share:
    """The share of starts whose neurons found min(m, k) different features between them.

    With more neurons than features the others may live off the head: those starts count.
    """
    most = min(run.problem.neurons, run.problem.features)
    ended = [o not in (Outcome.FAILED, Outcome.VANISHED) for o in run.outcomes]
    rows = main_feature(run.ends.inner_products)
    count = sum(len(set(r[r >= 0])) >= most for r, ok in zip(rows, ended, strict=True) if ok)
    return Share(count, len(rows) - run.outcomes.count(Outcome.FAILED))


def share_of(run: Ensemble, outcome: Outcome) -> Share:
    """The share of one outcome among the starts that reached the end."""
    failed = run.outcomes.count(Outcome.FAILED)
    return Share(run.outcomes.count(outcome), len(run.outcomes) - failed)


def stuck_share(run: Ensemble) -> Share:
    """The share of starts whose head ends above half its peak."""
    kept = np.array([failure is None for failure in run.ends.failures])
    stuck = run.final_off_diagonal > 0.5 * run.ends.peaks
    return Share(int(stuck[kept].sum()), int(kept.sum()))
