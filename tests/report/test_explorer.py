"""The explorer in a real browser: its integrators against Python's, and its manners as a page."""

import contextlib
import io
import json
import os
import re
import shutil
from contextlib import contextmanager
from dataclasses import replace

import numpy as np
import pytest

from offdiag.cli.main import main
from offdiag.report.explorer.page import assemble
from offdiag.theory.direct_set import DirectSet
from offdiag.theory.ensemble import ensemble
from offdiag.theory.flow import flow, flow_many
from offdiag.theory.isoloss import IsoLoss
from offdiag.theory.linear_byol import LinearBYOLModes
from offdiag.theory.outcomes import outcomes
from offdiag.theory.phase_one import horizon
from offdiag.theory.phases import find_phases
from offdiag.theory.problem import Problem
from offdiag.theory.self_predictive import SelfPredictive
from offdiag.theory.state import starts

from ..helpers import dynamics

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
TABS = ("theorem", "diagram", "theories")


@pytest.fixture(scope="module")
def browser():
    with playwright.sync_playwright() as engine:
        chromium = engine.chromium.launch(executable_path=BROWSER, args=QUIET)
        yield chromium
        chromium.close()


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    out = tmp_path_factory.mktemp("explorer") / "page" / "explorer.html"
    main(["theory", "explore", "--out", str(out)])
    return out


@contextmanager
def opened(browser, path, hash="", *, viewport=DESKTOP, motion="reduce", script=None):
    """The page once it is drawn; fails on any complaint, dialogue or request of its own."""
    context = browser.new_context(viewport=viewport, reduced_motion=motion)
    if script:
        context.add_init_script(script)
    page = context.new_page()
    complaints, requests = [], []
    page.on("console", lambda m: complaints.append(f"{m.type}: {m.text}"))
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("dialog", lambda dialog: (complaints.append(dialog.message), dialog.dismiss()))
    page.on("request", lambda request: requests.append(request.url))
    page.goto(path.as_uri() + hash)
    page.wait_for_selector("html[data-drawn]")
    yield page
    context.close()
    assert complaints == []
    away = [url for url in requests if not url.startswith(("data:", "blob:"))]
    assert [url.partition("#")[0] for url in away] == [path.as_uri()]


def until(page, condition: str) -> None:
    """Wait until an expression holds. The page's policy forbids the engine's own waiting."""
    for _ in range(600):
        if page.evaluate(condition):
            return
        page.wait_for_timeout(50)
    raise AssertionError(f"never came true: {condition}")


@pytest.fixture(scope="module")
def page(browser, path):
    with opened(browser, path) as one:
        yield one


def in_words_of_the_page(problem: Problem) -> dict:
    return {
        "dim": problem.dim,
        "strengths": problem.strengths,
        "patches": problem.patches,
        "featurePatches": problem.feature_patches,
        "masks": problem.masks,
        "noise": problem.noise,
        "neurons": problem.neurons,
        "power": problem.power,
        "normaliser": problem.normaliser == "bn",
        "stopGradient": problem.stop_gradient == "target",
        "head": problem.head_lr_ratio > 0,
        "rho": problem.head_lr_ratio,
    }


RUN = """({problem, neurons, times, rtol}) => times.map((time) => {
  const run = wenLi.solve(problem, neurons, time, rtol), points = wenLi.sample(run, 1);
  return {
    ...wenLi.unpack(run.constants, run.states.at(-1)), time: points.at(-1).time, tried: run.tried,
    loss: run.losses.at(-1), outcome: wenLi.outcome(run), phases: wenLi.phases(run, points).phases,
  };
})"""


def flow_of_the_page(page, problem, start, times, *, rtol=1e-6):
    neurons = np.concatenate([start.inner_products, start.noise_parts], axis=1).ravel().tolist()
    asked = {"problem": in_words_of_the_page(problem), "neurons": neurons}
    return page.evaluate(RUN, asked | {"times": list(times), "rtol": rtol})


