"""The bench: which mechanisms are on it, and what its rows and page say."""

import pyarrow.parquet as pq
import pytest

from offdiag._checks import ConfigError
from offdiag.registry import HEADS, METHODS
from offdiag.report.bench import render_bench, write_table
from offdiag.runs.bench import bench, mechanisms
from offdiag.runs.config import RunConfig
from offdiag.runs.grid import Grid

BASE = RunConfig(epochs=1, batch_size=512, projector=(16, 8), device="cpu")


def test_every_mechanism_of_the_registry_is_on_the_bench_and_makes_a_run():
    every = mechanisms()
    assert {one.key for one in every} >= {f"method:{name}" for name in METHODS}
    assert {one.key for one in every} >= {f"head:{name}" for name in HEADS}
    assert len(every) >= 40
    cells = Grid(base=BASE, rows=tuple(one.values for one in every)).configs()
    assert len(cells) >= 40  # the same run may stand for two rows: simsiam and its own head


def test_mechanisms_are_chosen_by_name_and_by_tag():
    assert [one.key for one in mechanisms(["vicreg", "head:mlp"])] == ["method:vicreg", "head:mlp"]
    assert all("closed-form" in one.entry.tags for one in mechanisms(tags=["closed-form"]))
    with pytest.raises(ConfigError, match="no mechanism 'simclr' is on the bench"):
        mechanisms(["simclr"])


@pytest.fixture(scope="module")
def rows(tmp_path_factory):
    out = tmp_path_factory.mktemp("bench") / "b"
    chosen = mechanisms(["vicreg", "head:mlp", "head:off-diagonal", "simsiam", "projector:mlp"])
    return bench(BASE, chosen, out, seeds=(0, 1), jobs=1), out


def test_a_row_holds_the_spread_over_seeds_and_the_cost(rows):
    for row in rows[0]:
        assert (row.finished, row.planned, row.error) == (2, 2, None)
        assert row.readings["knn_features"].n == 2
        assert row.seconds_per_step > 0
    same = {row.mechanism.key: row.readings for row in rows[0]}
    assert same["method:simsiam"] == same["head:off-diagonal"]


def test_the_page_shows_every_row_with_its_paper_and_the_table_its_numbers(rows, tmp_path):
    page = render_bench(rows[0])
    for row in rows[0]:
        assert row.mechanism.entry.summary[1:] in page.replace("&#39;", "'")
    write_table(rows[0], tmp_path / "map.parquet")
    table = pq.read_table(tmp_path / "map.parquet").to_pylist()
    assert [one["mechanism"] for one in table] == [row.mechanism.key for row in rows[0]]
    assert table[0]["knn_features_mean"] == rows[0][0].readings["knn_features"].mean
