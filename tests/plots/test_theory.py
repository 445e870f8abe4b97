import numpy as np
import pytest

from offdiag.plots import theory as plots
from offdiag.plots.export import save_chart
from offdiag.theory.beside import beside_practice


@pytest.fixture(scope="module")
def pair():
    return beside_practice(time=1e6)


def test_panels_fit_the_page_they_stand_on(pair):
    for panel in (*plots.panels(pair[0]), plots.second_neuron(*pair, follower=1)):
        assert panel.to_dict()["width"] == "container"


def test_panels_hold_what_the_trajectory_holds(pair):
    spec = plots.inner_products(pair[0]).to_dict()
    rows = spec["data"]["values"]
    last = pair[0].time[-1]
    drawn = sorted(row["value"] for row in rows if row["time"] == last)
    np.testing.assert_allclose(drawn, np.sort(np.abs(pair[0].inner_products[-1]).ravel()))


def test_pictures_are_drawn(pair, tmp_path):
    save_chart(plots.story(*pair, phases=[("strong feature", 0.0, 5e4)]), tmp_path / "story.png")
    cells = [
        {"dim": d, "head_lr_ratio": r, "diverse": 0.5} for d in (10.0, 100.0) for r in (0.1, 1.0)
    ]
    axes = [("dim", (10.0, 100.0), True), ("head_lr_ratio", (0.1, 1.0), False)]
    save_chart(plots.phase_diagram(cells, axes), tmp_path / "two.svg")
    save_chart(plots.phase_diagram(cells[::2], axes[:1]), tmp_path / "one.svg")
    assert all(path.stat().st_size > 5000 for path in tmp_path.iterdir())


def test_cells_of_a_diagram_meet_without_gaps():
    edges = plots._edges((1.0, 10.0, 100.0), True)
    assert edges[1.0][1] == edges[10.0][0] and edges[10.0][1] == edges[100.0][0]
    assert edges[10.0][0] < 10.0 < edges[10.0][1]
