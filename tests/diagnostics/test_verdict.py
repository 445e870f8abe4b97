"""Laws of the verdict: what it says of histories made of spectra, and what it never asks."""

import math
from dataclasses import replace
from functools import cache

import pytest
import torch

from offdiag.diagnostics.bounds import cliff
from offdiag.diagnostics.readings import noise_readings, read_part
from offdiag.diagnostics.verdict import (
    COLLAPSED,
    Kind,
    Verdict,
    judge,
    judge_embeddings,
    rank_floor,
    shared,
)
from offdiag.results.observation import Observation
from offdiag.results.readings import HeadReadings, Readings

DIM, ROWS = 64, 256
SPREAD_OUT, FEW, POINT = (40.0, 0.0), (1.0, 0.0), (40.0, 100.0)


@cache
def read(directions: float, mean: float, *, scale: float = 1.0, dim: int = DIM) -> Readings:
    """Readings of Gaussian rows whose eigenvalues fall off over so many directions, around a mean
    of so many standard deviations."""
    draw = torch.Generator().manual_seed(0)
    fall = torch.exp(-torch.arange(dim) / directions)
    rows = torch.randn(ROWS, dim, generator=draw) * fall + mean * fall.norm() / dim**0.5
    return read_part(scale * rows)


def run(*course, part: str = "projector", start=(20.0, 4.0), **changes) -> list[Observation]:
    """A random start, then one observation for each (directions, mean)."""
    rows = [Observation(step=0, parts={part: read(*start)})] if start else []
    return rows + [
        Observation(step=10 * i, parts={part: replace(read(*what), **changes)})
        for i, what in enumerate(course, 1)
    ]


HISTORIES = {
    Kind.HEALTHY: run(*[SPREAD_OUT] * 8),
    Kind.DIMENSIONAL: run(*[FEW] * 8),
    Kind.COMPLETE: run(*[POINT] * 8),
    Kind.PARTIAL: run(*[SPREAD_OUT] * 8, *[(10.0, 0.0)] * 4),
    Kind.UNKNOWN: run(SPREAD_OUT),
}


@pytest.mark.parametrize("kind", HISTORIES)
def test_a_history_of_each_kind_gives_its_kind(kind):
    assert judge(HISTORIES[kind]).kind is kind


def test_the_score_is_above_one_half_just_when_a_bound_is_passed():
    scores = {kind: judge(history).score for kind, history in HISTORIES.items()}
    assert scores[Kind.HEALTHY] < scores[Kind.PARTIAL] < 0.5
    assert min(scores[Kind.DIMENSIONAL], scores[Kind.COMPLETE]) > 0.5
    assert math.isnan(scores[Kind.UNKNOWN])


def test_more_collapse_never_lowers_the_score():
    for worse in (
        [(40.0 * 0.7**i, 0.0) for i in range(12)],  # fewer directions
        [(40.0, 1.5 * i) for i in range(12)],  # closer to one point
    ):
        scores = [judge(run(*[what] * 4)).score for what in worse]
        assert all(b >= a - 1e-9 for a, b in zip(scores, scores[1:], strict=False))
        assert scores[0] < 0.3 and scores[-1] > 0.6


@pytest.mark.parametrize("kind", [kind for kind in HISTORIES if kind is not Kind.UNKNOWN])
def test_the_scale_of_the_embeddings_does_not_matter(kind):
    def scaled(row: Observation, factor: float) -> Observation:
        what = {Kind.HEALTHY: SPREAD_OUT, Kind.DIMENSIONAL: FEW, Kind.COMPLETE: POINT}.get(kind)
        if what is None or row.step == 0:
            return row
        return replace(row, parts={"projector": read(*what, scale=factor)})

    for factor in (1e-4, 1e4):
        history = [scaled(row, factor) for row in HISTORIES[kind]]
        assert judge(history).kind is kind
        assert judge(history).score == pytest.approx(judge(HISTORIES[kind]).score, rel=1e-3)


