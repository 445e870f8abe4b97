"""Every reading as one row: what it is, how it is measured, where it lies, what to read in it.

A new reading is its formula beside its kind (`spectrum`, `views`, `weights`), a field of
`results.readings.Readings`, and a row here. Tables, charts, captions and the documentation's
tables follow from the row.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

from jaxtyping import Float
from torch import Tensor

from offdiag._types import Covariance, Eigenvalues, Embeddings, Scalar
from offdiag.diagnostics import spectrum, views, weights
from offdiag.results.readings import Readings

Bound = Callable[[Readings], float]


class Of(StrEnum):
    """What a reading is measured of, which is the one argument of its `measure`."""

    SPECTRUM = "Spectrum: eigenvalues and mean of a part's output"
    ROWS = "Rows: a part's output"
    PAIRS = "Pairs: two views of the same images"
    HEAD = "the head's matrix"
    HEAD_AND_INPUT = "the head's matrix, and the second moment of what it is given"


@dataclass(frozen=True, kw_only=True)
class Spectrum:
    """Eigenvalues, descending: shares about the mean, and of the second moment; mean; rows."""

    shares: Eigenvalues
    centred: Eigenvalues
    second_moment: Eigenvalues
    mean: Eigenvalues
    rows: int


@dataclass(frozen=True, kw_only=True)
class Rows:
    """The rows of one view, and at most 1,024 of them for what compares rows with rows."""

    rows: Embeddings
    few: Float[Tensor, "few dim"]


@dataclass(frozen=True, kw_only=True)
class Pairs:
    """Two views of the same images, row by row, and at most 1,024 rows of them."""

    view_a: Embeddings
    view_b: Embeddings
    few: Float[Tensor, "few views dim"]


@dataclass(frozen=True, kw_only=True)
class Chart:
    """How a reading is drawn over the steps.

    `scale` multiplies a value, so that parts of different widths share an axis; `level` is a
    height to compare with, on the scaled axis, and `level_word` says what it is.
    """

    title: str
    axis: str
    caption: str
    log: bool = False
    format: str = ".3~g"
    zero: bool = True
    scale: Bound = lambda readings: 1.0
    level: float | None = None
    level_word: str = ""


@dataclass(frozen=True, kw_only=True)
class Reading:
    """One number that is read of a part or of a head.

    `collapsed` and `spread` are the ends of its range, for readings of a given width and number of
    rows: the end where collapse lies, and the other. Where neither end alone means collapse
    (`neutral`), they are just the ends; a head's readings have none. `caption` says how to read
    it, `formula`, `range`, `low`, `high`, `centred` and `source` are the documentation's words.
    `needs` says what was missing where there is no value.
    """

    name: str
    title: str
    of: Of
    measure: Callable[..., Scalar]
    caption: str
    formula: str
    range: str
    low: str
    high: str
    source: str = ""
    centred: str = ""
    unit: str = ""
    collapsed: Bound | None = None
    spread: Bound | None = None
    log: bool = False
    neutral: bool = False
    needs: str = "not measured, or without meaning here"
    chart: Chart | None = None


def most_directions(readings: Readings) -> float:
    """Rows span no more directions than there are rows, less one for the mean."""
    return min(readings.dim, readings.rows - 1) if readings.rows > 2 else readings.dim


def _at(value: float) -> Bound:
    return lambda readings: value


def _dim(readings: Readings) -> float:
    return readings.dim


ONE_LINE, FLAT = "one direction", "flat spectrum"
TWO_VIEWS = "needs two views of the same images"

READINGS: tuple[Reading, ...] = (
    Reading(
        name="effective_rank",
        title="effective rank",
        unit="directions",
        of=Of.SPECTRUM,
        measure=lambda s: spectrum.effective_rank(s.shares),
        collapsed=_at(1.0),
        spread=most_directions,
        log=True,
        caption="How many directions are in use, by the entropy of the singular values about the "
        "mean.",
        formula="exp H(σ/Σσ)",
        range="1 to D",
        low=ONE_LINE,
        high=FLAT,
        centred="yes",
        source="Roy & Vetterli 2007",
        chart=Chart(
            title="Effective rank",
            axis="effective rank (directions)",
            log=True,
            caption="How many directions are in use. A line that falls and stays low is "
            "dimensional collapse.",
        ),
    ),
    Reading(
        name="rankme",
        title="RankMe",
        unit="directions",
        of=Of.SPECTRUM,
        measure=lambda s: spectrum.rankme_of_eigenvalues(s.second_moment, rows=s.rows),
        collapsed=_at(1.0),
        spread=lambda r: min(r.dim, r.rows) if r.rows > 1 else r.dim,
        log=True,
        caption="The same without centring, so that a mean far from 0 counts as one direction.",
        formula="exp H(σ/Σσ + 10⁻⁷)",
        range="1 to min(N, D)",
        low="one direction, or one point",
        high=FLAT,
        centred="no",
        source="Garrido et al. 2023, eq. 1",
    ),
    Reading(
        name="participation_ratio",
        title="participation ratio",
        unit="directions",
        of=Of.SPECTRUM,
        measure=lambda s: spectrum.participation_ratio(s.shares),
        collapsed=_at(1.0),
        spread=most_directions,
        log=True,
        caption="Directions again, harder on a long tail.",
        formula="(Σλ)²/Σλ²",
        range="1 to D",
        low=ONE_LINE,
        high=FLAT,
        centred="yes",
        source="Gao et al. 2017",
    ),
    Reading(
        name="nesum",
        title="NESum",
        of=Of.SPECTRUM,
        measure=lambda s: spectrum.nesum(s.shares),
        collapsed=_at(1.0),
        spread=most_directions,
        log=True,
        caption="All variance in units of the strongest direction's.",
        formula="Σλ/λ₁",
        range="1 to D",
        low=ONE_LINE,
        high=FLAT,
        centred="yes",
        source="He & Ozay 2022",
    ),
    Reading(
        name="stable_rank",
        title="stable rank",
        of=Of.SPECTRUM,
        measure=lambda s: spectrum.stable_rank(s.second_moment),
        collapsed=_at(1.0),
        spread=_dim,
        log=True,
        caption="NESum without centring: 1 also when the mean drowns the spread.",
        formula="‖Z‖²_F/‖Z‖²₂",
        range="1 to D",
        low="one direction, or one point",
        high=FLAT,
        centred="no",
        source="Rudelson & Vershynin 2007",
    ),
    Reading(
        name="numerical_rank",
        title="numerical rank",
        unit="directions",
        of=Of.SPECTRUM,
        measure=lambda s: spectrum.numerical_rank(s.shares),
        collapsed=_at(1.0),
        spread=most_directions,
        log=True,
        caption="Directions with a standard deviation above a hundredth of the strongest.",
        formula="how many σ > 10⁻² σ₁",
        range="1 to D",
        low=ONE_LINE,
        high="all in use",
        centred="yes",
        source="the tolerance is ours",
    ),
    Reading(
        name="condition_number",
        title="condition number",
        of=Of.SPECTRUM,
        measure=lambda s: spectrum.condition_number(s.shares),
        collapsed=_at(1e8),
        spread=_at(1.0),
        log=True,
        caption="Strongest over weakest direction; infinite if some direction holds nothing.",
        formula="σ₁/σ_D",
        range="1 to ∞",
        low=FLAT,
        high="a direction without variance",
        centred="yes",
    ),
    Reading(
        name="alpha_req",
        title="alpha-ReQ",
        of=Of.SPECTRUM,
        measure=lambda s: spectrum.alpha_req(s.shares),
        collapsed=_at(4.0),
        spread=_at(0.0),
        caption="How steeply the spectrum falls; near 1 in good features of natural images, and "
        "above it in few directions. The bar ends at 4.",
        formula="slope of −log λ_j on log j, weights 1/j, j = 11 to 50",
        range="from 0",
        low=FLAT,
        high="few directions hold all",
        centred="yes",
        source="Agrawal et al. 2022; the window is ours",
    ),
    Reading(
        name="matrix_entropy",
        title="matrix entropy",
        unit="nats",
        of=Of.SPECTRUM,
        measure=lambda s: spectrum.matrix_entropy(s.shares),
        collapsed=_at(0.0),
        spread=lambda r: math.log(r.dim),
        caption="Entropy of the eigenvalues, in nats.",
        formula="H(p), in nats",
        range="0 to log D",
        low=ONE_LINE,
        high=FLAT,
        centred="yes",
        source="von Neumann; see below",
    ),
    Reading(
        name="singular_value_auc",
        title="singular-value AUC",
        of=Of.SPECTRUM,
        measure=lambda s: spectrum.singular_value_auc(s.shares),
        collapsed=_at(1.0),
        spread=lambda r: (r.dim + 1) / (2 * r.dim),
        caption="Area under the cumulative singular values: half if all are equal.",
        formula="mean over j of Σ_{i≤j} σ_i/Σσ",
        range="(D+1)/2D to 1",
        low=FLAT,
        high=ONE_LINE,
        centred="yes",
        source="Li et al. 2022",
    ),
    Reading(
        name="isoscore",
        title="IsoScore",
        of=Of.SPECTRUM,
        measure=lambda s: spectrum.isoscore(s.shares),
        collapsed=_at(0.0),
        spread=_at(1.0),
        caption="Share of the directions that are used alike: near k/D for k equal directions.",
        formula="(Dφ − 1)/(D − 1), φ = (Σλ)²/(D Σλ²)",
        range="0 to 1",
        low=ONE_LINE,
        high=FLAT,
        centred="yes",
        source="Rudman et al. 2022, definition 4.1",
    ),
    Reading(
        name="top_share",
        title="largest eigenvalue",
        unit="share of the variance",
        of=Of.SPECTRUM,
        measure=lambda s: spectrum.top_share(s.shares),
        collapsed=_at(1.0),
        spread=lambda r: 1 / r.dim,
        log=True,
        caption="Share of all variance along the strongest direction.",
        formula="λ₁/Σλ = 1/`nesum`",
        range="1/D to 1",
        low=FLAT,
        high=ONE_LINE,
        centred="yes",
        chart=Chart(
            title="Largest eigenvalue",
            axis="share of the variance",
            format=".1%",
            caption="Share of all variance along the strongest direction.",
        ),
    ),
    Reading(
        name="mean_share",
        title="energy of the mean",
        unit="share of the mean square",
        of=Of.SPECTRUM,
        measure=lambda s: spectrum.mean_share(s.mean, s.centred),
        collapsed=_at(1.0),
        spread=_at(0.0),
        caption="Share of the mean square that all outputs have in common.",
        formula="‖mean‖²/E‖z‖²",
        range="0 to 1",
        low="centred",
        high="all the same point",
        chart=Chart(
            title="Energy of the mean",
            axis="share of the mean square",
            format=".1%",
            caption="What all outputs have in common: near 100\u00a0% they hardly depend on the "
            "image.",
        ),
    ),
    Reading(
        name="std",
        title="std, l2-normalised",
        of=Of.ROWS,
        measure=lambda r: spectrum.normalised_std(r.rows),
        collapsed=_at(0.0),
        spread=lambda r: r.dim**-0.5,
        caption="0 if all outputs point the same way. Blind to a spectrum with few directions.",
        formula="std of the l2-normalised rows, mean over coordinates",
        range="0 to 1/√D",
        low="all point the same way",
        high="spread; blind to dimensional collapse",
        centred="yes, after normalising",
        source="Chen & He 2021",
        chart=Chart(
            title="Spread on the sphere",
            axis="std × √width of l2-normalised outputs",
            scale=lambda r: r.dim**0.5,
            level=1.0,
            level_word="spread evenly",
            caption="Near 1 the outputs spread over the sphere; at 0 all are one point (complete "
            "collapse).",
        ),
    ),
    Reading(
        name="mean_cosine",
        title="mean cosine",
        of=Of.ROWS,
        measure=lambda r: views.mean_cosine(r.rows),
        collapsed=_at(1.0),
        spread=_at(0.0),
        caption="Cosine of two images, on average. Near 1 they share one direction: subtract the "
        "mean, or look for complete collapse.",
        formula="mean over pairs of cos(x, y)",
        range="−1/(N−1) to 1",
        low="spread",
        high="all point the same way",
        centred="no",
        source="Ethayarajh 2019, as anisotropy",
    ),
    Reading(
        name="uniformity",
        title="uniformity",
        of=Of.ROWS,
        measure=lambda r: views.uniformity(r.few),
        collapsed=_at(0.0),
        spread=_at(-4.0),
        caption="Log of how close two images lie on the sphere, on average; 0 if all are one "
        "point. The bar ends at −4, where noise of many dimensions lies.",
        formula="log mean over pairs of exp(−2‖x−y‖²), normalised rows",
        range="−8 to 0",
        low="spread (near −4 where D is large)",
        high="all point the same way",
        centred="no",
        source="Wang & Isola 2020",
        chart=Chart(
            title="Uniformity",
            axis="uniformity",
            zero=False,
            caption="Lower is more evenly spread; 0 is one point.",
        ),
    ),
    Reading(
        name="alignment",
        title="alignment",
        of=Of.PAIRS,
        measure=lambda p: views.alignment(p.view_a, p.view_b),
        collapsed=_at(0.0),
        spread=_at(4.0),
        neutral=True,
        caption="Mean squared distance of two views on the sphere; 2 if they have nothing in "
        "common. 0 is perfect for spread-out outputs, and also what collapse gives.",
        needs=TWO_VIEWS,
        formula="mean ‖x−y‖², x and y the normalised views of an image",
        range="0 to 4",
        low="the views agree, also when collapsed",
        high="opposite; 2: unrelated",
        centred="no",
        source="Wang & Isola 2020",
        chart=Chart(
            title="Alignment of two views",
            axis="mean squared distance",
            caption="How far two views of an image lie apart on the sphere. Low is good only "
            "while the outputs are spread out.",
        ),
    ),
    Reading(
        name="lidar",
        title="LiDAR",
        unit="directions",
        of=Of.PAIRS,
        measure=lambda p: views.lidar(p.few),
        collapsed=_at(1.0),
        spread=_dim,
        log=True,
        caption="Directions in which images differ by more than two views of one image do.",
        needs=TWO_VIEWS,
        formula="exp H(l/Σl + 10⁻⁸), l the eigenvalues of S_w^−½ S_b S_w^−½",
        range="1 to min(images − 1, D)",
        low="images differ in one direction",
        high="in many, against what augmentation changes",
        centred="yes",
        source="Thilak et al. 2023",
    ),
)
"""The readings of a part's output, in the order of their tables."""

