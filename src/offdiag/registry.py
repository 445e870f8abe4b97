"""Every mechanism of the library by name: what it is, where it is, what can be set.

A row names the class or function that builds the part; nothing is imported before it is asked
for, so the tables cost nothing. What can be set are the constructor's keyword-only parameters:
each is annotated with its type and one line of help, and its default stands there and nowhere
else. A new mechanism is its file, one row here, and one reference in the tests.
"""

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from importlib import import_module
from types import MappingProxyType
from typing import Annotated, Any, get_args, get_origin

from offdiag._checks import ConfigError, choice


@dataclass(frozen=True, kw_only=True)
class Setting:
    """One thing that can be set of a mechanism: its type, its default and a line of help."""

    name: str
    type: Any
    default: Any
    help: str


@dataclass(frozen=True, kw_only=True)
class Entry:
    """A row of a table. `build(size, **settings)` makes the part.

    `where` is "module:name" below `offdiag`; `fixed` are arguments that the row decides, so that
    variants are rows; `parts` are the other parts that a method takes, with its own choice of
    each ("" where there is none unless one is given). `paper` names the source, `summary` says in
    one line what it does. Tags say which laws apply (see TAGS).
    """

    where: str
    summary: str
    paper: str
    tags: frozenset[str] = frozenset()
    fixed: Mapping[str, Any] = field(default_factory=dict)
    parts: Mapping[str, str] = field(default_factory=dict)
    title: str = ""

    @cached_property
    def target(self) -> Callable[..., Any]:
        """The class or function, imported when it is first asked for."""
        module, _, name = self.where.partition(":")
        found: Callable[..., Any] = getattr(import_module(f"offdiag.{module}"), name)
        return found

    @cached_property
    def settings(self) -> tuple[Setting, ...]:
        """The constructor's keyword-only parameters that are annotated with a line of help."""
        found = []
        for parameter in inspect.signature(self.target).parameters.values():
            annotation = parameter.annotation
            documented = get_origin(annotation) is Annotated
            if parameter.kind is not parameter.KEYWORD_ONLY or not documented:
                continue
            if parameter.name not in self.fixed:
                kind, text = get_args(annotation)[:2]
                found.append(
                    Setting(
                        name=parameter.name, type=kind, default=parameter.default, help=str(text)
                    )
                )
        return tuple(found)

    def wants(self, name: str) -> bool:
        """Whether the constructor has a parameter of this name."""
        return name in inspect.signature(self.target).parameters

    @cached_property
    def takes_size(self) -> bool:
        """Whether the first parameter of the constructor is a size: a width, or channels."""
        first = next(iter(inspect.signature(self.target).parameters.values()), None)
        return first is not None and first.kind is first.POSITIONAL_OR_KEYWORD

    def build(self, size: Any = None, **settings: Any) -> Any:
        """The part for outputs of width `size` (an encoder: for so many channels).

        TypeError for a setting that it does not have: `checked_settings` says so in a sentence.
        """
        arguments = (size,) if self.takes_size else ()
        return self.target(*arguments, **self.fixed, **settings)

    def __call__(self, size: Any = None, **settings: Any) -> Any:
        """The same as `build`."""
        return self.build(size, **settings)


TAGS: Mapping[str, str] = MappingProxyType(
    {
        "closed-form": "computed from the batch, not trained by gradient",
        "trains-nothing": "has no trainable parameter",
        "matrix": "a head that is one matrix",
        "batch-statistics": "its value depends on which samples share a batch",
        "cross-view": "compares the two views sample by sample",
        "negatives": "pushes different samples apart one by one",
        "decorrelation": "acts on the covariance or spectrum of the outputs",
        "clustering": "assigns samples to prototypes or codes",
        "quantised": "outputs lie on a finite grid",
        "random": "draws random numbers at each step, from the step alone",
        "unbounded": "its value has no lower bound, or none that is reached",
        "ema": "keeps a target network that follows by an exponential moving average",
        "design": "our own stand-in: no formula of the paper was found",
        "ablation": "known to collapse, for comparison",
        "packaged": "a data set that comes with the library or what it depends on",
    }
)
"""What the tags of the tables mean; the common exam asks them which laws apply."""


