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
            where="heads.direct_pred:DirectPredHead",
            summary="set from the eigenvalues of the projection's second moment",
            paper="Tian et al. 2021, DirectPred",
            tags=_tags("closed-form", "trains-nothing", "matrix", "batch-statistics"),
            title="DirectPred head",
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

TRANSFORMS: Mapping[str, Entry] = MappingProxyType({})
"""What the target goes through besides: centring, whitening, quantisation, ..."""

REGULARISERS: Mapping[str, Entry] = MappingProxyType({})
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
        name: Entry(where=f"data.readers:{reader}", summary=summary, paper=source, title=title)
        for name, reader, summary, source, title in (
            (
                "digits",
                "digits",
                "1,797 digits, 8x8, grey; ships with scikit-learn",
                "Alpaydin & Kaynak 1998",
                "digits",
            ),
            (
                "cifar10",
                "cifar10",
                "60,000 images, 32x32, ten classes",
                "Krizhevsky 2009",
                "CIFAR-10",
            ),
            (
                "cifar100",
                "cifar100",
                "60,000 images, 32x32, a hundred classes",
                "Krizhevsky 2009",
                "CIFAR-100",
            ),
            (
                "stl10",
                "stl10",
                "113,000 images, 96x96, most without labels",
                "Coates et al. 2011",
                "STL-10",
            ),
            (
                "fashion-mnist",
                "fashion_mnist",
                "70,000 images, 28x28, grey, ten classes",
                "Xiao et al. 2017",
                "Fashion-MNIST",
            ),
        )
    }
)
"""Data sets by name; folders of images and functions of your own come beside them."""

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