PROBLEMS = {
    "reference": (Problem(), 1e8),
    "large": (Problem(dim=100_000), 1e12),
    "no head": (Problem(head_lr_ratio=0.0), 1e8),
    "coin masks, fast head": (Problem(masks="independent", head_lr_ratio=0.3), 1e8),
    "no stop-gradient": (Problem(stop_gradient="none"), 1e8),
    "no normaliser": (Problem(normaliser="none"), 1e8),
}


@pytest.mark.parametrize("name", PROBLEMS)
def test_the_flow_is_the_one_of_python_all_the_way(page, name):
    problem, last = PROBLEMS[name]
    times = np.geomspace(1e2, last, 9).tolist()
    for start in starts(problem, 5)[0::2]:
        found = flow_of_the_page(page, problem, start, times)
        for time, theirs in zip(times, found, strict=True):
            ours = flow(problem, start, time=time)
            assert theirs["time"] == time
            np.testing.assert_allclose(theirs["c"], ours.inner_products[-1], atol=1e-6)
            np.testing.assert_allclose(theirs["head"], ours.head[-1], atol=1e-6)
            np.testing.assert_allclose(theirs["covariance"], ours.noise[-1], atol=1e-6)
            assert theirs["loss"] == pytest.approx(ours.loss[-1], abs=1e-6)
            # As many steps: the same controller. Where nothing moves any more, rounding decides.
            assert theirs["tried"] == pytest.approx(ours.method["steps"], rel=0.05)
        assert theirs["outcome"] == outcomes(problem, flow_many(problem, [start], time=time))[0]
        phases = find_phases(ours).phases
        assert [one["name"] for one in theirs["phases"]] == [one.name for one in phases]
        for one, other in zip(theirs["phases"], phases, strict=True):
            assert one["complete"] == other.complete
            assert one["start"] == pytest.approx(other.start, rel=1e-6)
            assert one["end"] == pytest.approx(other.end, rel=1e-6)


@pytest.mark.parametrize(
    ("problem", "time"),
    [
        (Problem(dim=200, power=5), 1e11),
        (Problem(dim=30, strengths=(1.0, 0.8), head_lr_ratio=1.0), 1e6),
        (Problem(neurons=3, strengths=(4.0, 3.0, 2.0)), 1e8),
    ],
    ids=["fifth power", "few dimensions", "three neurons"],
)
def test_the_flow_ends_where_the_one_of_python_does(page, problem, time):
    start = starts(problem, 2)[1]
    ours = flow(problem, start, time=time, rtol=1e-8)
    (theirs,) = flow_of_the_page(page, problem, start, [time], rtol=1e-8)
    np.testing.assert_allclose(theirs["c"], ours.inner_products[-1], atol=1e-6)
    np.testing.assert_allclose(theirs["head"], ours.head[-1], atol=1e-6)


def test_starts_have_the_law_of_the_initialisation(page):
    count, dim = 4000, 50
    drawn = np.array(
        page.evaluate(
            """([count, dim]) => Array.from({length: count}, (_, i) =>
              Array.from(wenLi.start({...wenLi.defaults, dim}, 7, i)))""",
            [count, dim],
        )
    ).reshape(count, 2, 4)
    c, noise = drawn[..., :2], drawn[..., 2:]
    error = 5 * np.sqrt(2 / count)  # five standard errors of a mean of squares
    assert (c**2).mean(0) * dim == pytest.approx(np.ones((2, 2)), abs=error)
    assert abs((c[:, 0, 0] * c[:, 1, 0]).mean() * dim) < error
    sizes = (noise**2).sum(-1) * dim / (dim - 2)
    assert sizes.mean(0) == pytest.approx(np.ones(2), abs=error)
    assert sizes.var(0) == pytest.approx(np.full(2, 2 / (dim - 2)), rel=0.15)
    again = page.evaluate("Array.from(wenLi.start({...wenLi.defaults, dim: 50}, 7, 3))")
    assert again == drawn[3].ravel().tolist()


