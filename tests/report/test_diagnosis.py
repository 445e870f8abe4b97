"""The page of a diagnosis: what it holds, that names stay names, and what a browser makes of it."""

import json
import math
import re
from dataclasses import replace

import pytest

from offdiag.diagnostics.catalogue import READINGS
from offdiag.diagnostics.diagnosis import Diagnosis
from offdiag.diagnostics.named_cause import NamedCause
from offdiag.diagnostics.verdict import Advice, Kind, Verdict
from offdiag.report.diagnosis import render_diagnosis, write_diagnosis
from offdiag.report.numbers import MISSING
from offdiag.report.ranges import reading_row
from offdiag.results.observation import Observation
from offdiag.results.readings import HeadReadings, Readings

from . import synthetic
from .test_page import Reader

HOSTILE = "</title><script>alert(1)</script><img src=x onerror=alert(2)>"


def readings(rank=20.0, **settings) -> Readings:
    return replace(synthetic.readings(64, rank), rows=2048, mean_share=0.1, **settings)


def verdict(kind=Kind.DIMENSIONAL, **settings) -> Verdict:
    told = {
        "score": 0.9,
        "sentence": "The projector lives in about 3 directions of 64.",
        "evidence": ("effective rank 3.0, at the start 30", "the loss fell all the while."),
        "since_step": 600,
        "part": "projector",
        "best_step": 400,
        "best_checkpoint": "step400.pt",
        "advice": (Advice(cause="no stop-gradient", remedy="add it", source="Chen & He 2021"),),
    }
    return Verdict(kind=kind, **(told | settings))


def of_a_run(name="a run", parts=("encoder", "projector"), **settings) -> Diagnosis:
    history = tuple(
        Observation(
            step=step,
            parts={part: readings(30.0 - step / 40, alignment=0.3) for part in parts},
            head=HeadReadings(off_diagonal_norm=step / 100, rank=64.0),
            loss=1 / (1 + step),
        )
        for step in range(0, 1001, 100)
    )
    noise = readings(60.0)
    return Diagnosis(
        name=name,
        readings=history[-1].parts,
        noise={part: noise for part in parts},
        start=history[0].parts,
        head=history[-1].head,
        history=history,
        knn={part: 0.5 for part in parts},
        notes=("a note",),
        about={"machine": "a processor"},
        **({"verdict": verdict()} | settings),
    )


def of_embeddings(name="z.npy", **settings) -> Diagnosis:
    whole = {
        "verdict": verdict(
            Kind.HEALTHY,
            since_step=None,
            part=None,
            best_step=None,
            best_checkpoint=None,
            advice=(),
        ),
        "readings": {"embeddings": readings()},
        "noise": {"embeddings": readings(60.0)},
    }
    return Diagnosis(name=name, **(whole | settings))


def test_the_page_of_a_run_tells_what_where_since_when_and_what_next():
    page = Reader(render_diagnosis(of_a_run()))
    for words in (
        "dimensional collapse",
        "lives in about 3 directions",
        "Where: the projector.",
        "Probability of collapse by these readings: 0.90",
        "Since step 600.",
        "step 400, checkpoint step400.pt",
        "Effective rank 3.0, at the start 30.",
        "The loss fell all the while.",
        "no stop-gradient",
        "Chen & He 2021",
        "a note",
        "50.0",
        "a processor",
    ):
        assert words.lower() in page.text.lower(), words
    charts = [attrs["data-chart"] for _, attrs in page.tags if attrs.get("data-chart")]
    # Two spectra; ranks, spread, largest eigenvalue, mean, alignment, loss and head over steps.
    assert len(charts) == len(set(charts)) == 2 + 7
    assert page.text.count("Values") == len(charts)


def test_the_page_of_embeddings_has_no_section_for_what_is_not_known():
    page = Reader(render_diagnosis(of_embeddings()))
    for words in ("How it came to this", "What to try", "random start", "Labels", "Two views"):
        assert words not in page.text
    assert "Gaussian noise" in page.text


def test_embeddings_without_any_spread_make_a_page():
    flat = Readings(dim=8, rows=9, std=0.0, mean_share=1.0, spectrum=(math.nan,) * 8)
    page = render_diagnosis(of_embeddings(readings={"embeddings": flat}, noise={}))
    assert "energy of the mean" in page and "effective rank" not in Reader(page).text