def _tags(*names: str) -> frozenset[str]:
    assert set(names) <= set(TAGS), names
    return frozenset(names)


WEN_LI = "Wen & Li 2022"

HEADS: Mapping[str, Entry] = MappingProxyType(
    {
        "none": Entry(
            where="heads.masked:IdentityInitHead",
            fixed={"entries": "identity"},
            summary="frozen identity: no prediction head",
            paper="Chen & He 2021, ablation",
            tags=_tags("trains-nothing", "matrix", "ablation"),
            title="no head",
        ),
        **{
            name: Entry(
                where="heads.masked:IdentityInitHead",
                fixed={"entries": name},
                summary=f"starts as the identity; {what} train",
                paper=paper,
                tags=_tags("matrix"),
                title=f"{name} head",
            )
            for name, what, paper in (
                ("off-diagonal", "its off-diagonal entries", WEN_LI),
                ("full", "all of its entries", f"variant of {WEN_LI}"),
                ("lower", "the entries below its diagonal", f"variant of {WEN_LI}"),
                ("upper", "the entries above its diagonal", f"variant of {WEN_LI}"),
                (
                    "symmetric",
                    "its off-diagonal entries, in symmetric pairs,",
                    f"variant of {WEN_LI}",
                ),
            )
        },
        "linear": Entry(
            where="heads.linear:LinearHead",
            summary="one matrix from a random start, without bias",
            paper="Tian et al. 2021",
            tags=_tags("matrix"),
            title="linear head",
        ),
        "mlp": Entry(
            where="heads.mlp:MLPHead",
            summary="Linear, BatchNorm, ReLU, Linear",
            paper="Grill et al. 2020; Chen & He 2021",
            tags=_tags("batch-statistics"),
            title="MLP head",
        ),
        "bias": Entry(
            where="heads.bias:BiasHead",
            summary="adds a trainable vector",
            paper="Zhang et al. 2022",
            title="bias head",
        ),
        "direct-pred": Entry(
            where="heads.direct_pred:direct_pred_head",
            summary="set from the eigenvalues of the projection's second moment",
            paper="Tian et al. 2021, DirectPred",
            tags=_tags("closed-form", "trains-nothing", "matrix", "batch-statistics"),
            title="DirectPred head",
        ),
        "direct-set": Entry(
            where="heads.direct_pred:direct_set_head",
            summary="a power of the projection's second moment; 1 is DirectCopy",
            paper="Wang et al. 2021, DirectSet",
            tags=_tags("closed-form", "trains-nothing", "matrix", "batch-statistics"),
            title="DirectSet head",
        ),
        "direct-copy": Entry(
            where="heads.direct_pred:direct_set_head",
            fixed={"alpha": 1.0},
            summary="the projection's second moment itself",
            paper="Wang et al. 2021, DirectCopy",
            tags=_tags("closed-form", "trains-nothing", "matrix", "batch-statistics"),
            title="DirectCopy head",
        ),
        "iso": Entry(
            where="heads.isoloss:IsoHead",
            summary="DirectPred with the same speed for every direction",
            paper="Halvagal et al. 2023, IsoLoss",
            tags=_tags("closed-form", "trains-nothing", "matrix", "batch-statistics"),
            title="IsoLoss head",
        ),
        "regression": Entry(
            where="heads.regression:RegressionHead",
            summary="regression of one view on the other",
            paper="Richemond et al. 2023, LRP",
            tags=_tags("closed-form", "trains-nothing", "matrix", "batch-statistics"),
            title="regression head",
        ),
        "neumann": Entry(
            where="heads.regression:RegressionHead",
            fixed={"form": "neumann"},
            summary="the same to first order",
            paper="Richemond et al. 2023, NE",
            tags=_tags("closed-form", "trains-nothing", "matrix", "batch-statistics"),
            title="Neumann head",
        ),
        "newton-schulz": Entry(
            where="heads.roots:root_head",
            fixed={"rule": "root"},
            summary="iterated square root of the second moment",
            paper="Richemond et al. 2023, NS",
            tags=_tags("closed-form", "trains-nothing", "matrix", "batch-statistics"),
            title="Newton-Schulz head",
        ),
        "newton-schulz-4": Entry(
            where="heads.roots:root_head",
            fixed={"rule": "fourth-root"},
            summary="iterated fourth root of the second moment",
            paper="Richemond et al. 2023, NS2",
            tags=_tags("closed-form", "trains-nothing", "matrix", "batch-statistics"),
            title="Newton-Schulz head, fourth root",
        ),
        "visser": Entry(
            where="heads.roots:root_head",
            fixed={"rule": "visser"},
            summary="square root by Visser's iteration",
            paper="Richemond et al. 2023",
            tags=_tags("closed-form", "trains-nothing", "matrix", "batch-statistics"),
            title="Visser head",
        ),
        "stiefel": Entry(
            where="heads.roots:root_head",
            fixed={"rule": "polar"},
            summary="soft projector on the strong directions",
            paper="Richemond et al. 2023",
            tags=_tags("closed-form", "trains-nothing", "matrix", "batch-statistics"),
            title="Stiefel head",
        ),
        "spectral-filter": Entry(
            where="heads.spectral_filter:SpectralFilter",
            summary="the batch's singular values raised to a power",
            paper="Zhuo et al. 2023, RDM",
            tags=_tags("closed-form", "trains-nothing", "batch-statistics"),
            title="spectral filter",
        ),
        "linear-symmetric": Entry(
            where="heads.constrained:ConstrainedHead",
            fixed={"constraint": "symmetric"},
            summary="a matrix made symmetric after each step",
            paper="Tian et al. 2021",
            tags=_tags("matrix"),
            title="symmetric linear head",
        ),
        "linear-diagonal": Entry(
            where="heads.constrained:ConstrainedHead",
            fixed={"constraint": "diagonal"},
            summary="a diagonal matrix",
            paper="ablation of Wen & Li 2022",
            tags=_tags("matrix"),
            title="diagonal linear head",
        ),
        "linear-spectral": Entry(
            where="heads.constrained:ConstrainedHead",
            fixed={"constraint": "spectral"},
            summary="a symmetric matrix of spectral norm 1",
            paper="Chen & He 2021, ablation",
            tags=_tags("matrix"),
            title="spectrally normalised head",
        ),
    }
)
"""Prediction heads: (batch, dim) -> (batch, dim)."""

