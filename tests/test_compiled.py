"""Compiled functions work where no folder can be written."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

# Neither the package folder nor the user's cache can be written: Numba's own locators say so.
PROGRAM = """
import numba, numba.core.caching as caching, tempfile, sys, os
def refuse(self):
    path = self.get_cache_path()
    if not path.startswith(sys.argv[1]):
        raise OSError("read-only")
    os.makedirs(path, exist_ok=True)
caching._CacheLocator.ensure_cache_path = refuse
tempfile.tempdir = sys.argv[2]
from offdiag import _compiled
from offdiag.data import view_kernel
@_compiled.compiled
def twice(x):
    return 2 * x
assert twice(21) == 42
assert numba.config.CACHE_DIR == ""
kernel = next(one for one in vars(view_kernel).values() if hasattr(one, "_cache"))
print(type(kernel._cache).__name__)
"""


def run(writable: Path, temporary: Path) -> str:
    environment = {k: v for k, v in os.environ.items() if k != "NUMBA_CACHE_DIR"}
    words = [sys.executable, "-c", PROGRAM, str(writable), str(temporary)]
    path = str(Path(__file__).parents[1] / "src")
    done = subprocess.run(
        words, capture_output=True, text=True, env={**environment, "PYTHONPATH": path}
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_code_is_kept_among_temporary_files_where_nothing_else_can_be_written(tmp_path):
    folder = tmp_path / f"offdiag-numba-{os.getuid()}"
    run(tmp_path, tmp_path)
    assert folder.stat().st_mode & 0o077 == 0
    assert any(folder.iterdir())


def test_code_compiles_where_nothing_at_all_can_be_written(tmp_path):
    assert run(tmp_path / "nowhere", tmp_path) == "NullCache"


def test_a_folder_that_others_can_write_to_is_not_used(tmp_path):
    folder = tmp_path / f"offdiag-numba-{os.getuid()}"
    folder.mkdir(mode=0o777)
    folder.chmod(0o777)
    run(tmp_path, tmp_path)
    assert not any(folder.iterdir())


pytestmark = pytest.mark.skipif(not hasattr(os, "getuid"), reason="needs POSIX permissions")