@pytest.mark.parametrize("kind", HISTORIES)
def test_the_loss_has_no_say(kind):
    verdict = judge(HISTORIES[kind])
    for loss in (0.0, 1e9, -math.inf):
        told = judge([replace(row, loss=loss) for row in HISTORIES[kind]])
        assert repr(told) == repr(verdict)  # repr, because nan is not nan


def test_what_is_seen_of_a_run_holds_no_label():
    names = {field for value in (Observation, Readings) for field in value.__dataclass_fields__}
    assert not {name for name in names if "label" in name or "knn" in name or "accura" in name}


def test_nothing_is_said_of_few_observations_or_of_what_is_not_finite():
    assert judge([]).kind is Kind.UNKNOWN
    assert judge(run(FEW, FEW)).kind is Kind.UNKNOWN
    assert judge(run(*[SPREAD_OUT] * 4, effective_rank=math.nan, rankme=math.nan)).kind is (
        Kind.UNKNOWN
    )
    assert judge(run(*[SPREAD_OUT] * 4, std=math.nan, mean_cosine=math.nan)).kind is Kind.UNKNOWN


@pytest.mark.parametrize("dead", [{}, {"projector": Readings(dim=DIM, rows=ROWS)}])
def test_a_run_whose_outputs_are_not_finite_has_diverged_since_the_first_such_step(dead):
    alive = [replace(row, checkpoint=f"step-{row.step}") for row in run(*[SPREAD_OUT] * 5)]
    gone = [Observation(step=s, parts=dead, checkpoint=f"step-{s}") for s in (60, 70, 80)]
    verdict = judge([*alive, *gone])
    assert verdict.kind is Kind.DIVERGED and verdict.since_step == 60 and verdict.score == 1
    assert "step 60" in verdict.sentence and "step 50" in verdict.sentence
    assert verdict.best_checkpoint == "step-50"
    assert judge(gone).kind is Kind.DIVERGED and judge(gone).best_checkpoint is None


def test_nothing_is_said_of_a_run_that_never_left_its_random_start():
    verdict = judge(run(*[POINT] * 6, start=POINT))
    assert verdict.kind is Kind.UNKNOWN and "initialisation" in verdict.sentence
    assert judge(run(*[POINT] * 6)).kind is Kind.COMPLETE


def test_outputs_that_are_all_alike_are_called_even_without_a_rank():
    history = run(*[POINT] * 4, effective_rank=math.nan, rankme=math.nan)
    assert judge(history).kind is Kind.COMPLETE


@pytest.mark.parametrize("kind", [Kind.HEALTHY, Kind.DIMENSIONAL, Kind.COMPLETE, Kind.PARTIAL])
def test_the_readings_of_old_runs_are_enough(kind):
    kept = ("dim", "effective_rank", "rankme", "std", "top_share")
    old = [
        replace(
            row,
            parts={
                part: Readings(**{name: getattr(readings, name) for name in kept})
                for part, readings in row.parts.items()
            },
        )
        for row in HISTORIES[kind]
    ]
    assert judge(old).kind is kind


def test_one_odd_batch_decides_nothing():
    course = [SPREAD_OUT] * 5 + [FEW] + [SPREAD_OUT] * 5
    for end in range(4, len(course) + 1):
        assert judge(run(*course[:end])).kind is Kind.HEALTHY


def test_a_sudden_collapse_is_setting_in_before_it_is_called():
    kinds = [judge(run(*[SPREAD_OUT] * 8, *[FEW] * n)).kind for n in range(6)]
    first = next(i for i, kind in enumerate(kinds) if kind in COLLAPSED)
    assert Kind.PARTIAL in kinds[:first]
    assert set(kinds[first:]) == {Kind.DIMENSIONAL}


def test_since_when_and_which_part():
    late = run(*[SPREAD_OUT] * 8, *[FEW] * 6)
    verdict = judge(late)
    assert verdict.part == "projector"
    assert 80 < verdict.since_step <= 110  # the median of three lags by one or two
    assert judge(run(*[FEW] * 6)).since_step == 10
    healthy = judge(HISTORIES[Kind.HEALTHY])
    assert healthy.part is None and healthy.since_step is None and healthy.advice == ()


