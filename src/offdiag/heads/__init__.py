"""Prediction heads, one small file each: plain modules that map (batch, dim) to (batch, dim).

The names of the first version, when all heads were one file, are found here too.
"""

from offdiag.diagnostics.head_matrix import head_matrix
from offdiag.heads.bias import BiasHead
from offdiag.heads.linear import LinearHead
from offdiag.heads.masked import MASKS, IdentityInitHead
from offdiag.heads.mlp import MLPHead
from offdiag.registry import HEADS

__all__ = [
    "HEADS",
    "MASKS",
    "BiasHead",
    "IdentityInitHead",
    "LinearHead",
    "MLPHead",
    "head_matrix",
]
