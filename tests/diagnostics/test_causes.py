"""Laws of naming causes: a pure function of recorded marks, the strongest evidence first."""

from offdiag.diagnostics.causes.catalogue import CAUSES
from offdiag.diagnostics.causes.cause import State
from offdiag.diagnostics.causes.find import find_causes
from offdiag.results.observation import Check, MonitorRecord, Observation


def record(*marks: dict[str, float], library: str = "torch", every: int = 1) -> MonitorRecord:
    """A run whose observations hold these marks."""
    rows = tuple(Observation(step=i * every, parts={}, marks=one) for i, one in enumerate(marks))
    return MonitorRecord(name="run", history=rows, about={"library": library})


def test_without_marks_nothing_is_red_and_nothing_is_ruled_out():
    findings = find_causes(record({}))
    assert {finding.state for finding in findings} == {State.NOT_MEASURED}
    assert len(findings) == len(CAUSES)


def test_a_gradient_in_the_target_is_named_with_number_step_and_change():
    run = record({"target/gradient": 0.0}, {"target/gradient": 0.4}, {"target/gradient": 0.5})
    first = find_causes(run)[0]
    assert (first.cause.key, first.state, first.alarm) == ("gradient-in-target", State.RED, True)
    assert (first.value, first.since_step, first.part) == (0.5, 1, "target")
    assert "0.5" in first.sentence and "detach" in first.change
    assert find_causes(run, harmed=False)[0].note


def test_a_check_counts_like_an_observation():
    run = MonitorRecord(
        name="run", history=(), checks=(Check(step=2, marks={"target/gradient": 0.3}),)
    )
    assert find_causes(run)[0].since_step == 2
