"""Every test runs with the shape and type checker on."""

import beartype
from jaxtyping import install_import_hook

# Before the hook: Numba needs them bare.
from offdiag.data import view_kernel as _view_kernel  # noqa: F401
from offdiag.theory import kernels as _kernels  # noqa: F401
from offdiag.theory import lanes as _lanes  # noqa: F401

# An int is a float here, as it is to the static checker; the hook takes the checker by name.
beartype.tower = beartype.beartype(conf=beartype.BeartypeConf(is_pep484_tower=True))
install_import_hook("offdiag", "beartype.tower")

import pytest  # noqa: E402
import torch  # noqa: E402

# Test nets are tiny: a second thread costs more in waiting than it computes.
torch.set_num_threads(1)


@pytest.fixture
def generator() -> torch.Generator:
    """A seeded CPU generator: the only source of randomness in a test."""
    return torch.Generator().manual_seed(0)