def test_the_first_part_that_collapses_is_named():
    def both(encoder, projector):
        return [
            replace(a, parts={"encoder": a.parts["projector"], "projector": b.parts["projector"]})
            for a, b in zip(run(*[encoder] * 5), run(*[projector] * 5), strict=True)
        ]

    assert judge(both(FEW, FEW)).part == "encoder"
    assert judge(both(SPREAD_OUT, FEW)).part == "projector"
    assert judge(run(*[FEW] * 5, part="predictor")).part == "predictor"


def test_a_predictor_of_few_directions_is_no_collapse():
    history = [
        replace(row, parts={**row.parts, "predictor": read(*FEW)})
        for row in HISTORIES[Kind.HEALTHY]
    ]
    assert judge(history).kind is Kind.HEALTHY


def test_the_best_checkpoint_is_the_last_one_before_the_fall():
    history = [
        replace(row, checkpoint=f"step-{row.step}" if row.step % 20 == 0 else None)
        for row in run(*[SPREAD_OUT] * 9, *[FEW] * 6)
    ]
    verdict = judge(history)
    assert verdict.best_step == 90
    assert verdict.best_checkpoint == "step-80"


def test_advice_names_its_sources_and_looks_at_the_head_first_where_it_does_nothing():
    history = run(*[FEW] * 6)
    idle = judge([replace(row, head=HeadReadings(off_diagonal_norm=0.0)) for row in history])
    assert "head" in idle.advice[0].cause
    moved = judge([replace(row, head=HeadReadings(off_diagonal_norm=2.0)) for row in history])
    assert idle.advice[0] not in moved.advice
    assert all(a.cause and a.remedy and a.source for a in idle.advice + moved.advice)
    late = judge(run(*[SPREAD_OUT] * 8, *[FEW] * 6))
    assert "changed" in late.advice[0].cause


def test_noise_of_the_same_shape_sets_the_bound_where_rows_are_few():
    """30 rows of 512 dimensions hold at most 29 directions, however healthy."""
    draw = torch.Generator().manual_seed(0)
    few = read_part(torch.randn(30, 512, generator=draw))
    history = [Observation(step=i, parts={"projector": few}) for i in range(1, 6)]
    noise = {"projector": noise_readings(30, 512)}
    assert rank_floor(noise["projector"].effective_rank) < rank_floor(512)
    assert judge(history, noise=noise).kind is Kind.HEALTHY


def test_a_wide_projection_needs_no_more_than_eight_directions():
    assert rank_floor(2048) == rank_floor(100) == pytest.approx(8)


def test_a_narrow_projection_is_called_only_where_something_else_speaks():
    def narrow(mean):
        readings = read(8.0, mean, dim=8)
        return [Observation(step=i, parts={"projector": readings}) for i in range(1, 6)]

    assert judge(narrow(0.0)).kind is Kind.UNKNOWN
    assert "too narrow" in judge(narrow(0.0)).sentence
    assert judge(narrow(30.0)).kind is Kind.COMPLETE


@pytest.mark.parametrize(
    ("what", "kind"),
    [(SPREAD_OUT, Kind.HEALTHY), (FEW, Kind.DIMENSIONAL), (POINT, Kind.COMPLETE)],
)
def test_one_file_of_embeddings(what, kind):
    verdict = judge_embeddings(read(*what), noise_readings(ROWS, DIM))
    assert verdict.kind is kind
    assert "embeddings" in verdict.sentence and verdict.since_step is None
    assert bool(verdict.advice) == (kind is not Kind.HEALTHY)


def test_one_embedding_or_constant_ones_cannot_be_ranked():
    one = read_part(torch.randn(1, DIM, generator=torch.Generator().manual_seed(0)))
    assert judge_embeddings(one, noise_readings(1, DIM)).kind is Kind.UNKNOWN
    constant = read_part(torch.ones(50, DIM))
    assert judge_embeddings(constant, noise_readings(50, DIM)).kind is Kind.COMPLETE