def test_hostile_names_make_no_tag_and_no_script():
    said = verdict(sentence=HOSTILE, evidence=(HOSTILE,), part=HOSTILE, best_checkpoint=HOSTILE)
    hostile = replace(
        of_a_run(HOSTILE, parts=(HOSTILE, "\udcff"), verdict=said),
        notes=(HOSTILE,),
        about={HOSTILE: HOSTILE},
    )
    page, harmless = Reader(render_diagnosis(hostile)), Reader(render_diagnosis(of_a_run()))
    assert {tag for tag, _ in page.tags} <= {tag for tag, _ in harmless.tags}
    assert not any(name.startswith("on") for _, attrs in page.tags for name in attrs)
    assert [t for k, t in page.scripts if k is None] == [
        t for k, t in harmless.scripts if k is None
    ]
    assert page.text.count("<script>alert(1)</script>") >= 6
    assert any("<script>alert(1)</script>" in json.dumps(spec) for spec in page.json())


def test_the_page_asks_nothing_of_the_network_and_its_headings_are_in_order():
    page = Reader(render_diagnosis(of_a_run()))
    for tag, attrs in page.tags:
        for name in ("src", "href", "action", "srcset", "poster"):
            assert not attrs.get(name) or attrs[name] == "data:,", (tag, attrs)
    levels = [int(tag[1]) for tag, _ in page.tags if re.fullmatch("h[1-6]", tag)]
    assert levels[0] == 1 and levels.count(1) == 1
    assert all(after - before <= 1 for before, after in zip(levels, levels[1:], strict=False))
    assert all(a.get("scope") for tag, a in page.tags if tag == "th")


@pytest.mark.parametrize("about", READINGS, ids=lambda r: r.name)
def test_the_ends_of_a_range_stand_at_the_ends_of_its_bar(about):
    shape = Readings(dim=64, rows=2048)
    low = replace(shape, **{about.name: about.collapsed(shape)})
    high = replace(shape, **{about.name: about.spread(shape)})
    row = reading_row(about, low, high, None)
    assert row.place == pytest.approx(0) and row.noise_place == pytest.approx(1)
    assert row.start_place is None and row.start.text == MISSING and row.start.why
    between = replace(shape, **{about.name: (about.collapsed(shape) + about.spread(shape)) / 2})
    assert 0 < reading_row(about, between, None, None).place < 1


def test_an_infinite_condition_number_is_drawn_at_the_collapsed_end():
    about = next(one for one in READINGS if one.name == "condition_number")
    row = reading_row(about, Readings(dim=4, condition_number=math.inf), None, None)
    assert row.value.text == "∞" and row.place == 0


def test_every_reading_that_is_a_number_has_a_range():
    numbers = {name for name, value in vars(Readings(dim=1)).items() if isinstance(value, float)}
    assert {about.name for about in READINGS} == numbers


def test_a_page_is_not_written_over_a_folder(tmp_path):
    with pytest.raises(Exception, match="it is a folder"):
        write_diagnosis(of_embeddings(), tmp_path)


RED = NamedCause(
    title="the gradient reaches the target",
    state="red",
    sentence="0.98 of the gradient does not come through the predictor <b>.",
    change="z = z.detach()",
    since_step=3,
)


def test_causes_come_first_with_their_number_step_and_change():
    page = render_diagnosis(of_a_run(causes=(RED, NamedCause(title="frozen", state="in order"))))
    assert page.index("What it is, and what to change") < page.index("What says so")
    for text in ("since step 3", "0.98 of the gradient", "z = z.detach()", "so ruled out"):
        assert text in page
    assert "predictor <b>" not in page and "Known causes, not ruled out" not in page


def test_where_no_mark_is_red_the_page_says_so_and_a_note_is_no_alarm():
    for quiet in (NamedCause(title="frozen", state="in order"), replace(RED, note=True)):
        page = render_diagnosis(of_a_run(causes=(quiet,)))
        assert "No mark of a known cause is outside its bound." in page
        assert "What it is, and what to change" not in page
