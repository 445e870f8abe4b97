"""Non-contrastive self-supervised learning: train it, watch it, explain it.

Each name is found when it is first asked for: importing the package loads nothing
else, so a process that only decodes images starts without torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from offdiag._checks import ConfigError, DataError, OffdiagError, RunError, TrainingError
    from offdiag.data.data import Data
    from offdiag.data.samples import Graph, GraphBatch, Samples, TorchSource
    from offdiag.diagnostics.advice import Advice
    from offdiag.diagnostics.diagnosis import Diagnosis
    from offdiag.diagnostics.head_matrix import head_matrix
    from offdiag.diagnostics.monitor import Monitor
    from offdiag.diagnostics.verdict import Kind, Verdict, judge, judge_embeddings
    from offdiag.encoders import Encoder, resnet, small_conv
    from offdiag.heads import BiasHead, IdentityInitHead, LinearHead, MLPHead
    from offdiag.methods.byol import BYOL
    from offdiag.methods.joint_embedding import JointEmbedding
    from offdiag.methods.predictive import Predictive
    from offdiag.methods.simsiam import SimSiam
    from offdiag.normalisers import batch_normalise, l2_normalise
    from offdiag.objectives.barlow_twins import BarlowTwins
    from offdiag.objectives.prediction import prediction_loss
    from offdiag.objectives.vicreg import VICReg
    from offdiag.projectors import projector
    from offdiag.registry import HEADS, METHODS, OBJECTIVES, Entry
    from offdiag.report.comparison import write_comparison
    from offdiag.report.diagnosis import write_diagnosis
    from offdiag.report.page import write_report
    from offdiag.results.comparison import Comparison
    from offdiag.results.history import RunRecord
    from offdiag.runs.compare import compare
    from offdiag.runs.config import RunConfig
    from offdiag.runs.demo import demo
    from offdiag.runs.diagnose import diagnose
    from offdiag.runs.frozen import FrozenRun
    from offdiag.runs.grid import Grid
    from offdiag.runs.recipes import recipe
    from offdiag.runs.train import resume, train
    from offdiag.training.fit import fit

__version__ = "0.1.0"

__all__ = [
    "prediction_loss",
    "fit",
    "VICReg",
    "Predictive",
    "OBJECTIVES",
    "METHODS",
    "JointEmbedding",
    "Entry",
    "BarlowTwins",
    "Advice",
    "Data",
    "Graph",
    "GraphBatch",
    "Samples",
    "TorchSource",
    "BYOL",
    "BiasHead",
    "Comparison",
    "ConfigError",
    "DataError",
    "Diagnosis",
    "Encoder",
    "FrozenRun",
    "Grid",
    "HEADS",
    "IdentityInitHead",
    "Kind",
    "LinearHead",
    "MLPHead",
    "Monitor",
    "OffdiagError",
    "RunConfig",
    "RunError",
    "RunRecord",
    "SimSiam",
    "TrainingError",
    "Verdict",
    "batch_normalise",
    "compare",
    "demo",
    "diagnose",
    "head_matrix",
    "judge",
    "judge_embeddings",
    "l2_normalise",
    "projector",
    "recipe",
    "resnet",
    "resume",
    "small_conv",
    "train",
    "write_comparison",
    "write_diagnosis",
    "write_report",
]

_HOMES = {
    "Advice": "offdiag.diagnostics.advice",
    "Data": "offdiag.data.data",
    "Graph": "offdiag.data.samples",
    "GraphBatch": "offdiag.data.samples",
    "Samples": "offdiag.data.samples",
    "TorchSource": "offdiag.data.samples",
    "BYOL": "offdiag.methods.byol",
    "BiasHead": "offdiag.heads",
    "Comparison": "offdiag.results.comparison",
    "ConfigError": "offdiag._checks",
    "DataError": "offdiag._checks",
    "Diagnosis": "offdiag.diagnostics.diagnosis",
    "Encoder": "offdiag.encoders",
    "FrozenRun": "offdiag.runs.frozen",
    "Grid": "offdiag.runs.grid",
    "HEADS": "offdiag.registry",
    "IdentityInitHead": "offdiag.heads",
    "Kind": "offdiag.diagnostics.verdict",
    "LinearHead": "offdiag.heads",
    "MLPHead": "offdiag.heads",
    "Monitor": "offdiag.diagnostics.monitor",
    "OffdiagError": "offdiag._checks",
    "RunConfig": "offdiag.runs.config",
    "RunError": "offdiag._checks",
    "RunRecord": "offdiag.results.history",
    "SimSiam": "offdiag.methods.simsiam",
    "TrainingError": "offdiag._checks",
    "Verdict": "offdiag.diagnostics.verdict",
    "BarlowTwins": "offdiag.objectives.barlow_twins",
    "Entry": "offdiag.registry",
    "JointEmbedding": "offdiag.methods.joint_embedding",
    "METHODS": "offdiag.registry",
    "OBJECTIVES": "offdiag.registry",
    "Predictive": "offdiag.methods.predictive",
    "VICReg": "offdiag.objectives.vicreg",
    "fit": "offdiag.training.fit",
    "prediction_loss": "offdiag.objectives.prediction",
    "batch_normalise": "offdiag.normalisers",
    "compare": "offdiag.runs.compare",
    "demo": "offdiag.runs.demo",
    "diagnose": "offdiag.runs.diagnose",
    "head_matrix": "offdiag.diagnostics.head_matrix",
    "judge": "offdiag.diagnostics.verdict",
    "judge_embeddings": "offdiag.diagnostics.verdict",
    "l2_normalise": "offdiag.normalisers",
    "projector": "offdiag.projectors",
    "recipe": "offdiag.runs.recipes",
    "resnet": "offdiag.encoders",
    "resume": "offdiag.runs.train",
    "small_conv": "offdiag.encoders",
    "train": "offdiag.runs.train",
    "write_comparison": "offdiag.report.comparison",
    "write_diagnosis": "offdiag.report.diagnosis",
    "write_report": "offdiag.report.page",
}


_RENAMED = {"alignment_loss": "offdiag.losses"}
"""Names of earlier versions; their modules warn and give what they are now."""


def __getattr__(name: str) -> Any:
    if name in _RENAMED:
        return getattr(import_module(_RENAMED[name]), name)
    if name not in _HOMES:
        raise AttributeError(f"module 'offdiag' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)