NORMALISERS: Mapping[str, Entry] = MappingProxyType(
    {
        "bn": Entry(
            where="normalisers:batch_normalise",
            summary="each coordinate to mean 0 and variance 1 over the batch",
            paper=WEN_LI,
            tags=_tags("batch-statistics", "trains-nothing"),
            title="output BatchNorm",
        ),
        "l2": Entry(
            where="normalisers:l2_normalise",
            summary="each sample to length 1",
            paper="Grill et al. 2020",
            tags=_tags("trains-nothing"),
            title="l2 normalisation",
        ),
        "none": Entry(
            where="normalisers:no_normaliser",
            summary="outputs as they are: the trivial solution attracts",
            paper=f"ablation of {WEN_LI}",
            tags=_tags("trains-nothing", "ablation"),
            title="no normalisation",
        ),
    }
)
"""What prediction and target go through before they are compared."""

TRANSFORMS: Mapping[str, Entry] = MappingProxyType(
    {
        "centre": Entry(
            where="transforms.centre:Centre",
            summary="the moving mean taken off",
            paper="Caron et al. 2021",
            tags=_tags("trains-nothing"),
            title="centring",
        ),
        "whiten": Entry(
            where="transforms.whiten:Whiten",
            fixed={"kind": "zca"},
            summary="ZCA whitening by the batch",
            paper="Ermolov et al. 2021",
            tags=_tags("trains-nothing", "batch-statistics", "decorrelation"),
            title="ZCA whitening",
        ),
        "whiten-cholesky": Entry(
            where="transforms.whiten:Whiten",
            fixed={"kind": "cholesky"},
            summary="Cholesky whitening by the batch",
            paper="Ermolov et al. 2021",
            tags=_tags("trains-nothing", "batch-statistics", "decorrelation"),
            title="Cholesky whitening",
        ),
        "iternorm": Entry(
            where="transforms.whiten:Whiten",
            fixed={"kind": "iterative"},
            summary="whitening by a few Newton steps",
            paper="Huang et al. 2019",
            tags=_tags("trains-nothing", "batch-statistics", "decorrelation"),
            title="iterative whitening",
        ),
        "fsq": Entry(
            where="transforms.fsq:FSQ",
            summary="each coordinate onto a few values",
            paper="Scannell et al. 2024, iQRL",
            tags=_tags("trains-nothing", "quantised"),
            title="FSQ",
        ),
        "spectral-filter": Entry(
            where="heads.spectral_filter:SpectralFilter",
            summary="the batch's singular values to a power; below 0 raises the target's rank",
            paper="Zhuo et al. 2023, RDM",
            tags=_tags("trains-nothing", "batch-statistics"),
            title="spectral filter of the target",
        ),
    }
)
"""What the target goes through besides: centring, whitening, quantisation, ..."""

