"""The interface of a dynamics, and the table of those that the lab has.

A new dynamics is one file with a frozen dataclass and its `CLAIMS`, one row in `DYNAMICS`, and
one reference in tests/theory/test_dynamics_velocity.py. Nothing is imported before it is asked
for.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from importlib import import_module
from types import MappingProxyType
from typing import Any, Protocol, runtime_checkable

import numpy as np

from offdiag._checks import choice
from offdiag.theory.claim import Claim
from offdiag.theory.solution import Solution, State


@runtime_checkable
class Dynamics(Protocol):
    """A frozen, keyword-only dataclass of parameters; a sweep varies its numeric fields.

    `horizon` is a time by which a start has settled with these parameters. `readings` are named
    arrays with one entry a time; a second axis, where there is one, counts modes.
    """

    @property
    def horizon(self) -> float: ...

    def start(self, generator: np.random.Generator) -> State: ...

    def velocity(self, time: float, state: State) -> State: ...

    def readings(self, solution: Solution) -> Mapping[str, np.ndarray]: ...

    def outcome(self, solution: Solution) -> StrEnum: ...


@runtime_checkable
class Integrates(Protocol):
    """A dynamics that brings its own integrator."""

    def integrate(self, start: State, *, time: float, rtol: float) -> Solution: ...


class Learned(StrEnum):
    """How much of what can be learned a start has learned."""

    ALL = "all"  # every mode
    SOME = "some"  # dimensional collapse: at least one mode, not every one
    NONE = "none"  # complete collapse
    FAILED = "failed"  # the integrator did not reach the end

    @classmethod
    def of(cls, solution: Solution, sizes: Any, level: float) -> "Learned":
        """The outcome from the size of each mode at the end; `level` is the least learned one."""
        if solution.failure is not None:
            return cls.FAILED
        learned = np.asarray(sizes) > level
        if learned.all():
            return cls.ALL
        return cls.SOME if learned.any() else cls.NONE


@dataclass(frozen=True, kw_only=True)
class DynamicsEntry:
    """A row: where the class is ("module:name" below `offdiag.theory`), its source and its use.

    `read` says what of the paper was read and what was derived here.
    """

    where: str
    paper: str
    summary: str
    read: str
    claims_at: str = "CLAIMS"

    @property
    def target(self) -> Callable[..., Dynamics]:
        """The class, imported when it is first asked for."""
        module, _, name = self.where.partition(":")
        found: Callable[..., Dynamics] = getattr(import_module(f"offdiag.theory.{module}"), name)
        return found

    @property
    def claims(self) -> Sequence[Claim[Any]]:
        """The claims made about it, to be measured on one of its problems."""
        module = self.where.partition(":")[0]
        found: Sequence[Claim[Any]] = getattr(
            import_module(f"offdiag.theory.{module}"), self.claims_at
        )
        return found


DYNAMICS: Mapping[str, DynamicsEntry] = MappingProxyType(
    {
        "wen-li": DynamicsEntry(
            where="wen_li:WenLi",
            paper="Wen and Li 2022, arXiv 2205.06226",
            summary="Two neurons, two features, a head that learns off its diagonal",
            read="docs/theory.md",
        ),
        "linear-byol": DynamicsEntry(
            where="linear_byol:LinearBYOL",
            paper="Tian, Chen and Ganguli 2021, arXiv 2102.06810",
            summary="Linear encoder, head and averaged target, as full matrices",
            read="equations read through a later paper; balance, edge and threshold measured here",
        ),
        "linear-byol-modes": DynamicsEntry(
            where="linear_byol:LinearBYOLModes",
            paper="Tian, Chen and Ganguli 2021, arXiv 2102.06810",
            summary="The same with aligned eigenspaces: two numbers a mode",
            read="equations read through a later paper; checked against the matrices",
            claims_at="MODE_CLAIMS",
        ),
        "direct-set": DynamicsEntry(
            where="direct_set:DirectSet",
            paper="Wang, Chen, Du and Tian 2021, arXiv 2110.04947",
            summary="The head is a power of the features' second moment",
            read="abstract and code; the threshold is derived here",
        ),
        "isoloss": DynamicsEntry(
            where="isoloss:IsoLoss",
            paper="Halvagal, Laborieux and Zenke 2023, arXiv 2212.04858",
            summary="Euclidean loss or its equalised form, with a closed-form head",
            read="code; the equations of the modes are derived here",
        ),
        "cosine": DynamicsEntry(
            where="cosine:Cosine",
            paper="Bao 2023, arXiv 2309.16109",
            summary="The cosine loss of a linear network with weight decay, by modes",
            read="abstract and reviews; the equations are derived here",
        ),
        "self-predictive": DynamicsEntry(
            where="self_predictive:SelfPredictive",
            paper="Tang et al. 2022, arXiv 2212.03319",
            summary="Representations that predict their own next value, at any rate of the head",
            read="abstract and notes; the law at a finite rate is derived here",
        ),
        "stepwise-barlow": DynamicsEntry(
            where="stepwise_barlow:StepwiseBarlow",
            paper="Simon et al. 2023, arXiv 2303.15438",
            summary="Barlow Twins of a linear model: one eigenmode after the other",
            read="not read; derived from the definition of the loss",
        ),
        "deep-linear": DynamicsEntry(
            where="deep_linear:DeepLinear",
            paper="Littwin et al. 2024, arXiv 2407.03475",
            summary="Deep linear encoders: predicting the embedding or the input",
            read="not read; derived from the definition of the losses",
        ),
        "rank-differential": DynamicsEntry(
            where="rank_differential:RankDifferential",
            paper="Zhuo, Wang, Ma and Wang 2023, ICLR",
            summary="Spectral filters on the online and on the target branch",
            read="code and summary; the equations of the linear model are derived here",
        ),
        "augmentation-graph": DynamicsEntry(
            where="augmentation_graph:AugmentationGraph",
            paper="HaoChen et al. 2021, arXiv 2106.04156; Zhai et al. 2024",
            summary="The spectral contrastive loss on a finite graph of augmentations",
            read="loss from the code; complexity through reviews",
        ),
    }
)


def dynamics_entry(name: str) -> DynamicsEntry:
    """The row of this name; ConfigError lists the names there are."""
    return DYNAMICS[choice("dynamics", name, DYNAMICS)]