def test_the_run_time_is_the_one_of_the_lab(page):
    """Up to the draws that each takes its median over."""
    for problem in (Problem(), Problem(dim=30, power=5), Problem(strengths=(3.0, 3.0), noise=0.5)):
        asked = in_words_of_the_page(problem)
        assert page.evaluate("(one) => wenLi.horizon(one)", asked) == pytest.approx(
            horizon(problem), rel=0.2
        )
    times = page.evaluate("[1e2, 1e4].map((dim) => wenLi.horizon({...wenLi.defaults, dim}))")
    assert times[1] / times[0] == pytest.approx(1e4)  # d^(q-1)


def solved(page, module: str, **parameters):
    return page.evaluate(
        f"""(changed) => {{
          const standard = Object.fromEntries({module}.settings.map((row) => [row.key, row.value]));
          const done = {module}.solve({{...standard, ...changed}});
          return {{time: done.time, states: done.states.map((y) => Array.from(y)),
            said: {module}.sentence(done)}};
        }}""",
        parameters,
    )


OTHERS = [
    ("linearByol", {}, dynamics.linear_byol(0.1, 0.0, 1.0, 1.0)),
    (
        "linearByol",
        {"eta": 0.05, "v": 0.5, "tau": 0.8, "alpha": 3.0},
        dynamics.linear_byol(0.05, 0.5, 0.8, 3.0),
    ),
    ("isoLoss", {}, dynamics.isoloss(0.0, 0.5, True, True)),
    ("isoLoss", {"v": 0.5, "predictor": False}, dynamics.isoloss(0.5, 0.5, False, True)),
    ("isoLoss", {"v": 0.2, "stop": False, "power": 0.8}, dynamics.isoloss(0.2, 0.8, True, False)),
    ("directSet", {"eta": 0.1, "alpha": 0.5}, dynamics.direct_set(0.1, 0.5, None)),
    ("selfPredictive", {"rho": 2.0, "eta": 0.05}, None),
    ("selfPredictive", {"rho": 1.0, "stop": False}, None),
]


@pytest.mark.parametrize(("module", "parameters", "velocity"), OTHERS)
def test_the_other_dynamics_agree_with_scipy(page, module, parameters, velocity):
    if module == "directSet":
        noise = page.evaluate("directSet.NOISE")
        velocity = dynamics.direct_set(parameters["eta"], parameters["alpha"], noise)
    if module == "selfPredictive":
        settings = {"rho": 10.0, "eta": 0.0, "stop": True} | parameters
        velocity = dynamics.self_predictive(dynamics.corridor(8), 3, **settings)
    found = solved(page, module, **parameters)
    states = np.array(found["states"])
    expected = dynamics.integrate(velocity, states[0], np.array(found["time"]))
    np.testing.assert_allclose(states, expected, atol=1e-6)


def test_the_other_dynamics_are_those_of_the_lab(page):
    """At one state, where the page's start is not the lab's."""
    rng = np.random.default_rng(0)

    def theirs(module, parameters, y):
        call = f"([one, y]) => Array.from({module}.velocity(one)(0, Float64Array.from(y)))"
        return np.array(page.evaluate(call, [parameters, np.ravel(y).tolist()]))

    modes = LinearBYOLModes(target_scale=0.9, noise_variance=0.4, head_lr_ratio=2.0)
    p, s = rng.uniform(0.1, 1, (2, 4))
    moved = theirs(
        "linearByol", {"eta": 0.05, "v": 0.4, "tau": 0.9, "alpha": 2}, np.stack([p, s], 1).ravel()
    )
    ours = modes.velocity(0.0, {"head": p, "encoder": s})
    np.testing.assert_allclose(moved[0::2], ours["head"], rtol=1e-12)
    np.testing.assert_allclose(moved[1::2], ours["encoder"], rtol=1e-12)

    found = theirs("isoLoss", {"v": 0.3, "power": 0.7, "predictor": True, "stop": True}, [*p, *s])
    iso = IsoLoss(noise_variance=0.3, power=0.7)
    plain = replace(iso, equalised=False)
    np.testing.assert_allclose(found[:4], plain.mode_velocity(p), rtol=1e-12)
    np.testing.assert_allclose(found[4:], iso.mode_velocity(s), rtol=1e-12)

    noise = page.evaluate("directSet.NOISE")
    w = rng.uniform(0.1, 1, len(noise))
    one = DirectSet(noise_variances=tuple(map(float, noise)), power=0.5, weight_decay=0.07)
    ours = np.diag(one.velocity(0.0, {"encoder": np.diag(w)})["encoder"])
    found = theirs("directSet", {"eta": 0.07, "alpha": 0.5}, w)
    np.testing.assert_allclose(found, ours, rtol=1e-9)

    class Corridor(SelfPredictive):
        chain = dynamics.corridor(8)

    F, P = rng.standard_normal((8, 3)), rng.standard_normal((3, 3))
    for stop in (True, False):
        lab = Corridor(
            chain_states=8, head_lr_ratio=3.0, weight_decay=0.2, stop_gradient=stop
        ).velocity(0.0, {"representation": F, "head": P})
        found = theirs(
            "selfPredictive", {"rho": 3, "eta": 0.2, "stop": stop}, [*F.ravel(), *P.ravel()]
        )
        expected = np.concatenate([lab["representation"].ravel(), lab["head"].ravel()])
        np.testing.assert_allclose(found, expected, atol=1e-12)