REGULARISERS: Mapping[str, Entry] = MappingProxyType(
    {
        "koleo": Entry(
            where="regularisers.of_objective:koleo",
            summary="away from the nearest neighbour",
            paper="Sablayrolles et al. 2019",
            tags=_tags("batch-statistics", "negatives"),
            title="KoLeo",
        ),
        "variance-covariance": Entry(
            where="regularisers.of_objective:variance_covariance",
            summary="VICReg's variance and covariance",
            paper="Bardes et al. 2022",
            tags=_tags("batch-statistics", "decorrelation"),
            title="variance and covariance",
        ),
        "sigreg": Entry(
            where="regularisers.of_objective:sigreg",
            summary="random projections towards a Gaussian",
            paper="Balestriero & LeCun 2025",
            tags=_tags("batch-statistics", "random"),
            title="SIGReg",
        ),
        "information-bottleneck": Entry(
            where="regularisers.information_bottleneck:InformationBottleneck",
            summary="matrix mutual information of features and projection",
            paper="Ouyang et al. 2025",
            tags=_tags("batch-statistics"),
            title="information bottleneck",
        ),
    }
)
"""Terms that are added to a method's loss."""

OBJECTIVES: Mapping[str, Entry] = MappingProxyType(
    {
        "barlow-twins": Entry(
            where="objectives.barlow_twins:BarlowTwins",
            summary="cross-correlation of the two views towards the identity",
            paper="Zbontar et al. 2021",
            tags=_tags("batch-statistics", "cross-view", "decorrelation"),
            title="Barlow Twins",
        ),
        "vicreg": Entry(
            where="objectives.vicreg:VICReg",
            summary="invariance, variance hinge and covariance penalty",
            paper="Bardes et al. 2022",
            tags=_tags("batch-statistics", "cross-view", "decorrelation"),
            title="VICReg",
        ),
        "infonce": Entry(
            where="objectives.infonce:InfoNCE",
            summary="one positive against 2n - 2 negatives (SimCLR)",
            paper="Chen et al. 2020",
            tags=_tags("batch-statistics", "cross-view", "negatives"),
            title="InfoNCE",
        ),
        "dcl": Entry(
            where="objectives.infonce:InfoNCE",
            fixed={"decoupled": True},
            summary="InfoNCE without the positive in the denominator",
            paper="Yeh et al. 2022",
            tags=_tags("batch-statistics", "cross-view", "negatives", "unbounded"),
            title="DCL",
        ),
        "spectral-contrastive": Entry(
            where="objectives.spectral_contrastive:SpectralContrastive",
            summary="squared products of different samples pushed to 0",
            paper="HaoChen et al. 2021",
            tags=_tags("batch-statistics", "cross-view", "negatives"),
            title="spectral contrastive loss",
        ),
        "spectral-whitened": Entry(
            where="objectives.spectral_contrastive:SpectralWhitened",
            summary="equal views whose second moment is the identity",
            paper="HaoChen & Ma 2022",
            tags=_tags("batch-statistics", "cross-view", "decorrelation"),
            title="whitened spectral contrastive loss",
        ),
        "alignment-uniformity": Entry(
            where="objectives.alignment_uniformity:AlignmentUniformity",
            summary="near views, and samples spread over the sphere",
            paper="Wang & Isola 2020",
            tags=_tags("batch-statistics", "cross-view", "negatives"),
            title="alignment and uniformity",
        ),
        "dimension-contrast": Entry(
            where="objectives.dimension_contrast:DimensionContrast",
            summary="products of different coordinates pushed to 0",
            paper="Garrido et al. 2023",
            tags=_tags("batch-statistics", "cross-view", "decorrelation"),
            title="dimension contrast",
        ),
        "w-mse": Entry(
            where="objectives.whitening_mse:WMSE",
            summary="both views whitened before they are compared",
            paper="Ermolov et al. 2021",
            tags=_tags("batch-statistics", "cross-view", "decorrelation"),
            title="W-MSE",
        ),
        "intl": Entry(
            where="objectives.iternorm_loss:INTL",
            summary="iterative whitening with a trace term",
            paper="Weng et al. 2024",
            tags=_tags("batch-statistics", "cross-view", "decorrelation"),
            title="INTL",
        ),
        "sigreg": Entry(
            where="objectives.sigreg:SIGReg",
            summary="random projections towards a standard Gaussian (LeJEPA)",
            paper="Balestriero & LeCun 2025",
            tags=_tags("batch-statistics", "cross-view", "random"),
            title="SIGReg (LeJEPA)",
        ),
        "weak-sigreg": Entry(
            where="objectives.sigreg:WeakSIGReg",
            summary="the covariance of a random sketch towards the identity",
            paper="Weak-SIGReg 2026, from notes",
            tags=_tags("batch-statistics", "cross-view", "decorrelation", "random"),
            title="weak SIGReg",
        ),
        "visreg": Entry(
            where="objectives.visreg:VISReg",
            summary="scale, shape and centre towards a standard Gaussian",
            paper="VISReg 2026",
            tags=_tags("batch-statistics", "cross-view", "random"),
            title="VISReg",
        ),
        "rdmreg": Entry(
            where="objectives.rdmreg:RDMReg",
            summary="rectified outputs towards a sparse law (Rectified LpJEPA)",
            paper="RDMReg 2026",
            tags=_tags("batch-statistics", "cross-view", "random"),
            title="RDMReg",
        ),
        "mec": Entry(
            where="objectives.coding_rate:MEC",
            summary="maximum entropy coding",
            paper="Liu et al. 2022",
            tags=_tags("batch-statistics", "cross-view", "decorrelation"),
            title="MEC",
        ),
        "tcr": Entry(
            where="objectives.coding_rate:TotalCodingRate",
            summary="invariance and total coding rate",
            paper="Yu et al. 2020",
            tags=_tags("batch-statistics", "cross-view", "decorrelation"),
            title="TCR",
        ),
        "emp-ssl": Entry(
            where="objectives.coding_rate:EMPSSL",
            summary="coding rate, and views near their mean",
            paper="Tong et al. 2023",
            tags=_tags("batch-statistics", "cross-view", "decorrelation"),
            title="EMP-SSL",
        ),
        "mmcr": Entry(
            where="objectives.mmcr:MMCR",
            summary="nuclear norm of the centroids",
            paper="Yerxa et al. 2023",
            tags=_tags("batch-statistics", "cross-view", "decorrelation"),
            title="MMCR",
        ),
        "tico": Entry(
            where="objectives.tico:TiCo",
            summary="invariance, and a covariance with memory to avoid",
            paper="Zhu et al. 2022",
            tags=_tags("batch-statistics", "cross-view", "decorrelation"),
            title="TiCo",
        ),
        "frossl": Entry(
            where="objectives.frossl:FroSSL",
            summary="invariance, and the Frobenius norm of the covariance",
            paper="Skean et al. 2024",
            tags=_tags("batch-statistics", "cross-view", "decorrelation"),
            title="FroSSL",
        ),
        "cca-ssg": Entry(
            where="objectives.cca_ssg:CCASSG",
            summary="canonical correlation with a soft decorrelation",
            paper="Zhang et al. 2021",
            tags=_tags("batch-statistics", "cross-view", "decorrelation"),
            title="CCA-SSG",
        ),
        "cplearn": Entry(
            where="objectives.cplearn:CPLearn",
            summary="frozen random codes, matched and used evenly",
            paper="Sansone et al. 2025, FALCON",
            tags=_tags("batch-statistics", "cross-view", "clustering"),
            title="CPLearn",
        ),
        "gedi": Entry(
            where="objectives.gedi:GEDIWithoutGeneration",
            summary="clusters that are matched and all used",
            paper="Sansone & Manhaeve 2024, without generation",
            tags=_tags("batch-statistics", "cross-view", "clustering"),
            title="GEDI without generation",
        ),
    }
)
"""Losses of the projections of all views; each is a method without a head, by its own name."""

