"""How much memory a run holds, and what is said when it runs out."""

import pytest
import torch

from offdiag._checks import RunError
from offdiag.runs.memory import memory_may_run_out, peak_memory_gib, start_peak

from ..helpers.cuda import Card


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


def test_a_first_run_on_a_card_starts_before_cuda_is_initialised(monkeypatch):
    card = Card().put_in_place(monkeypatch)
    start_peak(torch.device("cuda", 0))
    assert peak_memory_gib(torch.device("cuda", 0)) == 0
    assert card.resets == 0


def test_a_second_run_on_a_card_forgets_what_the_first_one_held(monkeypatch):
    card = Card(initialised=True, peak_bytes=2**30).put_in_place(monkeypatch)
    assert peak_memory_gib(torch.device("cuda", 0)) == 1
    start_peak(torch.device("cuda", 0))
    assert peak_memory_gib(torch.device("cuda", 0)) == 0
    assert card.resets == 1


def test_the_stand_in_refuses_what_torch_refuses(monkeypatch):
    if torch.version.cuda and not torch.cuda.is_initialized():
        with pytest.raises(RuntimeError, match="Invalid device argument"):
            torch.cuda.reset_peak_memory_stats(torch.device("cuda", 0))
    Card().put_in_place(monkeypatch)
    with pytest.raises(RuntimeError, match="Invalid device argument"):
        torch.cuda.reset_peak_memory_stats(torch.device("cuda", 0))