def test_linear_byol_is_decided_at_the_basin_edge(page):
    low, high = page.evaluate("linearByol.edges({eta: 0.1, v: 0.5, tau: 0.9})")
    assert 1.5 * low**2 - 0.9 * low + 0.1 == pytest.approx(0, abs=1e-12)
    assert page.evaluate("linearByol.edges({eta: 0.14, v: 0.5, tau: 0.9})") is None
    end = """(scale) => linearByol.solve({eta: 0.1, v: 0.5, tau: 0.9, alpha: 1, scale})
      .states.at(-1)[6]"""  # the fourth mode starts at .3 of the scale
    assert page.evaluate(end, 1.05 * low / 0.3) == pytest.approx(high, abs=0.02)
    assert page.evaluate(end, 0.95 * low / 0.3) < 0.05


def test_isoloss_learns_all_modes_at_one_speed(page):
    times = page.evaluate(
        """() => {
          const done = isoLoss.solve({v: 0, power: 0.5, predictor: true, stop: true});
          return Array.from(done.states[0], (_, i) => isoLoss.reached(done, i));
        }"""
    )
    # p = sqrt(l): p' = p (1 - p) under IsoLoss, p' = p^2 (1 - p) under the Euclidean loss.
    p, half = np.sqrt([1e-1, 1e-2, 1e-3, 1e-4]), np.sqrt(0.5)
    odds = np.log(half / (1 - half)) - np.log(p / (1 - p))
    assert times[4:] == pytest.approx(odds.tolist(), rel=1e-2)
    assert times[:4] == pytest.approx((odds + 1 / p - 1 / half).tolist(), rel=1e-2)


def test_direct_set_keeps_the_directions_below_the_threshold(page):
    noise = np.array(page.evaluate("directSet.NOISE"))
    for eta in (0.07, 0.11, 0.2):
        found = solved(page, "directSet", eta=eta, start=1.2)
        kept = np.array(found["states"][-1]) > 0.05
        assert kept.tolist() == (noise < 1 / (4 * eta) - 1).tolist()
        assert found["said"].startswith(f"{kept.sum()} of 8 directions are kept")


def test_features_that_predict_themselves_do_not_collapse(page):
    for rho in (0.1, 5.0):
        states = np.array(solved(page, "selfPredictive", rho=rho)["states"])
        F, P = states[:, :24].reshape(-1, 8, 3), states[:, 24:].reshape(-1, 3, 3)
        kept = F.mT @ F - P @ P.mT / rho
        np.testing.assert_allclose(kept, np.broadcast_to(kept[0], kept.shape), atol=1e-5)
    found = solved(page, "selfPredictive", eta=0.35)
    assert np.abs(found["states"][-1][:24]).max() < 0.05 and "collapse" in found["said"]