METHODS: Mapping[str, Entry] = MappingProxyType(
    {
        "simsiam": Entry(
            where="methods.simsiam:SimSiam",
            summary="shared weights, a head, and a stop-gradient on the target",
            paper="Chen & He 2021",
            parts={"head": "off-diagonal", "normaliser": "bn", "transform": "", "regulariser": ""},
            title="SimSiam",
        ),
        "byol": Entry(
            where="methods.byol:BYOL",
            summary="a head predicts an EMA target network",
            paper="Grill et al. 2020",
            parts={"head": "off-diagonal", "normaliser": "bn", "transform": "", "regulariser": ""},
            tags=_tags("ema"),
            title="BYOL",
        ),
        "dino": Entry(
            where="methods.self_distillation:DINO",
            summary="prototypes of a centred, sharpened EMA teacher",
            paper="Caron et al. 2021",
            parts={"regulariser": ""},
            tags=_tags("ema", "clustering", "batch-statistics"),
            title="DINO",
        ),
        "swav": Entry(
            where="methods.self_distillation:SwAV",
            summary="prototypes used evenly by Sinkhorn",
            paper="Caron et al. 2020",
            parts={"regulariser": ""},
            tags=_tags("clustering", "batch-statistics", "cross-view"),
            title="SwAV",
        ),
        "simdino": Entry(
            where="methods.distilled:SimDINO",
            summary="an EMA teacher, and the coding rate",
            paper="Wu et al. 2025",
            parts={"head": "none", "transform": "", "regulariser": ""},
            tags=_tags("ema", "batch-statistics", "decorrelation"),
            title="SimDINO",
        ),
        "matrix-ssl": Entry(
            where="methods.distilled:MatrixSSL",
            summary="matrix cross-entropies with an EMA target",
            paper="Zhang et al. 2024",
            parts={"head": "mlp", "transform": "", "regulariser": ""},
            tags=_tags("ema", "batch-statistics", "decorrelation"),
            title="Matrix-SSL",
        ),
        **{
            name: Entry(
                where="methods.joint_embedding:JointEmbedding",
                summary=entry.summary,
                paper=entry.paper,
                parts={"objective": name, "regulariser": ""},
                tags=entry.tags,
                title=entry.title,
            )
            for name, entry in OBJECTIVES.items()
        },
    }
)
"""Methods: from the views of a batch to a loss."""

