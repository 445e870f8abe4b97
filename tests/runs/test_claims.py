"""Claims of the papers: what each compares, when it is held, and what page and table say."""

import math
from dataclasses import replace

import pyarrow.parquet as pq
import pytest

from offdiag._checks import ConfigError
from offdiag.cli.main import main
from offdiag.report.claims import lede, render_claims, write_claims_table
from offdiag.results.comparison import Difference, Spread
from offdiag.runs import claims as claims_module
from offdiag.runs.claims import CLAIMS, Finding, Outcome, chosen_claims, claims_grid, verify
from offdiag.runs.config import RunConfig

BASE = RunConfig(epochs=1, batch_size=512, projector=(8, 4), device="cpu")


def test_every_claim_compares_two_runs_that_exist():
    every = chosen_claims()
    cells = claims_grid(BASE, every, (0, 1)).cells()
    for claim in every:
        assert claim.more != claim.less
        assert len(claims_grid(BASE, [claim], (0,)).cells()) == 2
    # Each run once, however many claims share it.
    sides = {tuple(sorted(side.items())) for one in every for side in (one.more, one.less)}
    assert len(cells) == 2 * len(sides)


def test_claims_are_chosen_by_name():
    assert [one.name for one in chosen_claims(["vicreg-variance"])] == ["vicreg-variance"]
    with pytest.raises(ConfigError, match="there is no claim 'simclr': choose among off-diag"):
        chosen_claims(["simclr"])


def finding(more, less):
    by_seed = [dict(enumerate(values)) for values in (more, less)]
    return Finding(
        claim=CLAIMS["off-diagonal-rank"],
        more=Spread.of(more),
        less=Spread.of(less),
        difference=Difference.of(*by_seed),
    )


@pytest.mark.parametrize(
    ("more", "less", "outcome"),
    [
        ([10, 11, 12], [1, 2, 2.5], Outcome.HELD),
        ([1, 2, 2.5], [10, 11, 12], Outcome.OPPOSITE),
        ([1, 5, 2], [2, 3, 4], Outcome.UNDECIDED),
        ([10], [1], Outcome.UNDECIDED),  # one seed has no interval
        ([], [1, 2], Outcome.NOT_MEASURED),
    ],
)
def test_a_claim_is_held_where_the_interval_lies_above_0(more, less, outcome):
    assert finding(more, less).outcome is outcome


@pytest.fixture(scope="module")
def measured(tmp_path_factory):
    out = tmp_path_factory.mktemp("claims") / "c"
    chosen = chosen_claims(["off-diagonal-rank", "off-diagonal-knn", "vicreg-variance"])
    ended = []
    found = verify(BASE, chosen, out, seeds=(0, 1), jobs=1, on_cell=ended.append)
    return out, chosen, found, ended


def test_a_finding_is_the_difference_of_the_readings_of_its_runs(measured):
    _, _, found, ended = measured
    assert len(ended) == 8  # the first two claims share their four runs
    assert all(one.failed == () for one in found)
    by_name = {cell.name: cell.ending for cell in ended}
    knn = found[1].difference
    for seed in (0, 1):
        assert f"simsiam_off-diagonal_bn_seed{seed}" in by_name
    gaps = [
        by_name[f"simsiam_off-diagonal_bn_seed{seed}"].knn_features
        - by_name[f"simsiam_none_bn_seed{seed}"].knn_features
        for seed in (0, 1)
    ]
    assert knn.spread.mean == pytest.approx(sum(gaps) / 2)
    assert found[0].more.mean == pytest.approx(
        sum(by_name[f"simsiam_off-diagonal_bn_seed{s}"].effective_rank_projection for s in (0, 1))
        / 2
    )


def test_the_same_claims_again_train_nothing(measured, monkeypatch):
    out, chosen, found, _ = measured
    monkeypatch.setattr("offdiag.runs.compare._run_cell", None)
    again = verify(BASE, chosen, out, seeds=(0, 1), jobs=1)
    assert repr(again) == repr(found)  # an interval may be nan, which equals nothing


def test_a_reading_that_is_not_finite_is_no_measurement(measured, monkeypatch):
    out, chosen, _, ended = measured
    first = ended[0]
    assert claims_module.value(out, first, "projection.std") > 0
    assert claims_module.value(out, first, "projection.lidar_of_nothing") is None
    record = claims_module.RunRecord.load(out / "cells" / first.name)
    last = record.history[-1]
    collapsed = replace(last, projection=replace(last.projection, effective_rank=math.nan))
    empty = replace(record, history=(collapsed,))
    monkeypatch.setattr(claims_module.RunRecord, "load", lambda _: empty)
    assert claims_module.value(out, first, chosen[0].reading) is None


def test_page_and_table_hold_every_claim_with_its_outcome(measured, tmp_path):
    _, chosen, found, _ = measured
    page = render_claims(found)
    for claim, one in zip(chosen, found, strict=True):
        assert claim.text in page and claim.name in page and str(one.outcome) in page
    assert lede(found)[0] in page
    write_claims_table(found, tmp_path / "claims.parquet")
    rows = pq.read_table(tmp_path / "claims.parquet").to_pylist()
    assert [row["claim"] for row in rows] == [claim.name for claim in chosen]
    assert rows[0]["difference_mean"] == found[0].difference.spread.mean
    assert rows[0]["outcome"] == str(found[0].outcome)


def test_a_page_says_what_failed_and_escapes_it():
    failed = replace(finding([], []), failed=("no <b>memory</b>.",))
    page = render_claims([failed])
    assert "no &lt;b&gt;memory&lt;/b&gt;." in page and "Not measured: off-diagonal-rank." in page


def test_the_command_prints_each_claim_and_writes_page_and_table(tmp_path, capsys):
    words = [
        "bench",
        "verify",
        "--only",
        "off-diagonal-rank",
        "--seeds",
        "0",
        "--jobs",
        "1",
        "--epochs",
        "1",
    ]
    words += ["--batch-size", "512", "--projector", "8", "4"]
    main([*words, "--out", str(tmp_path / "c")])
    printed = capsys.readouterr()
    assert "undecided: off-diagonal-rank (Wen & Li 2022)" in printed.out + printed.err
    assert (tmp_path / "c" / "claims.html").exists()
    assert (tmp_path / "c" / "claims.parquet").exists()


def test_the_command_refuses_a_method_which_the_claims_choose(tmp_path, capsys):
    with pytest.raises(SystemExit) as ended:
        main(["bench", "verify", "--method", "vicreg", "--out", str(tmp_path / "c")])
    assert ended.value.code == 2
    assert "bench verify varies the method and its parts" in capsys.readouterr().err
    assert not (tmp_path / "c").exists()
