"""A table of claims: states, intervals, exit statuses, and order."""

import json

import pytest

from offdiag.theory.claim import (
    TABLE_HEAD,
    Claim,
    ClaimState,
    Finding,
    Share,
    does_not_apply,
    evaluate,
    exit_status,
    judged,
    summary,
    table_rows,
)


def row(key, measure):
    return Claim(
        key=key,
        title=f"The title of {key}",
        source="a paper, eq. 1",
        statement="it is so",
        requirement="a number above 0",
        measure=measure,
    )


def above(problem, starts):
    if problem is None:
        return does_not_apply("there is no number")
    return judged(problem > 0, f"{problem}", numbers={"value": problem}, starts=starts)


@pytest.mark.parametrize(
    ("count", "total", "interval"),
    # Wilson's interval by hand: z = 1.96, e.g. 5 of 10 is 0.5 +- 0.2634
    [(5, 10, (0.2366, 0.7634)), (0, 10, (0.0, 0.2775)), (10, 10, (0.7225, 1.0))],
)
def test_the_interval_of_a_share_is_wilsons(count, total, interval):
    assert Share(count, total).interval == pytest.approx(interval, abs=2e-4)


def test_a_share_of_nothing_may_be_anything():
    assert Share(0, 0).interval == (0.0, 1.0)
    assert str(Share(0, 0)) == "none of 0"


def test_findings_come_in_the_order_of_the_table_and_carry_its_words():
    claims = tuple(row(key, above) for key in "edcba")
    heard: list[Finding] = []
    found = evaluate(claims, 1.0, starts=3, jobs=2, on_finding=heard.append)
    assert [finding.key for finding in found] == list("edcba")
    assert {finding.key for finding in heard} == set("edcba")
    assert found[0].title == "The title of e" and found[0].requirement == "a number above 0"
    assert found[0].starts == 3 and found[0].seconds >= 0


@pytest.mark.parametrize(
    ("states", "status"),
    [
        ((1.0, 1.0), 0),
        ((1.0, None), 0),
        ((1.0, -1.0), 1),
        ((None, -1.0), 1),
        ((None, None), 3),
    ],
)
def test_the_exit_status_says_whether_a_claim_was_refuted(states, status):
    found = [row("a", above).evaluate(value, 1) for value in states]
    assert exit_status(found) == status
    assert f"of {len(found)} claims held" in summary(found)


def test_what_does_not_apply_says_why():
    found = row("a", above).evaluate(None, 1)
    assert found.state is ClaimState.DOES_NOT_APPLY and not found.holds
    (words,) = table_rows([found])
    assert len(words) == len(TABLE_HEAD)
    assert "does not apply, because there is no number" in words


def test_a_finding_survives_json():
    found = judged(
        True, "", numbers={"share": Share(1, 2), "time": float("inf"), "row": (1, 2)}, starts=2
    )
    again = json.loads(json.dumps(found.to_dict(), allow_nan=False))
    assert again["numbers"]["share"]["total"] == 2
    assert again["numbers"]["time"] is None and again["numbers"]["row"] == [1, 2]
    assert again["state"] == "held" and again["holds"] is True