PROJECTORS: Mapping[str, Entry] = MappingProxyType(
    {
        "mlp": Entry(
            where="projectors:projector",
            summary="Linear, BatchNorm, ReLU, ..., Linear",
            paper="Chen et al. 2020",
            title="MLP projector",
        ),
        "linear": Entry(
            where="projectors:linear_projector",
            summary="one linear map",
            paper="ablation of Chen et al. 2020",
            tags=_tags(),
            title="linear projector",
        ),
        "discrete": Entry(
            where="projectors:discrete_projector",
            summary="the MLP projector onto a grid",
            paper="Ouyang et al. 2025",
            tags=_tags("quantised"),
            title="discrete projector",
        ),
        "sparse": Entry(
            where="projectors:sparse_projector",
            summary="the MLP projector through a sparse autoencoder",
            paper="Ouyang et al. 2025",
            tags=_tags(),
            title="sparse projector",
        ),
        "reweighting": Entry(
            where="projectors:reweighting_projector",
            summary="a linear map with fixed decreasing weights",
            paper="Xue et al. 2024",
            tags=_tags(),
            title="reweighting projector",
        ),
        "slice": Entry(
            where="projectors:slice_projector",
            summary="the first features and nothing trained (DirectCLR)",
            paper="Jing et al. 2022",
            tags=_tags("trains-nothing"),
            title="slice of the features",
        ),
    }
)
"""From features to the projection."""

