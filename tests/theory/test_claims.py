import importlib.util
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from offdiag.theory.beside import OUTCOMES, beside_practice
from offdiag.theory.claim import ClaimState, Share, exit_status
from offdiag.theory.claims import CLAIMS, Lab, compared, verify
from offdiag.theory.outcomes import classify
from offdiag.theory.problem import Problem

BY_KEY = {claim.key: claim for claim in CLAIMS}
HEAD = (
    "all-features-with-head",
    "substitution-then-acceleration",
    "back-to-identity",
    "stop-gradient-needed",
)


def found(key, problem, count=40):
    return BY_KEY[key].evaluate(Lab(problem=problem, jobs=1), count)


def test_every_claim_has_a_key_of_its_own():
    assert len(BY_KEY) == len(CLAIMS)
    assert all(key == key.lower() and " " not in key for key in BY_KEY)


def test_verify_measures_every_claim_in_the_order_of_the_table(monkeypatch):
    from offdiag.theory import claims

    few = tuple(BY_KEY[key] for key in ("start-decides", "first-learning-time", "head-size"))
    monkeypatch.setattr(claims, "CLAIMS", few)
    findings = verify(count=24)
    assert [finding.key for finding in findings] == [claim.key for claim in few]
    assert {f.key: f.measured for f in findings if f.state is not ClaimState.HELD} == {}


@pytest.mark.slow
def test_no_claim_is_refuted_on_the_reference_problem():
    findings = verify(count=100)
    assert {f.key: f.measured for f in findings if f.state is not ClaimState.HELD} == {}
    assert exit_status(findings) == 0


@pytest.mark.parametrize(
    ("key", "problem", "word"),
    [
        ("collapse-without-head", Problem(strengths=(2.0, 2.0)), "strong"),
        ("collapse-without-head", Problem(normaliser="none"), "normalised"),
        ("all-features-with-head", Problem(head_lr_ratio=0.0), "train"),
        ("all-features-with-head", Problem(head_lr_ratio=1.0), "eta"),
        ("all-features-with-head", Problem(strengths=(40.0, 1.0)), "pulls"),
        ("first-learning-time", Problem(patches=2), "noise"),
        ("back-to-identity", Problem(stop_gradient="none"), "stopped"),
        ("normaliser-needed", Problem(neurons=1), "two neurons"),
        ("head-size", Problem(head_start=((1.0, 0.1), (0.0, 1.0))), "identity"),
        ("conserved-balance", Problem(stop_gradient="online"), "train"),
    ],
)
def test_a_claim_does_not_apply_outside_its_setting_and_says_why(key, problem, word):
    finding = found(key, problem)
    assert finding.state is ClaimState.DOES_NOT_APPLY
    assert word in finding.reason and finding.starts == 0


def test_a_claim_is_refuted_where_the_mechanism_is_broken(monkeypatch):
    # A wrong constant in the closed form: the measurement must notice.
    from offdiag.theory import claims

    true = claims.first_times
    monkeypatch.setattr(claims, "first_times", lambda *a: 1.1 * true(*a))
    assert found("first-learning-time", Problem()).state is ClaimState.NOT_HELD
    # A quantity that is not conserved.
    monkeypatch.setattr(claims, "inverse_powers", lambda problem, c: np.abs(c) ** -3.0)
    assert found("start-decides", Problem()).state is ClaimState.NOT_HELD
    monkeypatch.setattr(
        claims, "balance", lambda problem, c, noise, head: (c**2).sum(-1) + head[..., 0] ** 2
    )
    assert found("conserved-balance", Problem()).state is ClaimState.NOT_HELD
    # Heads that stay where they are instead of coming back.
    monkeypatch.setattr(
        claims.Lab,
        "run",
        lambda self, problem, count, **more: replace_head(true_run(self, problem, count, **more)),
    )
    assert found("back-to-identity", Problem()).state is ClaimState.NOT_HELD


true_run = Lab.run


def replace_head(run):
    head = run.ends.head.copy()
    head[:, 0, 1] = 0.5
    return replace(run, ends=replace(run.ends, head=head))


@pytest.mark.parametrize(
    ("more", "less", "answer"),
    [
        (Share(9, 10), Share(1, 10), True),
        (Share(1, 100), Share(90, 100), False),
        (Share(4, 10), Share(5, 10), None),
        (Share(0, 10), Share(0, 10), None),
    ],
)
def test_a_comparison_that_the_starts_cannot_decide_is_left_open(more, less, answer):
    assert compared(more, less) is answer


def random_problems():
    path = Path(__file__).parents[2] / "benchmarks" / "theory_verify.py"
    spec = importlib.util.spec_from_file_location("theory_verify", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.random_problem


@pytest.mark.parametrize("key", [*HEAD, "collapse-without-head", "normaliser-needed"])
def test_a_claim_of_the_theorem_holds_on_the_reference_problem(key):
    finding = found(key, Problem(), 40)
    assert finding.holds, finding.measured


@pytest.mark.parametrize("number", range(1))
def test_no_claim_is_refuted_on_a_random_problem(number):
    problem = replace(random_problems()(np.random.default_rng(number)), neurons=2)
    cheap = [c for c in CLAIMS if c.key not in ("neurons-without-head", "three-by-three")]
    lab = Lab(problem=problem, jobs=1)
    refuted = {
        claim.key: finding.measured
        for claim in cheap
        if (finding := claim.evaluate(lab, 16)).state is ClaimState.NOT_HELD
    }
    assert refuted == {}, problem


@pytest.mark.slow
@pytest.mark.parametrize("number", range(2, 22))
def test_no_claim_is_refuted_on_more_random_problems(number):
    findings = verify(random_problems()(np.random.default_rng(number)), count=40)
    assert [f.measured for f in findings if f.state is ClaimState.NOT_HELD] == []


def test_the_pair_for_the_report_shows_success_and_collapse():
    runs = beside_practice()
    ends = np.stack([run.inner_products[-1] for run in runs])
    no = np.zeros(2, bool)
    assert tuple(classify(Problem(), ends, vanished=no, failed=no)) == OUTCOMES
    assert runs[0].loss[-1] == pytest.approx(runs[1].loss[-1], abs=1e-3)
