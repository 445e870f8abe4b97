"""Non-contrastive self-supervised learning: train it, watch it, explain it.

Each name is found when it is first asked for: importing the package loads nothing
else, so a process that only decodes images starts without torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from offdiag._checks import ConfigError, DataError, OffdiagError, RunError, TrainingError
    from offdiag.encoders import Encoder, projector, resnet, small_conv
    from offdiag.heads import HEADS, BiasHead, IdentityInitHead, LinearHead, MLPHead, head_matrix
    from offdiag.losses import alignment_loss, batch_normalise, l2_normalise
    from offdiag.methods.byol import BYOL
    from offdiag.methods.simsiam import SimSiam
    from offdiag.report.page import write_report
    from offdiag.results.history import RunRecord
    from offdiag.runs.config import RunConfig
    from offdiag.runs.demo import demo
    from offdiag.runs.frozen import FrozenRun
    from offdiag.runs.train import resume, train

__version__ = "0.1.0"

__all__ = [
    "BYOL",
    "HEADS",
    "BiasHead",
    "ConfigError",
    "DataError",
    "Encoder",
    "FrozenRun",
    "IdentityInitHead",
    "LinearHead",
    "MLPHead",
    "OffdiagError",
    "RunConfig",
    "RunError",
    "RunRecord",
    "SimSiam",
    "TrainingError",
    "alignment_loss",
    "batch_normalise",
    "demo",
    "head_matrix",
    "l2_normalise",
    "projector",
    "resnet",
    "resume",
    "small_conv",
    "train",
    "write_report",
]

_HOMES = {
    "BYOL": "offdiag.methods.byol",
    "BiasHead": "offdiag.heads",
    "ConfigError": "offdiag._checks",
    "DataError": "offdiag._checks",
    "Encoder": "offdiag.encoders",
    "FrozenRun": "offdiag.runs.frozen",
    "HEADS": "offdiag.heads",
    "IdentityInitHead": "offdiag.heads",
    "LinearHead": "offdiag.heads",
    "MLPHead": "offdiag.heads",
    "OffdiagError": "offdiag._checks",
    "RunConfig": "offdiag.runs.config",
    "RunError": "offdiag._checks",
    "RunRecord": "offdiag.results.history",
    "SimSiam": "offdiag.methods.simsiam",
    "TrainingError": "offdiag._checks",
    "alignment_loss": "offdiag.losses",
    "batch_normalise": "offdiag.losses",
    "demo": "offdiag.runs.demo",
    "head_matrix": "offdiag.heads",
    "l2_normalise": "offdiag.losses",
    "projector": "offdiag.encoders",
    "resnet": "offdiag.encoders",
    "resume": "offdiag.runs.train",
    "small_conv": "offdiag.encoders",
    "train": "offdiag.runs.train",
    "write_report": "offdiag.report.page",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'offdiag' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)
