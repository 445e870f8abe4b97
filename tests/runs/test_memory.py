"""What is said when memory runs out."""

import pytest
import torch

from offdiag._checks import RunError
from offdiag.runs.memory import memory_may_run_out


@pytest.mark.parametrize(
    "error, size",
    [
        (
            torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB. GPU 0"),
            "20.00 GiB",
        ),
        (MemoryError("Unable to allocate 7.45 GiB for an array"), "7.45 GiB"),
        (MemoryError(), ""),
    ],
)
def test_running_out_of_memory_is_a_sentence_that_says_what_to_do(error, size):
    sentence = f"memory ran out.*{size}.*--batch-size"
    with pytest.raises(RunError, match=sentence), memory_may_run_out():
        raise error


def test_torchs_own_refusal_on_a_cpu_is_recognised():
    sentence = "memory ran out when 4000000000000000 bytes more"
    with pytest.raises(RunError, match=sentence), memory_may_run_out():
        torch.empty(10**15)


def test_other_errors_stay_what_they_are():
    with pytest.raises(RuntimeError, match="shape"), memory_may_run_out():
        raise RuntimeError("shape mismatch")