HEAD_READINGS: tuple[Reading, ...] = (
    Reading(
        name="off_diagonal_norm",
        title="off-diagonal norm",
        of=Of.HEAD,
        measure=weights.off_diagonal_norm,
        caption="0: no coordinate mixes with another.",
        formula="‖O‖_F",
        range="from 0",
        low="no coordinate mixes with another",
        high="coordinates mix",
        source="Wen & Li 2022",
        chart=Chart(
            title="Off-diagonal part of the head",
            axis="Frobenius norm of off-diagonal E",
            caption="How much coordinates mix through the head. The theory lets it rise while "
            "weak features are learned, then fall.",
        ),
    ),
    Reading(
        name="asymmetry",
        title="asymmetry",
        of=Of.HEAD,
        measure=weights.asymmetry,
        caption="0 symmetric, √2 unrelated, 2 antisymmetric.",
        formula="‖E − Eᵀ‖_F/‖O‖_F",
        range="0 to 2",
        low="symmetric",
        high="antisymmetric; √2: unrelated",
        source="Wen & Li 2022",
        chart=Chart(
            title="Asymmetry of the head",
            axis="‖E − Eᵀ‖ / ‖off-diagonal E‖",
            caption="0: the head is symmetric; √2 ≈ 1.41: entries (i, j) and (j, i) have nothing "
            "to do with each other; 2: antisymmetric. Undefined while the head is diagonal.",
        ),
    ),
    Reading(
        name="identity_distance",
        title="distance from the identity",
        of=Of.HEAD,
        measure=weights.identity_distance,
        caption="0: the head does nothing.",
        formula="‖E − I‖_F",
        range="from 0",
        low="does nothing",
        high="",
        chart=Chart(
            title="Distance of the head from the identity",
            axis="Frobenius norm of E − I",
            caption="0: the head does nothing. With a diagonal fixed at 1 it equals the "
            "off-diagonal norm.",
        ),
    ),
    Reading(
        name="rank",
        title="rank",
        of=Of.HEAD,
        measure=weights.rank,
        caption="Directions that the head lets through.",
        formula="how many singular values > 10⁻² of the largest",
        range="0 to D",
        low="zero",
        high="all directions kept",
    ),
    Reading(
        name="polar_distance",
        title="distance from its polar factor",
        of=Of.HEAD,
        measure=weights.polar_distance,
        caption="0: the head is a rotation.",
        formula="‖E − U‖_F, E = UP",
        range="from 0",
        low="a rotation",
        high="far from one; √D: zero",
        source="Richemond et al. 2023",
    ),
    Reading(
        name="eigenspace_alignment",
        title="eigenspace alignment",
        of=Of.HEAD_AND_INPUT,
        measure=weights.eigenspace_alignment,
        caption="1: the head shares its eigenvectors with the correlation of what it is given.",
        formula="mean over eigenvectors v of C of \\|cos(E v, v)\\|",
        range="0 to 1",
        low="turns each away",
        high="stretches each by itself",
        source="Tian et al. 2021",
    ),
    Reading(
        name="commutator",
        title="commutator",
        of=Of.HEAD_AND_INPUT,
        measure=weights.commutator,
        caption="0: head and correlation commute.",
        formula="‖EC − CE‖_F/(‖E‖_F ‖C‖_F)",
        range="0 to √2",
        low="E and C commute",
        high="",
        source="the bound: Böttcher & Wenzel 2008",
    ),
    Reading(
        name="off_diagonal_share",
        title="share through the off-diagonal",
        of=Of.HEAD_AND_INPUT,
        measure=weights.off_diagonal_share,
        caption="Share of the prediction that comes from other coordinates: substitution.",
        formula="E‖Oz‖²/(E‖Dz‖² + E‖Oz‖²)",
        range="0 to 1",
        low="each coordinate predicts itself",
        high="only the others do",
        source="the substitution of Wen & Li 2022",
    ),
)
"""The readings of a prediction head that is one matrix."""


def reading(name: str) -> Reading:
    """The row of a part's reading by its name."""
    return next(one for one in READINGS if one.name == name)


def head_reading(name: str) -> Reading:
    """The row of a head's reading by its name."""
    return next(one for one in HEAD_READINGS if one.name == name)


def measured(of: Of, *arguments: Spectrum | Rows | Pairs | Covariance) -> dict[str, float]:
    """Every reading of this kind, by name, of what it is measured of."""
    rows = READINGS + HEAD_READINGS
    return {one.name: one.measure(*arguments).item() for one in rows if one.of is of}