def curve(page, chart: str, name: str):
    """A drawn line in pixels, and the map from values to pixels, from what the picture says."""
    drawn = page.evaluate(
        """([chart, name]) => {
          const svg = document.querySelector(`#${chart} svg`);
          const line = svg.querySelector(`path[data-name="${name}"]`);
          return {...svg.dataset, d: line.getAttribute("d")};
        }""",
        [chart, name],
    )
    numbers = [float(x) for x in re.findall(r"-?[0-9.]+", drawn["d"])]
    left, right, top, bottom = map(float, drawn["box"].split())
    low, high = (np.log10(float(x)) for x in drawn["x"].split()[:2])
    _, ceiling = map(float, drawn["y"].split())

    def place(time, value):
        x = left + (np.log10(time) - low) / (high - low) * (right - left)
        return np.stack([x, bottom - value / ceiling * (bottom - top)], -1)

    return np.reshape(numbers, (-1, 2)), place


def distance_to(line, points):
    """Of each point to the nearest place on a line of many pieces."""
    start, step = line[:-1], np.diff(line, axis=0)
    length = np.maximum((step**2).sum(1), 1e-12)
    share = ((points[:, None] - start) * step).sum(-1) / length
    nearest = start + np.clip(share, 0, 1)[..., None] * step
    return np.sqrt(((points[:, None] - nearest) ** 2).sum(-1)).min(1)


def slide(page, name: str, position: float) -> None:
    page.evaluate(
        """([name, position]) => {
          const input = document.getElementById(`set-${name}`);
          input.value = String(position);
          input.dispatchEvent(new Event("input"));
        }""",
        [name, position],
    )


def test_what_the_sliders_draw_is_what_python_computes(page):
    page.evaluate("delete document.documentElement.dataset.drawn")
    slide(page, "d", 3.5)
    slide(page, "rho", -1.5)
    slide(page, "start", 1)
    page.wait_for_selector("html[data-drawn$='start=1']")
    values = page.evaluate("state.parse(document.documentElement.dataset.drawn)")
    assert 3000 < values["d"] < 3300 and 0.03 < values["rho"] < 0.033
    names = {}
    with contextlib.redirect_stdout(io.StringIO()):  # the page's own words: they must run
        exec(page.evaluate("theorem.python()"), names)
    ours = names["run"]
    assert ours.problem["dim"] == values["d"] and ours.problem["head_lr_ratio"] == values["rho"]
    last = page.evaluate(
        "wenLi.unpack(theorem.read().run.constants, theorem.read().run.states.at(-1))"
    )
    np.testing.assert_allclose(last["c"], ours.inner_products[-1], atol=1e-6)
    for chart, name, values in [
        ("features", "neuron 1, strong feature", ours.inner_products[:, 0, 0]),
        ("features", "neuron 2, weak feature", ours.inner_products[:, 1, 1]),
        ("head", "E₂₁: 1 into 2", ours.head[:, 1, 0]),
        ("head", "E₁₂: 2 into 1", ours.head[:, 0, 1]),
    ]:
        drawn, place = curve(page, chart, name)
        fine = np.geomspace(1, ours.time[-1], 4000)
        line = place(fine, np.abs(np.interp(fine, ours.time, values)))
        assert len(drawn) > 3
        assert distance_to(line, drawn).max() < 3, (chart, name)
    story = page.inner_text("#phases")
    assert len(find_phases(ours).phases) == len(re.findall(r"^I+V?|^IV", story, re.MULTILINE))


SAID = """([values, index]) => {
  const all = {...state.defaults(), ...values}, problem = state.problem(all);
  const start = wenLi.start(problem, 0, index);
  const solved = story.solve(problem, start, wenLi.horizon(problem));
  return {
    ...story.captions(solved), phases: story.phases(solved).map((one) => one.text),
    peak: Math.max(...solved.records.map((one) => Math.abs(one.head[1][0]))),
    outcome: solved.outcome, twin: solved.twin?.outcome, loss: solved.run.losses.at(-1),
    learned: solved.found.learned.map((one) => one.time).filter(Number.isFinite).length,
  };
}"""


