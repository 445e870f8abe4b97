"""Theory beside practice: a section for the page of a training run."""

from offdiag.plots.theory import second_neuron
from offdiag.report.page import Section
from offdiag.theory.beside import beside_practice
from offdiag.theory.phases import find_phases

TEXT = """
What the head does can be computed exactly for the paper's network of two neurons and two
features. One neuron has learned the strong feature. Without the head (dashed) the other learns
the same feature again, and the weak one is lost: dimensional collapse, at the same loss. With the
head (solid) the strong feature reaches it through E (shaded): it need not learn that feature,
and learns the weak one instead. Then E returns to the identity.

This is the exact gradient flow at dimension 1,000, from one random start that shows both. The
command offdiag theory run draws others, and offdiag theory verify holds the theorem's claims
against many.
"""


def theory_section() -> Section:
    """The exact dynamics with and without the head, from one start; compiles on the first call."""
    with_head, without = beside_practice()
    follower = find_phases(with_head).follower
    assert follower is not None  # the default start learns both features
    return Section(
        heading="Theory beside practice",
        text=TEXT,
        chart=second_neuron(with_head, without, follower=follower),
    )
