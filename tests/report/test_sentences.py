"""The headline says only what is true of the runs it is given."""

from dataclasses import replace

import pytest

from offdiag.report.sentences import cases, headline

from . import synthetic


def said(*records) -> str:
    return " ".join(headline(cases(records))).replace("\u00a0", " ")


def none(**changes):
    return synthetic.run(
        **{"name": "none", "head": "none", "ranks": (9, 3.0), "loss": 0.046, "knn": 0.891} | changes
    )


def off(**changes):
    return synthetic.run(**{"name": "off-diagonal"} | changes)


def test_the_contrast_names_both_ranks_the_losses_and_the_neighbours():
    text = said(none(), off())
    assert text.startswith("With the off-diagonal head the projection keeps an effective rank of")
    assert "of 64; without a head it collapses to " in text
    assert "although its loss is lower (" in text
    assert "the loss cannot see collapse" in text
    assert "for 95.3 % of the test images with the off-diagonal head and for 89.1 %" in text


@pytest.mark.parametrize(
    "collapsed",
    [none(loss=0.3), none(normaliser="l2"), none(method="byol"), none(data="folder:x")],
    ids=["higher", "other normaliser", "other method", "other data"],
)
def test_the_loss_is_compared_only_where_it_is_lower_and_means_the_same(collapsed):
    text = said(collapsed, off())
    assert "it collapses to" in text
    assert "although" not in text and "cannot see" not in text


def test_without_labels_nothing_is_said_of_neighbours():
    assert "neighbours" not in said(none(knn=None), off(knn=None))


def test_runs_of_one_head_are_called_by_name():
    text = said(off(name="seed 0"), off(name="seed 1", ranks=(9, 2.6), seed=1))
    assert text.startswith("In run “seed 0” the projection keeps")
    assert "in run “seed 1” it collapses to" in text


def test_all_healthy_and_all_collapsed():
    assert said(off(), off(name="b", ranks=(9, 20), seed=1)).startswith(
        "None of the 2 runs collapses: the projection keeps an effective rank of"
    )
    assert said(none(), off(ranks=(9, 2.6))).startswith("All 2 runs collapse: without a head (")


def test_of_many_healthy_runs_the_ends_are_named():
    text = said(*(off(name=f"seed {i}", ranks=(9, 10 + i), seed=i) for i in range(6)))
    assert "an effective rank of between" in text
    assert [name for name in (f"seed {i}" for i in range(6)) if name in text] == [
        "seed 0",
        "seed 5",
    ]


def test_complete_collapse_is_named():
    assert "it collapses completely, to nearly one point" in said(none(spread=0.01), off())


def test_one_run_says_what_one_run_shows():
    assert said(off()).endswith("it does not collapse.")
    assert said(none()).startswith("Without a head the projection collapses to an effective rank")
    assert "nothing can be said of collapse yet" in said(off(rows=[1]))


def test_a_run_still_going_is_named_with_its_epoch():
    assert "This run is not at its end yet (epoch 34 of 100), so this may change." in said(
        off(epochs=34, planned=100)
    )
    text = said(none(), off(epochs=34, planned=100))
    assert "with the off-diagonal head at epoch 34 of 100" in text
    assert "not at" not in said(none(), off())


def test_runs_that_cannot_be_judged_are_left_out_of_the_count():
    text = said(none(), off(rows=[1]))
    assert text.startswith("Each run judged collapses: without a head (")
    assert "Nothing can be said of collapse yet with the off-diagonal head." in text
    text = said(none(rows=[1]), off())
    assert text.startswith("No run that can be judged collapses")


def test_every_other_run_is_mentioned_once():
    text = said(*synthetic.demo())
    assert text.count("with the linear head") == text.count("with the MLP head") == 1
    assert "The projection does not collapse with the MLP head (" in text


def test_a_method_of_ones_own_is_called_by_its_class():
    own = {"method": "Mine", "head": None}
    record = replace(off(name="mine"), config={"own": own})
    assert "with the method mine" in said(none(), record).lower()


def test_runs_with_the_same_head_are_called_by_their_names():
    assert "in run “second”" in said(off(name="first"), off(name="second")).lower()


def test_a_collapse_of_the_encoder_is_said_of_its_features():
    def lost(name, seed):
        run = off(name=name, seed=seed)
        rows = [
            replace(row, features=replace(row.features, effective_rank=2.0)) for row in run.history
        ]
        return replace(run, history=tuple(rows))

    alone = said(lost("a", 0))
    assert "the encoder's features collapse to an effective rank of 2.0 of 128." in alone
    both = said(lost("a", 0), off(name="b", seed=1))
    assert "the encoder's features collapse to an effective rank of 2.0 of 128" in both
    assert "The encoder's features also collapse" in said(
        none(), off(name="b", seed=1), replace(lost("c", 2), config={"head": "mlp"})
    )


def test_each_run_says_where_since_when_and_what_to_keep():
    (case,) = cases([none()])
    assert case.facts[0] == "Where: the projector."
    assert case.facts[1].startswith("Since step ") and "(epoch " in case.facts[1]
    assert case.facts[2].startswith("Best by label-free readings: step ")
    (healthy,) = cases([off()])
    assert [fact.split(":")[0] for fact in healthy.facts] == ["Best by label-free readings"]
