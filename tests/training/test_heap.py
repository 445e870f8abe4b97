"""Freed memory stays with the process, where glibc can be told so."""

import ctypes
import platform
import subprocess
import sys

import pytest

CODE = """
import ctypes, torch
from offdiag.training.heap import keep_freed_memory

class Mallinfo2(ctypes.Structure):  # glibc's malloc.h
    _fields_ = [(name, ctypes.c_size_t) for name in (
        "arena", "ordblks", "smblks", "hblks", "hblkhd",
        "usmblks", "fsmblks", "uordblks", "fordblks", "keepcost")]

def free_bytes():
    mallinfo2 = ctypes.CDLL(None).mallinfo2
    mallinfo2.restype = Mallinfo2
    return mallinfo2().fordblks

{call}
start = free_bytes()
held = [torch.ones(400_000) for _ in range(16)]
del held
print(free_bytes() - start)
"""

TENSORS = 16 * 1_600_000


def kept(call: str) -> int:
    """Bytes that the allocator holds free, for the next to ask, once 16 tensors are freed.

    What the allocator says and not page faults or resident memory: some kernels count neither.
    """
    code = CODE.format(call=call)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return int(done.stdout)


@pytest.mark.skipif(
    platform.libc_ver()[0] != "glibc" or not hasattr(ctypes.CDLL(None), "mallinfo2"),
    reason="only glibc can be told, and only 2.33 and later tells what it holds",
)
def test_the_memory_of_freed_tensors_stays_for_those_after_them():
    assert kept("") < TENSORS / 10
    assert kept("assert keep_freed_memory()") > TENSORS / 2
