import numpy as np
import pytest

from offdiag.theory.beside import OUTCOMES, beside_practice
from offdiag.theory.claims import (
    CLAIMS,
    back_to_identity,
    collapse_without_head,
    favoured_feature,
    normaliser_needed,
    stop_gradient_needed,
    substitution_then_acceleration,
    verify,
)
from offdiag.theory.flow import flow_many
from offdiag.theory.outcomes import classify, main_feature
from offdiag.theory.problem import Problem
from offdiag.theory.state import starts


@pytest.mark.parametrize(
    "claim",
    [
        collapse_without_head,
        substitution_then_acceleration,
        back_to_identity,
        normaliser_needed,
        stop_gradient_needed,
    ],
)
def test_a_claim_of_the_theorem_holds(claim):
    found = claim(Problem(), 80)
    assert found.holds, found.measured


@pytest.mark.parametrize(
    ("claim", "broken"),
    [
        (collapse_without_head, Problem(strengths=(2.0, 2.0))),
        (substitution_then_acceleration, Problem(head_lr_ratio=0.0)),
        (back_to_identity, Problem(stop_gradient="none")),
        (normaliser_needed, Problem(patches=2)),
        (stop_gradient_needed, Problem(head_lr_ratio=0.0)),
    ],
)
def test_a_claim_turns_red_where_the_theorem_does_not_apply(claim, broken):
    found = claim(broken, 20)
    assert not found.holds, found.measured


@pytest.mark.slow
def test_every_claim_holds():
    claims = verify(count=100)
    assert len(claims) == len(CLAIMS)
    assert [claim.name for claim in claims if not claim.holds] == []


@pytest.mark.parametrize("power", [3, 5])
def test_without_a_head_the_start_decides(power):
    problem = Problem(
        dim=2000, strengths=(2.0, 1.5, 1.2), neurons=4, power=power, head_lr_ratio=0.0
    )
    drawn = starts(problem, 60)
    ends = flow_many(problem, drawn, time=1e9 if power == 3 else 1e16)
    ended = main_feature(ends.inner_products)
    favoured = favoured_feature(problem, np.stack([start.inner_products for start in drawn]))
    learned = ended >= 0
    assert learned.mean() > 0.3
    assert (ended == favoured)[learned].mean() > 0.97


def test_the_pair_for_the_report_shows_success_and_collapse():
    runs = beside_practice()
    ends = np.stack([run.inner_products[-1] for run in runs])
    no = np.zeros(2, bool)
    assert tuple(classify(Problem(), ends, vanished=no, failed=no)) == OUTCOMES
    assert runs[0].loss[-1] == pytest.approx(runs[1].loss[-1], abs=1e-3)
