"""Array aliases and the one axis vocabulary.

batch channels height width classes: images and labels
inputs features proj dim: layer widths (`dim` where any width will do)
steps: anything recorded over training
"""

from jaxtyping import Float, Int, UInt8, UInt16
from torch import Tensor

Images = (
    UInt8[Tensor, "batch channels height width"] | UInt16[Tensor, "batch channels height width"]
)
View = Float[Tensor, "batch channels height width"]
Labels = Int[Tensor, " batch"]
Embeddings = Float[Tensor, "batch dim"]
Covariance = Float[Tensor, "dim dim"]
Eigenvalues = Float[Tensor, " dim"]
Scalar = Float[Tensor, ""]