def test_sentences_say_what_the_trajectory_shows(page):
    paper = page.evaluate(SAID, [{}, 13])
    assert (paper["outcome"], paper["twin"]) == ("diverse", "collapsed_strong")
    peak = float(re.search(r"E₂₁ rises to ([0-9.]+)", paper["head"]).group(1))
    assert peak == pytest.approx(paper["peak"], rel=0.1)
    assert "returns to zero" in paper["head"] and "never learns it" in paper["features"]
    assert paper["plane"].startswith(
        "At the end: neuron 1 on the strong feature, neuron 2 on the weak feature."
    )
    assert len(paper["phases"]) == 5 and "both neurons on the strong" in paper["phases"][-1]

    plain = page.evaluate(SAID, [{"head": False}, 13])
    assert plain["outcome"] == "collapsed_strong" and plain["twin"] is None
    assert plain["loss"] == pytest.approx(Problem().least_loss, abs=1e-3)
    assert f"The loss, {plain['loss']:.3g}, is the smallest there is" in plain["phases"][-1]

    stuck = page.evaluate(SAID, [{"d": 100_000, "rho": 0.1}, 4])
    assert stuck["outcome"] == "unlearned" and stuck["learned"] == 1
    assert "lives off the head" in stuck["phases"][-1]

    silent = page.evaluate(SAID, [{"bn": False}, 13])
    assert silent["outcome"] == "vanished" and "shrink to nothing" in silent["phases"][-1]

    short = page.evaluate(SAID, [{"d": 1_000_000, "strong": 1, "power": "5"}, 13])
    assert short["learned"] == 0 and "No neuron has learned a feature" in short["phases"][0]


def test_the_hash_keeps_what_is_set_and_nothing_else(page):
    tried = page.evaluate(
        """() => {
          const next = random.generator(3, 0), out = [];
          for (let i = 0; i < 100; i++) {
            const values = Object.fromEntries(state.TABLE.map((row) => {
              if (row.kind === "switch") return [row.key, next() < 0.5];
              if (row.kind === "choice") {
                const names = Object.keys(row.choices);
                return [row.key, names[Math.floor(next() * names.length)]];
              }
              const low = state.toSlider(row, row.low), high = state.toSlider(row, row.high);
              const position = low + next() * (high - low), whole = row.kind === "whole";
              const put = whole && !row.log ? Math.round(position) : position;
              return [row.key, state.fromSlider(row, put)];
            }));
            out.push([values, state.parse(state.serialise(values))]);
          }
          return out;
        }"""
    )
    assert all(before == after for before, after in tried)
    assert page.evaluate("state.serialise(state.defaults())") == ""


HOSTILE = [
    "#d=1e99",
    "#d=-5&rho=NaN&seed=1.5&start=200",
    "#d=%E0%A4%A&head=yes&tab=<script>alert(1)</script>",
    "#__proto__=1&constructor=2&toString=3&hasOwnProperty=on",
    "#tab=constructor&theory=__proto__&axis=toString",
    "#" + "&" * 5000 + "=" * 5000,
    "#d=0x10&rho=1e-1e&power=4&strong=Infinity",
    "#d=1000.5&d",
]


def test_a_hostile_hash_gives_the_default(browser, path, page):
    for hash in HOSTILE:
        assert page.evaluate("(hash) => state.serialise(state.parse(hash))", hash) == "", hash
    for hash in HOSTILE[2:4]:
        with opened(browser, path, hash) as one:
            assert one.get_attribute("html", "data-drawn") == "#"
            assert one.is_visible("#panel-theorem") and one.locator("#phases li").count() >= 4


def test_the_address_can_be_shared(browser, path):
    with opened(browser, path, "#d=5000&head=off&tab=theories&theory=set&set.eta=0.2") as one:
        assert one.is_visible("#panel-theories")
        assert "1/(4η) − 1 = 0.25" in one.inner_text("#theory-caption")
        slide(one, "set-eta", 0.1)
        until(one, "location.hash.includes('set.eta=0.1')")
        one.evaluate("location.hash = '#tab=diagram'")  # all else is the default again
        one.wait_for_selector("#panel-diagram:visible")
        assert float(one.input_value("#set-d")) == pytest.approx(3)