ENCODERS: Mapping[str, Entry] = MappingProxyType(
    {
        "small": Entry(
            where="encoders:small_conv",
            summary="three convolutions with BatchNorm, 128 features",
            paper="ours",
            title="small convolutional net",
        ),
        "small-stride2": Entry(
            where="encoders:small_conv",
            fixed={"stem_stride": 2},
            summary="the same at half the resolution: a quarter of the cost",
            paper="ours",
            title="small convolutional net, stride 2",
        ),
        **{
            f"{net}{suffix}": Entry(
                where=f"encoders:{net}",
                fixed={"small_stem": small_stem},
                summary=f"torchvision's {net}, {stem}",
                paper="He et al. 2016",
                title=net.replace("resnet", "ResNet-"),
            )
            for suffix, small_stem, stem in (
                ("", True, "3x3 stem for images up to 64 pixels"),
                ("-imagenet", False, "7x7 stem and max-pool"),
            )
            for net in ("resnet18", "resnet50")
        },
    }
)
"""Networks: from inputs to features."""

OPTIMIZERS: Mapping[str, Entry] = MappingProxyType(
    {
        name: Entry(where=f"training.optimizers:{name}", summary=summary, paper=paper, title=title)
        for name, summary, paper, title in (
            ("sgd", "SGD with momentum .9", "Robbins & Monro 1951", "SGD"),
            ("adam", "Adam", "Kingma & Ba 2015", "Adam"),
            ("adamw", "Adam with decoupled weight decay", "Loshchilov & Hutter 2019", "AdamW"),
            ("lars", "SGD with layer-wise rates", "You et al. 2017", "LARS"),
        )
    }
)
"""Optimisers."""

