"""The page in a real browser, without a network."""

import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import altair as alt
import pytest

from offdiag.report.comparison import write_comparison
from offdiag.report.page import Section, write_report

from . import synthetic

playwright = pytest.importorskip("playwright.sync_api", reason="needs the package playwright")
BROWSER = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
)
if BROWSER is None and os.environ.get("CI"):
    pytest.fail("the page is tested in a browser, and CI has none", pytrace=False)
pytestmark = pytest.mark.skipif(BROWSER is None, reason="needs chromium or google-chrome on PATH")

QUIET = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
DESKTOP, PHONE = {"width": 1280, "height": 900}, {"width": 360, "height": 740}


@pytest.fixture(scope="module")
def browser():
    with playwright.sync_playwright() as engine:
        chromium = engine.chromium.launch(executable_path=BROWSER, args=QUIET)
        yield chromium
        chromium.close()


@pytest.fixture(scope="module")
def pages(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("pages")
    lab = alt.Chart(alt.InlineData(values=[{"x": 1, "y": 2}, {"x": 3, "y": 1}]), width="container")
    section = Section(
        heading="The lab predicts", text="A line.", chart=lab.mark_line().encode(x="x:Q", y="y:Q")
    )
    write_report(synthetic.demo(), folder / "demo.html", extra_sections=[section])
    write_report(synthetic.hostile(), folder / "hostile.html")
    write_report([synthetic.run("only", rows=[1], knn=None)], folder / "one.html")
    many = [synthetic.run(f"a run with a long name, seed {i}", epochs=4, seed=i) for i in range(9)]
    write_report(many, folder / "many.html")
    write_comparison(synthetic.comparison(), folder / "comparison.html")
    return folder


@contextmanager
def opened(browser, path: Path, *, viewport=DESKTOP, scheme="light") -> Iterator:
    """The page once all is drawn; fails on any complaint, dialogue or request of its own."""
    context = browser.new_context(viewport=viewport, color_scheme=scheme)
    page = context.new_page()
    complaints, requests = [], []
    page.on("console", lambda m: complaints.append(f"{m.type}: {m.text}"))
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("dialog", lambda dialog: (complaints.append(dialog.message), dialog.dismiss()))
    page.on("request", lambda request: requests.append(request.url))
    page.goto(path.as_uri())
    page.wait_for_selector(f"html[data-drawn={scheme}]", timeout=60_000)
    yield page
    context.close()
    assert complaints == []
    assert [url for url in requests if not url.startswith(("data:", "blob:"))] == [path.as_uri()]


INKED = """() => [...document.querySelectorAll("[data-chart]")].map((holder) => {
  const canvas = holder.querySelector("canvas");
  if (!canvas) return [holder.dataset.chart, holder.querySelectorAll("svg path[d]").length];
  const pixels = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data;
  return [holder.dataset.chart, new Set(new Uint32Array(pixels.buffer)).size];
})"""

CONTRASTS = """() => {
  const channel = (c) => (c /= 255) <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4;
  const numbers = (text) => text.match(/[0-9.]+/g).map(Number);
  const luminance = ([r, g, b]) =>
    0.2126 * channel(r) + 0.7152 * channel(g) + 0.0722 * channel(b);
  const ground = (node) => {
    for (; node; node = node.parentElement) {
      const colour = numbers(getComputedStyle(node).backgroundColor);
      if (colour.length === 3 || colour[3] > 0) return colour;
    }
    return [255, 255, 255];
  };
  const found = {};
  for (const node of document.querySelectorAll("body *")) {
    const svg = node.namespaceURI.endsWith("svg");
    if (svg ? node.tagName !== "text" : ![...node.childNodes].some((c) => c.nodeType === 3
        && c.textContent.trim())) continue;
    if (["SCRIPT", "NOSCRIPT", "STYLE"].includes(node.tagName)) continue;
    if (node.closest("[data-chart] details")) continue;
    const style = getComputedStyle(node);
    const pair = [luminance(numbers(svg ? style.fill : style.color)), luminance(ground(node))];
    const ratio = (Math.max(...pair) + 0.05) / (Math.min(...pair) + 0.05);
    const name = `${node.tagName}.${svg ? "" : node.className}`;
    found[name] = Math.min(found[name] ?? 99, ratio);
  }
  return found;
}"""


@pytest.mark.parametrize(
    ("name", "viewport"),
    [
        ("demo", DESKTOP),
        ("demo", PHONE),
        ("hostile", DESKTOP),
        ("one", PHONE),
        ("many", PHONE),
        ("comparison", PHONE),
    ],
    ids=lambda value: value if isinstance(value, str) else str(value["width"]),
)
def test_every_chart_draws_quietly_and_the_page_does_not_overflow(browser, pages, name, viewport):
    with opened(browser, pages / f"{name}.html", viewport=viewport) as page:
        inked = dict(page.evaluate(INKED))
        assert len(inked) >= 10
        # The head starts as the identity: that picture is axes and a scale on an empty ground.
        assert min(inked.values()) >= 5, inked
        assert page.is_visible("#verdict p")
        assert page.evaluate("document.documentElement.scrollWidth") <= viewport["width"]
        widths = page.evaluate(
            "[...document.querySelectorAll('[data-chart] .chart-wrapper')]"
            ".map((c) => c.scrollWidth - c.closest('[data-chart]').clientWidth)"
        )
        assert max(widths) <= 0


def test_the_verdict_is_what_a_reader_sees_first(browser, pages):
    with opened(browser, pages / "demo.html", viewport=PHONE) as page:
        box = page.locator("#verdict p").first.bounding_box()
        assert box["y"] + box["height"] < PHONE["height"]
        assert "the loss cannot see collapse" in page.inner_text("#verdict")


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize(
    ("name", "named"), [("demo", "P.evidence"), ("comparison", "SPAN.interval")]
)
def test_every_text_stands_out_from_its_ground(browser, pages, name, named, scheme):
    with opened(browser, pages / f"{name}.html", scheme=scheme) as page:
        ratios = page.evaluate(CONTRASTS)
        assert {named, "text.", "H1.", "TD."} <= set(ratios)
        assert {name: ratio for name, ratio in ratios.items() if ratio < 4.5} == {}


def test_charts_follow_the_ground_when_it_changes(browser, pages):
    ground = "getComputedStyle(document.body).backgroundColor"
    label = "getComputedStyle(document.querySelector('[data-chart] svg text')).fill"
    with opened(browser, pages / "demo.html") as page:
        light = page.evaluate(ground), page.evaluate(label)
        page.emulate_media(color_scheme="dark")
        page.wait_for_selector("html[data-drawn=dark]", timeout=60_000)
        dark = page.evaluate(ground), page.evaluate(label)
    assert light[0] != dark[0] and light[1] != dark[1]


def test_the_pointer_shows_the_values_of_all_runs(browser, pages):
    with opened(browser, pages / "demo.html") as page:
        chart = page.locator("[data-chart=curve-loss] svg.marks")
        chart.scroll_into_view_if_needed()
        box = chart.bounding_box()
        for part in (0.4, 0.5):
            page.mouse.move(box["x"] + part * box["width"], box["y"] + box["height"] / 2)
        tooltip = page.locator("#vg-tooltip-element.visible")
        tooltip.wait_for()
        words = tooltip.inner_text()
        assert "epoch" in words
        for run in synthetic.demo():
            assert run.name in words
        assert len(re.findall(r"0\.\d+", words)) == 4


def test_the_pointer_shows_the_entry_of_the_head(browser, pages):
    with opened(browser, pages / "demo.html") as page:
        chart = page.locator("[data-chart=head-1-peak] canvas")
        chart.scroll_into_view_if_needed()
        box = chart.bounding_box()
        for part in (0.5, 0.52):
            page.mouse.move(box["x"] + part * box["width"], box["y"] + 0.4 * box["height"])
        tooltip = page.locator("#vg-tooltip-element.visible")
        tooltip.wait_for()
        assert {"i", "j", "E − I"} <= {
            line.split("\t")[0].rstrip(":") for line in tooltip.inner_text().split("\n")
        }


def test_the_legend_fades_the_other_runs_in_every_curve_and_back(browser, pages):
    faded = """() => [...document.querySelectorAll("[data-chart^=curve]")].map((holder) =>
      [...holder.querySelectorAll("g.mark-line path")].map((line) =>
        Number(getComputedStyle(line).opacity)))"""
    with opened(browser, pages / "demo.html") as page:
        button = page.get_by_role("button", name="off-diagonal", exact=True)
        button.focus()
        page.keyboard.press("Enter")
        assert button.get_attribute("aria-pressed") == "true"
        page.wait_for_function(f"({faded})().flat().some((opacity) => opacity < 1)")
        for opacities in page.evaluate(faded):
            assert opacities.count(1) == 1
        page.keyboard.press("Enter")
        page.wait_for_function(f"({faded})().flat().every((opacity) => opacity === 1)")


def test_hostile_names_are_shown_and_do_nothing(browser, pages):
    with opened(browser, pages / "hostile.html") as page:
        names = page.locator(".legend button").all_inner_texts()
        assert [" ".join(n.split()) for n in names] == [
            " ".join(n.split()) for n in synthetic.HOSTILE
        ]
        assert page.locator("img").count() == 0
        chart = page.locator("[data-chart=curve-loss] svg.marks")
        chart.scroll_into_view_if_needed()
        box = chart.bounding_box()
        for part in (0.4, 0.5):
            page.mouse.move(box["x"] + part * box["width"], box["y"] + box["height"] / 2)
        tooltip = page.locator("#vg-tooltip-element.visible")
        tooltip.wait_for()
        assert "<script>alert(1)</script>" in tooltip.inner_text()
        assert tooltip.locator("img, script").count() == 0


def test_without_scripts_the_words_remain(browser, pages):
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto((pages / "demo.html").as_uri())
    assert "The charts need JavaScript" in page.inner_text("body")
    assert page.is_visible("#verdict p")
    context.close()