def test_the_evidence_holds_the_readings_and_what_they_are_set_against():
    told = judge(
        HISTORIES[Kind.DIMENSIONAL], gaussian_baseline={"projector": noise_readings(ROWS, DIM)}
    )
    assert told.evidence[0].startswith("effective rank of the projection ")
    for reference in ("collapse: below", "Gaussian rows", "initialisation", "best so far"):
        assert reference in told.evidence[0]
    assert told.evidence[1].startswith("spread on the sphere ")
    assert "complete collapse: below" in told.evidence[1]


@cache
def two_views(signal: float, *, directions: float = 40.0) -> Readings:
    """Readings of two views that share this part of their variance."""
    draw = torch.Generator().manual_seed(0)
    fall = torch.exp(-torch.arange(DIM) / directions)
    image, a, b = (torch.randn(4 * ROWS, DIM, generator=draw) * fall for _ in range(3))
    return read_part(*((signal**0.5 * image + (1 - signal) ** 0.5 * one) for one in (a, b)))


def seen(readings: Readings, times: int, start: Readings) -> list[Observation]:
    rows = [start, *[readings] * times]
    return [Observation(step=10 * i, parts={"projector": one}) for i, one in enumerate(rows)]


@pytest.mark.parametrize("signal", [0.0, 0.3, 0.9, 1.0])
def test_what_two_views_share_is_the_share_of_variance_they_were_made_of(signal):
    even = two_views(signal, directions=1e6)
    assert shared(even) == pytest.approx(signal, abs=0.04)
    assert shared(two_views(signal)) <= signal + 0.04  # an uneven spread makes it too low
    assert math.isnan(shared(read(*SPREAD_OUT)))


def test_directions_that_two_views_do_not_share_are_taken_off_once_the_run_has_grown():
    start = two_views(0.01)
    history = seen(two_views(0.15, directions=10.0), 12, start)
    verdict = judge(history)
    assert verdict.kind is Kind.DIMENSIONAL
    assert "what two views do not share" in verdict.sentence
    assert any(phrase.startswith("two views of an image share ") for phrase in verdict.evidence)
    assert judge(history[:6]).kind not in COLLAPSED
    assert judge(seen(two_views(0.9, directions=10.0), 12, start)).kind is Kind.HEALTHY


def test_nothing_is_said_of_a_run_whose_views_are_no_more_alike_than_at_its_start():
    start = two_views(0.5, directions=1e6)
    verdict = judge(seen(two_views(0.5), 12, start))
    assert verdict.kind is Kind.UNKNOWN and verdict.score == 0.5
    assert "no more alike" in verdict.sentence
    assert judge(seen(two_views(0.9), 12, start)).kind is Kind.HEALTHY


def both(encoder: list[Readings], projector: list[Readings]) -> list[Observation]:
    return [
        Observation(step=10 * i, parts={"encoder": a, "projector": b})
        for i, (a, b) in enumerate(zip(encoder, projector, strict=True))
    ]


def test_directions_that_the_features_have_lost_since_the_initialisation_are_taken_off():
    def history(now: float) -> list[Observation]:
        encoder = [read(40.0, 1.0), *[read(now, 0.0)] * 12]
        projector = [read(20.0, 4.0), *[read(3.0, 0.0)] * 12]
        return both(encoder, projector)

    verdict = judge(history(11.0))
    assert verdict.kind is Kind.PROJECTION and verdict.part == "projector"
    assert "what the features have lost" in verdict.sentence
    assert judge(history(40.0)).kind is Kind.HEALTHY
    assert judge(history(11.0)[:7]).kind is Kind.HEALTHY
    lost = judge(history(8.0))
    assert lost.kind is Kind.DIMENSIONAL and lost.part == "encoder"
    assert lost.sentence.startswith("The features retain 38")


