"""Freed memory stays with the process, where glibc can be told so."""

import platform
import subprocess
import sys

import pytest

CODE = """
import resource, torch
from offdiag.training.heap import keep_freed_memory
{call}
def touch():
    held = [torch.ones(400_000) for _ in range(16)]
    del held
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(5):
    start = touch()
for _ in range(20):
    end = touch()
print(end - start)
"""


def faults(call: str) -> int:
    """Pages asked of the system by 20 rounds of 16 tensors of 1.6 MB, freed at each end."""
    code = CODE.format(call=call)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return int(done.stdout)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc can be told")
def test_tensors_take_the_memory_that_those_before_them_freed():
    assert 10 * faults("assert keep_freed_memory()") < faults("")
