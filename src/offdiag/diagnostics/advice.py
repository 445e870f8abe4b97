"""Known causes of collapse, as a table: what to look at, what to try, who says so.

Which of them is at work cannot be read from embeddings alone; the order says what to look at first.
"""

from dataclasses import dataclass

from offdiag.results.readings import HeadReadings


@dataclass(frozen=True, kw_only=True)
class Advice:
    """A known cause, what to try against it, and where it is described."""

    cause: str
    remedy: str
    source: str


HEAD = Advice(
    cause="no prediction head, or one that does not train",
    remedy="put a trainable head on the online branch: an MLP, or the identity with trainable "
    "off-diagonal entries (--head off-diagonal)",
    source="Wen & Li 2022, arXiv 2205.06226; Chen & He 2021, arXiv 2011.10566",
)
STOP_GRADIENT = Advice(
    cause="the gradient reaches the target branch",
    remedy="detach the target (stop-gradient); with a target network, keep it out of the optimiser",
    source="Chen & He 2021, arXiv 2011.10566",
)
NORMALISER = Advice(
    cause="outputs enter the loss as they are, so that shrinking lowers it",
    remedy="normalise both sides: BatchNorm without affine, or l2",
    source="Wen & Li 2022, arXiv 2205.06226",
)
TARGET_NETWORK = Advice(
    cause="the target network follows too fast, or not at all",
    remedy="start its momentum between 0.99 and 0.999 and let it rise to 1",
    source="Grill et al. 2020, arXiv 2006.07733",
)
TERMS = Advice(
    cause="variance or covariance terms (VICReg, Barlow Twins) too weak against the invariance",
    remedy="raise their weights, towards the published balance (VICReg: 25, 25, 1)",
    source="Bardes et al. 2022, arXiv 2105.04906; Zbontar et al. 2021, arXiv 2103.03230",
)
LEARNING_RATE = Advice(
    cause="a learning rate that is too high, or jumps",
    remedy="lower it tenfold or warm it up; leave the head's at least as high as the rest",
    source="Tian et al. 2021, arXiv 2102.06810; Chen & He 2021, arXiv 2011.10566",
)
WEIGHT_DECAY = Advice(
    cause="weight decay that is too strong: it drops what varies most under augmentation",
    remedy="lower it tenfold",
    source="Wang et al. 2021, arXiv 2110.04947",
)
AUGMENTATION = Advice(
    cause="views so strong that they share little, or so weak that they share everything",
    remedy="look at a few pairs of views; crop less, or more",
    source="Jing et al. 2022, arXiv 2110.09348",
)
BOTTLENECK = Advice(
    cause="a layer before the output that is narrower than the directions wanted",
    remedy="widen the narrowest layer of the encoder and the projector",
    source="linear algebra: no linear layer adds a direction",
)
RESUME = Advice(
    cause="something that changed shortly before: a schedule, the data, settings at a resume",
    remedy="compare what was changed at that step, and go back to the best checkpoint",
    source="this run's own past",
)


def known_causes(
    *, complete: bool, since_the_start: bool, head: HeadReadings | None
) -> tuple[Advice, ...]:
    """What to look at, first things first.

    `complete`: all outputs are alike, as against few directions. `since_the_start`: the
    run never was better. `head`: the head's readings where it is a matrix.
    """
    ordered = (
        [NORMALISER, STOP_GRADIENT, TARGET_NETWORK, HEAD, LEARNING_RATE, TERMS, WEIGHT_DECAY]
        if complete
        else [HEAD, STOP_GRADIENT, TERMS, AUGMENTATION, WEIGHT_DECAY, LEARNING_RATE, BOTTLENECK]
    )
    if head is not None and head.off_diagonal_norm > 0 and HEAD in ordered:
        ordered.remove(HEAD)  # there is one, and it has moved
    if not since_the_start:
        ordered.insert(0, RESUME)
        ordered = [cause for cause in ordered if cause not in (BOTTLENECK, AUGMENTATION)]
    return tuple(ordered)