def test_no_tab_overflows_a_phone(browser, path):
    with opened(browser, path, viewport=PHONE) as one:
        assert not one.is_visible("#set-d")
        one.click("#controls > summary")
        assert one.is_visible("#set-d")
        for tab in TABS:
            one.click(f"#tab-{tab}")
            one.wait_for_selector(f"#panel-{tab}:visible")
            assert one.evaluate("document.documentElement.scrollWidth") <= PHONE["width"], tab


CONTRASTS = """() => {
  const channel = (c) => (c /= 255) <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4;
  const numbers = (text) => (text.match(/[0-9.]+/g) ?? []).map(Number);
  const luminance = ([r, g, b]) => 0.2126 * channel(r) + 0.7152 * channel(g) + 0.0722 * channel(b);
  const ground = (node) => {
    // Words in a picture stand on the shape drawn before them, where they are marked so.
    if (node.tagName === "text" && (node.classList.contains("on") || node.closest(".badge"))) {
      return numbers(getComputedStyle(node.previousElementSibling).fill);
    }
    for (; node; node = node.parentElement) {
      const colour = numbers(getComputedStyle(node).backgroundColor);
      if (colour.length === 3 || colour[3] > 0) return colour;
    }
    return [255, 255, 255];
  };
  const found = {};
  for (const node of document.querySelectorAll("body *")) {
    const svg = node.tagName === "text";
    if (!node.getClientRects().length || ["SCRIPT", "OPTION"].includes(node.tagName)) continue;
    const says = [...node.childNodes].some((c) => c.nodeType === 3 && c.textContent.trim());
    if (!svg && !says) continue;
    const style = getComputedStyle(node);
    const pair = [luminance(numbers(svg ? style.fill : style.color)), luminance(ground(node))];
    const words = node.textContent.slice(0, 20);
    const name = `${node.tagName}.${node.getAttribute("class") ?? ""}: ${words}`;
    found[name] = (Math.max(...pair) + 0.05) / (Math.min(...pair) + 0.05);
  }
  return found;
}"""


def test_every_text_stands_out_from_its_ground_in_light_and_in_dark(browser, path):
    with opened(browser, path) as one:
        for theme in ("light", "dark"):
            for tab in TABS:
                one.evaluate(f"location.hash = '#tab={tab}&theme={theme}'")
                one.wait_for_selector(f"html[data-theme={theme}] #panel-{tab}:visible")
                one.wait_for_selector(f"#tab-{tab}[aria-selected=true]")
                ratios = one.evaluate(CONTRASTS)
                assert len(ratios) > 30
                assert {name: r for name, r in ratios.items() if r < 4.5} == {}, (theme, tab)


def test_dark_follows_the_system_and_the_button(browser, path):
    with opened(browser, path) as one:
        ground = "getComputedStyle(document.body).backgroundColor"
        light = one.evaluate(ground)
        one.emulate_media(color_scheme="dark")
        one.wait_for_selector("html[data-theme=dark]")
        assert one.evaluate(ground) != light
        one.click("#theme")
        one.wait_for_selector("html[data-theme=light]")
        assert one.evaluate(ground) == light


def test_it_plays_by_itself_unless_motion_is_unwanted(browser, path):
    with opened(browser, path, motion="no-preference") as one:
        assert one.get_attribute("#play", "aria-pressed") == "true"
        until(one, "Number(document.getElementById('cursor').value) > 30")
        one.focus("#play")
        one.keyboard.press("Enter")
        assert one.get_attribute("#play", "aria-pressed") == "false"
    with opened(browser, path) as one:
        assert one.get_attribute("#play", "aria-pressed") == "false"
        one.focus("#play")
        one.keyboard.press("Space")  # hops to the end of the first phase, and stays
        value = one.input_value("#cursor")
        assert float(value) > 0
        assert one.evaluate("new Promise((r) => setTimeout(r, 200))") is None
        assert one.input_value("#cursor") == value