def test_a_projection_that_collapses_while_the_features_are_kept_gets_two_sentences():
    """The exit status follows the features, which are what is used after training."""
    features, first = read(40.0, 0.0), read(20.0, 4.0)
    kept = judge(both([read(40.0, 1.0), *[features] * 8], [first, *[read(*FEW)] * 8]))
    assert kept.kind is Kind.PROJECTION and kept.status is Kind.HEALTHY and kept.score < 0.5
    assert kept.part == "projector" and kept.parts["projector"].kind is Kind.DIMENSIONAL
    assert "The projection lives in" in kept.sentence and "The features keep" in kept.sentence
    lost = judge(both([features, *[read(*FEW)] * 8], [first, *[read(*FEW)] * 8]))
    assert lost.status is Kind.DIMENSIONAL and lost.part == "encoder"
    alone = judge(run(*[FEW] * 8))
    assert alone.status is Kind.DIMENSIONAL


def test_a_large_common_mean_at_the_initialisation_is_no_collapse():
    """A ViT's outputs have a mean cosine of 0.97 before the first step."""
    start = (40.0, 6.0)
    assert 0.9 < read(*start).mean_cosine < 0.99
    verdict = judge(run(*[(25.0, 6.5)] * 8, start=start))
    assert verdict.kind is Kind.HEALTHY
    assert any("common mean" in remark for remark in verdict.evidence)
    assert judge(run(*[(35.0, 6.5)] * 8, start=(20.0, 0.5))).kind is Kind.COMPLETE
    assert judge(run(*[POINT] * 8, start=start)).kind is Kind.COMPLETE


def test_what_two_views_share_around_a_common_mean_decides_whether_it_is_collapse():
    draw = torch.Generator().manual_seed(0)
    image, a, b = (torch.randn(4 * ROWS, DIM, generator=draw) for _ in range(3))

    def seen_around_a_mean(signal: float) -> list[Observation]:
        views = [signal**0.5 * image + (1 - signal) ** 0.5 * one + 8 for one in (a, b)]
        return seen(read_part(*views), 12, two_views(0.3))

    assert judge(seen_around_a_mean(0.9)).kind is Kind.HEALTHY
    assert judge(seen_around_a_mean(0.1)).kind is Kind.COMPLETE


def test_identical_and_unrelated_views_teach_nothing():
    identical = judge(seen(two_views(1.0), 12, two_views(1.0)))
    assert identical.kind is Kind.NOTHING and "identical" in identical.sentence
    unrelated = judge(seen(two_views(0.0), 12, two_views(0.0)))
    assert unrelated.kind is Kind.NOTHING and "row i of both views" in unrelated.sentence
    assert judge(seen(two_views(1.0), 12, two_views(0.3))).kind is Kind.HEALTHY


def test_a_frozen_encoder_teaches_nothing():
    frozen = judge(both([read(40.0, 0.0)] * 9, [read(20.0, 4.0), *[read(40.0, 0.0)] * 8]))
    assert frozen.kind is Kind.NOTHING and "frozen" in frozen.sentence


def test_a_low_rank_that_is_growing_is_not_called_yet():
    course = [(0.5 + 0.1 * i, 0.0) for i in range(10)]
    verdict = judge(run(*course, start=(40.0, 0.0)))
    assert verdict.kind is Kind.UNKNOWN and "growing" in verdict.sentence


def test_readings_of_a_few_rows_cannot_tell():
    """A batch of 2: four rows span three directions of 64, whatever they are."""
    draw = torch.Generator().manual_seed(0)
    few = [read_part(torch.randn(4, DIM, generator=draw)) for _ in range(8)]
    history = [Observation(step=10 * i, parts={"projector": one}) for i, one in enumerate(few)]
    verdict = judge(history, gaussian_baseline={"projector": noise_readings(4, DIM)})
    assert verdict.kind is Kind.UNKNOWN and "at least 21 rows" in verdict.sentence


