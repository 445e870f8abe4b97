"""Laws of the page as text; what a browser makes of it is in test_browser.py."""

import json
import math
import os
import re
import shlex
from dataclasses import replace
from html.parser import HTMLParser

import altair as alt
import pytest

from offdiag._checks import ConfigError, RunError
from offdiag.cli.main import parse
from offdiag.cli.part_settings import configured
from offdiag.report.numbers import duration, epoch, percent, significant
from offdiag.report.page import Section, render_report, write_report
from offdiag.report.settings import command, settings
from offdiag.results.history import RunRecord
from offdiag.runs.config import RunConfig

from . import synthetic


class Reader(HTMLParser):
    """What a browser would build: tags with their attributes, headings, scripts, words."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.scripts: list[tuple[str | None, str]] = []
        self.words: list[str] = []
        self._open: str | None = None
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        self._open = tag
        if tag == "script":
            self.scripts.append((dict(attrs).get("type"), ""))

    def handle_endtag(self, tag):
        self._open = None

    def handle_data(self, data):
        if self._open == "script":
            kind, text = self.scripts[-1]
            self.scripts[-1] = (kind, text + data)
        elif self._open != "style":
            self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())

    def json(self) -> list[object]:
        return [json.loads(text) for kind, text in self.scripts if kind == "application/json"]


@pytest.fixture(scope="module")
def demo() -> str:
    return render_report(synthetic.demo(), title="The demo")


def test_the_page_holds_its_verdict_table_charts_and_settings(demo):
    page = Reader(demo)
    assert "The demo" in page.text
    assert "the loss cannot see collapse" in page.text
    for part in ("dimensional collapse", "healthy", "Side by side", "Linear probe", "batch_size"):
        assert part in page.text
    charts = [attrs["data-chart"] for tag, attrs in page.tags if attrs.get("data-chart")]
    # 12 curves, the final spectra, a heat map for each run, three pictures for each of the two
    # heads that are a matrix other than the identity.
    assert len(charts) == len(set(charts)) == 12 + 1 + 4 + 6
    assert "The head is exactly the identity, from start to end." in page.text
    assert "Not drawn, because the head is not a single matrix: mlp." in page.text


def test_the_chart_library_is_inside_once_and_nothing_is_fetched(demo):
    page = Reader(demo)
    code = [text for kind, text in page.scripts if kind is None]
    assert len(code) == 2
    assert sum("vegaEmbed=" in text or "vegaEmbed =" in text for text in code) == 1
    for tag, attrs in page.tags:
        for name in ("src", "href", "action", "srcset", "poster"):
            assert not attrs.get(name) or attrs[name] == "data:,", (tag, attrs)
    policy = next(a["content"] for _, a in page.tags if a.get("http-equiv"))
    assert "default-src 'none'" in policy
    assert "unsafe-eval" not in policy
    assert "script-src 'sha256-" in policy
    assert not any("http" in json.dumps(spec) for spec in page.json())


def test_the_page_of_the_demo_stays_below_two_megabytes(demo):
    assert len(demo.encode()) < 2_000_000


def test_headings_are_in_order_and_table_heads_have_a_scope(demo):
    page = Reader(demo)
    levels = [int(tag[1]) for tag, _ in page.tags if re.fullmatch("h[1-6]", tag)]
    assert levels[0] == 1 and levels.count(1) == 1
    assert all(after - before <= 1 for before, after in zip(levels, levels[1:], strict=False))
    heads = [attrs for tag, attrs in page.tags if tag == "th"]
    assert heads and all(a.get("scope") in ("col", "row", "colgroup") for a in heads)
    assert ("noscript", {}) in page.tags


def test_hostile_names_make_no_tag_no_script_and_stay_readable():
    harmless = Reader(render_report([synthetic.run("x", epochs=12) for _ in range(5)]))
    page = Reader(render_report(synthetic.hostile(), title="</title><script>alert(1)</script>"))
    assert {tag for tag, _ in page.tags} <= {tag for tag, _ in harmless.tags}
    assert not any(name.startswith("on") for _, attrs in page.tags for name in attrs)
    code = [text for kind, text in page.scripts if kind is None]
    assert code == [text for kind, text in harmless.scripts if kind is None]
    for name in synthetic.HOSTILE:
        assert " ".join(name.split()) in page.text
    assert any("<script>alert(1)</script>" in json.dumps(spec) for spec in page.json())


def test_names_are_told_apart_and_never_empty():
    record = synthetic.run("same", epochs=5)
    page = Reader(render_report([record, record, replace(record, name=" ")]))
    runs = [attrs["data-run"] for _, attrs in page.tags if attrs.get("data-run")]
    assert runs == ["same", "same (2)", "run 3"]


def test_a_name_that_utf8_cannot_write_is_written_with_a_mark(tmp_path):
    out = tmp_path / "report.html"
    write_report([synthetic.run("bad\udcff", epochs=5)], out)
    assert "bad?" in out.read_text(encoding="utf-8")


def test_without_labels_the_page_says_so():
    page = Reader(render_report([synthetic.run("a", knn=None)]))
    assert "Nearest neighbours need labels, and no run has them." in page.text
    assert "needs labels; no evaluation is recorded" in page.text
    assert not any(attrs.get("data-chart") == "curve-knn-features" for _, attrs in page.tags)


def test_a_run_of_one_reading_and_one_still_going_make_a_page():
    page = Reader(render_report([synthetic.run("one", rows=[1], planned=100)]))
    assert "cannot tell" in page.text
    assert "epoch 1 of 100" in page.text
    assert "not evaluated yet" in page.text


def test_numbers_that_are_not_finite_reach_the_page_as_gaps():
    record = synthetic.run("nan", epochs=6)
    last = record.history[-1]
    projection = replace(last.projection, effective_rank=math.nan, spectrum=(math.nan,) * 64)
    history = (*record.history[:-1], replace(last, loss=math.inf, projection=projection))
    page = Reader(render_report([replace(record, history=history)]))
    assert page.json()
    assert "the last loss is not a finite number" in page.text


def test_settings_that_differ_are_set_apart():
    table = {
        s.path: s for s in settings([{"a": 1, "b": {"c": [1, 2]}}, {"a": 2, "b": {"c": [1, 2]}}])
    }
    assert table["a"].differs and table["a"].values == ("1", "2")
    assert not table["b.c"].differs and table["b.c"].values[0] == "1, 2"
    lacking = settings([{"a": 1}, {}])[0]
    assert lacking.differs and lacking.values == ("1", "–")


def test_the_command_quotes_what_a_shell_would_act_on():
    record = synthetic.run("a; rm -rf ~", data="folder:/my pictures/$(x)")
    line = command(record)
    assert "'folder:/my pictures/$(x)'" in line
    assert line.endswith("--out './a; rm -rf ~-again'")
    assert "--head-lr-decay" in line and "--no-compile" in line and "--projector 256 64" in line


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"stream": False, "channels": "gray", "image_size": 9, "workers": 1, "seed": 7},
        {"stream": True, "download": True, "head_lr_decay": False, "read_every": 3},
        {"compile": True, "milestones": (0.1, 0.5), "projector": (4,), "skip_corrupt": True},
    ],
)
def test_the_command_is_read_back_as_the_same_settings(settings):
    config = RunConfig(**settings)
    record = replace(synthetic.run("a"), config=json.loads(json.dumps(config.to_dict())))
    words = shlex.split(command(record))
    assert configured(parse(words[1:])).to_dict() == config.to_dict()


def test_a_run_of_a_method_of_ones_own_is_named_and_has_no_command():
    own = {"method": "Mine", "head": "Scaled", "encoder": "Encoder"}
    record = replace(synthetic.run("a"), config={"data": "digits", "epochs": 12, "own": own})
    text = Reader(render_report([record])).text
    assert command(record) is None and "offdiag train" not in text
    assert "with the method Mine and its head Scaled" in text.replace("With", "with")
    assert "off-diagonal head" not in text.lower()


def test_extra_sections_stand_between_the_heads_and_the_settings():
    chart = alt.Chart(alt.InlineData(values=[{"x": 1, "y": math.nan}])).mark_point().encode(x="x:Q")
    section = Section(heading="The <lab>", text="One.\n\nTwo & three.", chart=chart)
    text = Reader(render_report([synthetic.run("a", epochs=5)], extra_sections=[section])).text
    assert (
        text.index("The head as a picture") < text.index("The <lab>") < text.index("Two & three.")
    )
    assert text.index("Two & three.") < text.index("Exactly what was run")


def test_an_unfinished_page_never_appears(tmp_path, monkeypatch):
    out = tmp_path / "deep" / "report.html"
    record = synthetic.run("a", epochs=5)
    write_report([record], out)
    before = out.read_bytes()

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(RunError, match="cannot write .*report.html: No space left on device"):
        write_report([replace(record, name="b")], out)
    assert out.read_bytes() == before
    assert os.listdir(out.parent) == ["report.html"]


def test_a_place_that_cannot_be_written_is_one_sentence(tmp_path):
    record = synthetic.run("a", epochs=5)
    (tmp_path / "file").write_text("")
    with pytest.raises(RunError, match="cannot make the folder"):
        write_report([record], tmp_path / "file" / "report.html")
    with pytest.raises(RunError, match="it is a folder"):
        write_report([record], tmp_path)


def test_no_run_and_no_reading_are_refused():
    with pytest.raises(ConfigError, match="at least one run"):
        render_report([])
    empty = RunRecord(name="e", config={}, circumstances={}, history=(), head=None, evaluation=None)
    with pytest.raises(ConfigError, match="'e' has none"):
        render_report([empty])


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.0486, "0.0486"), (14.62, "14.6"), (1234.5, "1234"), (0, "0.00"), (3e-7, "3.00e-07")],
)
def test_three_digits_count(value, text):
    assert significant(value) == text


def test_numbers_that_are_missing_have_no_text():
    assert significant(None) is significant(math.nan) is percent(math.inf) is None
    assert percent(0.9534) == "95.3\u00a0%"
    assert [duration(s) for s in (0.44, 83, 7_400, math.nan)] == [
        "0.4 s",
        "1 min 23 s",
        "2 h 3 min",
        None,
    ]
    assert [epoch(e) for e in (3.0, 37.5, 5_000.0)] == ["3", "37.5", "5000"]
