"""The page of a diagnosis in a real browser, without a network."""

import pytest

from offdiag.report.diagnosis import write_diagnosis

pytest.importorskip("playwright.sync_api", reason="needs the package playwright")

from .test_browser import (  # noqa: F401  `browser` is a fixture
    CONTRASTS,
    DESKTOP,
    INKED,
    PHONE,
    browser,
    opened,
    pytestmark,
)
from .test_diagnosis import HOSTILE, of_a_run, of_embeddings


@pytest.fixture(scope="module")
def pages(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pages")
    write_diagnosis(of_a_run(), folder / "run.html")
    write_diagnosis(of_embeddings("a-long-name-without-a-break" * 9), folder / "embeddings.html")
    write_diagnosis(of_a_run(HOSTILE, parts=(HOSTILE, "b" * 99)), folder / "hostile.html")
    return folder


@pytest.mark.parametrize(
    ("name", "viewport"),
    [("run", DESKTOP), ("run", PHONE), ("embeddings", PHONE), ("hostile", PHONE)],
    ids=["run, desktop", "run, phone", "embeddings, phone", "hostile, phone"],
)
def test_charts_draw_quietly_and_the_page_does_not_overflow(
    browser,  # noqa: F811
    pages,
    name,
    viewport,
):
    with opened(browser, pages / f"{name}.html", viewport=viewport) as page:
        assert min(dict(page.evaluate(INKED)).values()) >= 5
        assert page.is_visible("#verdict p")
        assert page.evaluate("document.documentElement.scrollWidth") <= viewport["width"]
        outside = page.evaluate(
            """[...document.querySelectorAll(".range i")].filter((mark) => {
              const [box, bar] = [mark, mark.parentElement].map((n) => n.getBoundingClientRect());
              return box.width === 0 || box.right < bar.left || box.left > bar.right;
            }).length"""
        )
        assert outside == 0


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_text_stands_out_from_its_ground(browser, pages, scheme):  # noqa: F811
    with opened(browser, pages / "run.html", scheme=scheme) as page:
        ratios = page.evaluate(CONTRASTS)
        assert {"SPAN.how", "text.", "H1.", "P.badge dimensional"} <= set(ratios)
        assert {name: ratio for name, ratio in ratios.items() if ratio < 4.5} == {}