def test_all_can_be_reached_by_keyboard(browser, path):
    with opened(browser, path) as one:
        one.focus("#tab-theorem")
        one.keyboard.press("ArrowRight")
        one.wait_for_selector("#panel-diagram:visible")
        one.focus("#diagram")
        one.keyboard.press("ArrowRight")
        until(
            one, "document.getElementById('diagram-caption').innerText.startsWith('At d = 1,720')"
        )
        one.keyboard.press("Enter")
        one.wait_for_selector("#panel-theorem:visible")
        assert "d=1722" in one.get_attribute("html", "data-drawn")
        one.focus("#set-d")
        one.keyboard.press("ArrowRight")
        one.wait_for_selector("html:not([data-drawn*='d=1722'])")
        one.focus("#phases button")
        one.keyboard.press("Enter")
        assert float(one.input_value("#cursor")) > 0


@pytest.mark.parametrize("script", [None, "delete window.Worker"], ids=["worker", "no worker"])
def test_the_dots_fill_with_the_outcomes_of_the_starts(browser, path, script):
    with opened(browser, path, script=script) as one:
        words = "document.getElementById('dots-plain-caption').innerText"
        until(one, f"/^[0-9]+ of ([2-9][0-9]|1[0-9]{{2}}|200) /.test({words})")
        shown = one.evaluate(
            "[...document.querySelectorAll('#dots-plain svg > *')].slice(0, 12)"
            ".map((node) => node.getAttribute('class'))"
        )
        expected = one.evaluate(
            """() => Array.from({length: 12}, (_, i) => {
              const problem = {...wenLi.defaults, head: false};
              const run = wenLi.solve(problem, wenLi.start(problem, 0, i), wenLi.horizon(problem));
              return pictures.glyph(wenLi.outcome(run), 0, 0, 5).getAttribute("class");
            })"""
        )
        assert shown == expected
        one.locator("#dots-plain svg").click(position={"x": 5, "y": 5})
        one.wait_for_selector("html[data-drawn='#start=0']")


def test_the_grid_of_the_page_is_what_python_counts(page):
    grid = page.evaluate("diagram.grid")
    for column, row in ((6, 8), (12, 2)):
        cell = row * len(grid["dims"]) + column
        problem = replace(Problem(), dim=int(grid["dims"][column]), head_lr_ratio=grid["rhos"][row])
        found = ensemble(problem, time=horizon(problem), count=grid["starts"]).outcomes
        assert grid["counts"]["diverse"][cell] == found.count("diverse")


def test_the_diagram_of_other_problems_is_computed_while_one_watches(browser, path):
    with opened(browser, path, "#tab=diagram&share=0.8") as one:
        until(
            one, "/ [2-9] of 323 cells/.test(document.getElementById('diagram-source').innerText)"
        )
        fills = one.evaluate(
            """Array.from(document.querySelectorAll("#diagram rect.cell"),
              (cell) => cell.getAttribute("fill"))"""
        )
        expected = one.evaluate(
            """() => {
              const {dims: [dim], rhos: [rho]} = diagram.grid;
              const problem = {...state.problem(state.parse("#share=0.8")), dim, rho};
              const time = wenLi.horizon(problem);
              const ends = Array.from({length: 12}, (_, i) => many.one(problem, 0, i, time));
              return pictures.shade(ends.filter((end) => end === "diverse").length / 12);
            }"""
        )
        assert len(fills) >= 2 and fills[0] == expected


def test_the_page_is_small_strict_and_whole(path):
    text = path.read_text()
    assert text == assemble()
    assert len(text.encode()) < 300_000
    policy = re.search(r'http-equiv="Content-Security-Policy" content="([^"]+)"', text).group(1)
    assert policy.startswith("default-src 'none'; ") and "unsafe" not in policy
    assert not re.search(r"https?://(?!www\.w3\.org/2000/svg)", text)
    assert not re.search(r"\b(eval|innerHTML|outerHTML|document\.write|fetch)\b", text)
    grid = json.loads(re.search(r'id="grid">(.*?)</script>', text).group(1))
    assert len(grid["counts"]["diverse"]) == len(grid["dims"]) * len(grid["rhos"])


def test_without_scripts_the_words_remain(browser, path):
    context = browser.new_context(java_script_enabled=False)
    one = context.new_page()
    one.goto(path.as_uri())
    assert "needs JavaScript" in one.inner_text("body")
    context.close()
