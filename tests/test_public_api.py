"""The names that the package lists are the names that it has."""

import subprocess
import sys

import offdiag


def test_every_listed_name_can_be_had():
    for name in offdiag.__all__:
        assert getattr(offdiag, name) is not None
    assert set(offdiag._HOMES) == set(offdiag.__all__)
    assert not hasattr(offdiag, "no_such_name")


def test_importing_the_package_loads_nothing_heavy():
    heavy = [
        "torch",
        "torchvision",
        "sklearn",
        "numba",
        "altair",
        "tyro",
        "lightning_fabric",
        "scipy",
    ]
    code = f"import sys, offdiag; print([m for m in {heavy} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