@pytest.mark.parametrize("end", ["collapse", "health"])
def test_how_often_a_run_is_read_does_not_change_its_verdict(end):
    """300 steps read every 5, 25, 50 and 100: falling to 2 directions by step 100, or not."""

    def at(step: int) -> Observation:
        directions = 30.0 + 10.0 * 0.9**step if end == "health" else max(40.0 * 0.96**step, 1.0)
        mean = 3.0 * 0.9**step
        return Observation(step=step, parts={"projector": read(round(directions, 2), mean)})

    steps = {every: range(0, 301, every) for every in (5, 25, 50, 100)}
    found = {every: judge([at(step) for step in steps[every]]) for every in steps}
    kinds = {verdict.kind for verdict in found.values()}
    assert kinds == {Kind.DIMENSIONAL if end == "collapse" else Kind.HEALTHY}
    scores = [verdict.score for verdict in found.values()]
    assert max(scores) - min(scores) < 0.05


def test_since_when_may_be_earlier_than_the_step_from_which_views_count():
    """What two views share counts from step 80 on, and tells then of the steps before."""
    verdict = judge(seen(two_views(0.15, directions=10.0), 12, two_views(0.01)))
    assert verdict.since_step is not None and verdict.since_step <= 20


# What is said of one file of embeddings, each with the right answer.


def gaussian(rows: int, dim: int, *, rank: int | None = None, noise: float = 0.0):
    draw = torch.Generator().manual_seed(0)
    z = torch.randn(rows, rank or dim, generator=draw)
    if rank is not None:
        z = z @ torch.randn(rank, dim, generator=draw)
    return z + noise * torch.randn(rows, dim, generator=draw)


def of_file(z: torch.Tensor) -> Verdict:
    return judge_embeddings(read_part(z), noise_readings(*z.shape))


@pytest.mark.parametrize(("rank", "dim"), [(10, 768), (10, 2048), (9, 128), (3, 32), (2, 64)])
def test_a_file_of_exact_low_rank_is_called_whatever_its_width(rank, dim):
    verdict = of_file(gaussian(2 * dim + 64, dim, rank=rank))
    assert verdict.kind is Kind.DIMENSIONAL and verdict.score > 0.5
    assert f"{rank} directions of {dim:,}" in verdict.sentence


def test_a_few_strong_directions_over_noise_are_called():
    z = gaussian(2000, 256, rank=3, noise=0.2)
    assert read_part(z).participation_ratio == pytest.approx(3, abs=0.3)
    verdict = of_file(z)
    assert verdict.kind is Kind.DIMENSIONAL and "3 directions of 256" in verdict.sentence


def test_one_dominant_direction_is_a_remark_and_one_that_drowns_the_rest_is_called():
    z = gaussian(2000, 64)
    z[:, 0] *= 20
    strong = of_file(z)
    assert strong.kind is Kind.HEALTHY
    assert any("one direction" in remark and "87" in remark for remark in strong.evidence)
    z[:, 0] *= 50
    assert of_file(z).kind is Kind.DIMENSIONAL


@pytest.mark.parametrize("rows", [2, 3, 100])
def test_a_file_of_too_few_rows_cannot_be_told_and_how_many_it_takes_is_said(rows):
    verdict = of_file(gaussian(rows, 512))
    assert verdict.kind is Kind.UNKNOWN and "at least 256 rows" in verdict.sentence
    assert of_file(gaussian(256, 512)).kind is Kind.HEALTHY


def test_few_rows_are_enough_to_see_a_collapse():
    assert of_file(gaussian(100, 512, rank=3)).kind is Kind.DIMENSIONAL


def test_embeddings_whose_cosines_are_all_near_one_are_healthy_without_their_mean():
    z = gaussian(2000, 128) + 7
    assert read_part(z).mean_cosine == pytest.approx(0.98, abs=0.005)
    verdict = of_file(z)
    assert verdict.kind is Kind.HEALTHY
    assert any("subtract it" in remark for remark in verdict.evidence)
    assert of_file(gaussian(2000, 128) + 1000).kind is Kind.COMPLETE


def test_a_power_law_has_no_cliff():
    for alpha in (0.5, 1.0, 2.0):
        scale = torch.arange(1, 257).float() ** (-alpha / 2)
        assert cliff(read_part(gaussian(1000, 256) * scale)) is None
