"""Every test runs with the shape and type checker on."""

from jaxtyping import install_import_hook

from offdiag.theory import kernels as _kernels  # noqa: F401  before the hook: Numba needs them bare

install_import_hook("offdiag", "beartype.beartype")

import pytest  # noqa: E402
import torch  # noqa: E402


@pytest.fixture
def generator() -> torch.Generator:
    """A seeded CPU generator: the only source of randomness in a test."""
    return torch.Generator().manual_seed(0)