DATASETS: Mapping[str, Entry] = MappingProxyType(
    {
        "digits": Entry(
            where="data.readers:digits",
            summary="1,797 digits, 8x8, grey; ships with scikit-learn",
            paper="Alpaydin & Kaynak 1998",
            parts={"views": "digits"},
            tags=_tags("packaged"),
            title="digits",
        ),
        "shapes": Entry(
            where="data.shapes:shapes",
            summary="2,000 coloured shapes on noisy ground, 16x16, six classes; generated",
            paper="ours",
            parts={"views": "simsiam-cifar"},
            tags=_tags("packaged"),
            title="shapes",
        ),
        **{
            name: Entry(
                where=f"data.readers:{name.replace('-', '_')}",
                summary=summary,
                paper=source,
                title=title,
            )
            for name, summary, source, title in (
                ("cifar10", "60,000 images, 32x32, ten classes", "Krizhevsky 2009", "CIFAR-10"),
                (
                    "cifar100",
                    "60,000 images, 32x32, a hundred classes",
                    "Krizhevsky 2009",
                    "CIFAR-100",
                ),
                (
                    "stl10",
                    "113,000 images, 96x96, most without labels",
                    "Coates et al. 2011",
                    "STL-10",
                ),
                (
                    "fashion-mnist",
                    "70,000 images, 28x28, grey, ten classes",
                    "Xiao et al. 2017",
                    "Fashion-MNIST",
                ),
            )
        },
    }
)
"""Data sets by name, with their default views where those are not chosen by the images' channels
and size. Folders of images and functions of your own come beside them."""

PARTS: Mapping[str, Mapping[str, Entry]] = MappingProxyType(
    {
        "method": METHODS,
        "head": HEADS,
        "normaliser": NORMALISERS,
        "transform": TRANSFORMS,
        "objective": OBJECTIVES,
        "regulariser": REGULARISERS,
        "projector": PROJECTORS,
        "encoder": ENCODERS,
    }
)
"""The tables of what a network and its loss are made of."""

SCHEDULES = ("cosine", "steps", "constant")
STOP_GRADIENTS = ("target", "none", "online")


def find(kind: str, name: str) -> Entry:
    """The row of one of `PARTS`; ConfigError lists the names that there are."""
    table = PARTS[kind]
    return table[choice(kind, name, table)]


def settings_of(kind: str, name: str) -> tuple[Setting, ...]:
    """What can be set of a part; of a method that is an objective, what can be set of that."""
    row = find(kind, name)
    if kind == "method" and row.parts.get("objective"):
        return OBJECTIVES[row.parts["objective"]].settings
    return row.settings


def checked_settings(kind: str, name: str, given: Mapping[str, Any]) -> dict[str, Any]:
    """The settings with their types put right; ConfigError for one that `name` does not have."""
    known = {setting.name: setting for setting in find(kind, name).settings}
    for key in given:
        if key not in known:
            has = f"it has {', '.join(known)}" if known else "it has none"
            raise ConfigError(f"the {kind} {name!r} has no setting {key!r}: {has}.")
    return {key: _of_type(f"{kind}.{key}", value, known[key].type) for key, value in given.items()}


def _of_type(what: str, value: Any, kind: Any) -> Any:
    """A value as the setting's type has it: a list from JSON is a tuple, an int may be a float."""
    origin, options = get_origin(kind), get_args(kind)
    if options and origin is not tuple and all(isinstance(one, str) for one in options):
        return choice(what, str(value), options)
    kinds: Sequence[Any] = options if options and origin is not tuple else (kind,)
    for one in kinds:
        base = get_origin(one) or one
        if base is tuple and isinstance(value, list | tuple):
            return tuple(value)
        if base is float and isinstance(value, int | float) and not isinstance(value, bool):
            return float(value)
        if isinstance(base, type) and isinstance(value, base):
            if isinstance(value, bool) and base is not bool:
                continue
            return value
    names = " or ".join(getattr(one, "__name__", str(one)) for one in kinds)
    raise ConfigError(f"{what} must be of type {names}; got {value!r}.")
