from dataclasses import replace

import numpy as np
import pytest

from offdiag.results.trajectory import Trajectory
from offdiag.theory.flow import flow
from offdiag.theory.outcomes import Outcome, classify, main_feature, shares
from offdiag.theory.phases import NAMES, borrowed_share, crossing_times, find_phases
from offdiag.theory.population import log_growth
from offdiag.theory.problem import Problem
from offdiag.theory.state import starts

RESCUED = Problem()  # its start 3 collapses without a head and is diverse with it


@pytest.fixture(scope="module")
def runs() -> tuple[Trajectory, Trajectory]:
    start = starts(RESCUED, 4)[3]
    return flow(RESCUED, start, time=1e8), flow(
        replace(RESCUED, head_lr_ratio=0.0), start, time=1e8
    )


def test_the_four_phases_follow_one_another(runs):
    story = find_phases(runs[0], frozen=runs[1])
    assert tuple(phase.name for phase in story.phases) == NAMES
    assert all(phase.complete for phase in story.phases)
    for before, after in zip(story.phases[:-1], story.phases[1:], strict=True):
        assert before.start < before.end == after.start < after.end
    assert story.leader_feature == 0 and story.follower_feature == 1


def test_the_evidence_supports_each_phase(runs):
    strong, substitution, acceleration, identity = find_phases(runs[0], frozen=runs[1]).phases
    assert strong.evidence["largest |c|"] >= 0.5 > 5 * strong.evidence["second largest |c|"]
    assert substitution.evidence["share of the signal through the head"] > 0.9
    own = acceleration.evidence["e-folds along its own feature"]
    assert own > 10 * acceleration.evidence["e-folds along the leader's feature"]
    assert own > 10 * acceleration.evidence["e-folds with the head frozen"]
    assert identity.evidence["off-diagonal norm of E at the end"] < 1e-6


def test_without_a_head_only_the_first_phase_is_found(runs):
    story = find_phases(runs[1])
    assert [phase.name for phase in story.phases] == [NAMES[0]]
    assert np.all(story.substitution == 0)


def test_nothing_learned_leaves_the_first_phase_open():
    story = find_phases(flow(RESCUED, starts(RESCUED, 1)[0], time=10.0))
    assert story.leader is None
    assert [phase.complete for phase in story.phases] == [False]


def test_one_neuron_has_no_follower():
    problem = Problem(neurons=1)
    story = find_phases(flow(problem, starts(problem, 1)[0], time=1e8))
    assert story.leader == 0 and story.follower is None


def test_growth_rates_are_the_slopes_of_the_logarithms(runs):
    run = runs[0]
    rates = log_growth(RESCUED, run.inner_products, run.noise, run.head)
    slope = np.diff(np.log(np.abs(run.inner_products)), axis=0) / np.diff(run.time)[:, None, None]
    middle = 0.5 * (rates[1:] + rates[:-1])
    early = run.time[1:] < 0.5 * crossing_times(run).min()
    assert early.sum() > 5
    np.testing.assert_allclose(slope[early], middle[early], rtol=0.1)


def test_borrowed_share_by_hand():
    run = Trajectory(
        time=np.array([0.0]),
        inner_products=np.array([[[1.0, 0.0], [0.5, 0.0]]]),
        noise=np.eye(2)[None],
        head=np.array([[[1.0, 0.0], [0.25, 1.0]]]),
        loss=np.array([0.0]),
        problem=Problem().to_dict(),
        method={},
        seconds=0.0,
        failure=None,
    )
    # 0.25 x 1^3 against 0.5^3
    assert borrowed_share(Problem(), run, neuron=1, feature=0)[0] == pytest.approx(2 / 3)
    assert borrowed_share(Problem(), run, neuron=0, feature=0)[0] == 0


def test_outcomes_by_hand():
    products = np.array(
        [
            [[1.0, 0.0], [0.0, 1.0]],
            [[1.0, 0.0], [0.9, 0.2]],
            [[0.0, 1.0], [0.3, 0.9]],
            [[1.0, 0.0], [0.05, 0.09]],
            [[0.01, 0.03], [0.01, 0.03]],
            [[1.0, 0.0], [0.0, 1.0]],
        ]
    )
    vanished = np.array([False, False, False, False, True, False])
    failed = np.array([False] * 5 + [True])
    found = classify(Problem(), products, vanished=vanished, failed=failed)
    assert found == [
        Outcome.DIVERSE,
        Outcome.COLLAPSED_STRONG,
        Outcome.COLLAPSED_OTHER,
        Outcome.UNLEARNED,
        Outcome.VANISHED,
        Outcome.FAILED,
    ]
    assert sum(shares(found).values()) == pytest.approx(1)
    np.testing.assert_array_equal(main_feature(products)[3], [0, -1])


def test_a_trajectory_survives_a_file(runs, tmp_path):
    path = tmp_path / "run.npz"
    runs[0].save(path)
    again = Trajectory.load(path)
    np.testing.assert_array_equal(again.inner_products, runs[0].inner_products)
    assert Problem.from_dict(again.problem) == RESCUED
    assert [file.name for file in tmp_path.iterdir()] == ["run.npz"]


def test_a_file_that_is_no_trajectory_is_refused(tmp_path):
    from offdiag._checks import RunError

    path = tmp_path / "run.npz"
    path.write_bytes(b"not a trajectory")
    with pytest.raises(RunError, match="not a trajectory"):
        Trajectory.load(path)
