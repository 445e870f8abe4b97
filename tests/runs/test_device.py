"""Which device a run gets, what auto precision becomes, and a sentence for what goes wrong."""

import dataclasses
import json
import logging
import warnings

import pytest
import torch

from offdiag._checks import ConfigError, RunError
from offdiag._precision import tensor_float32
from offdiag.runs.config import RunConfig
from offdiag.runs.device import pick_device, refuse_full_card, resolved
from offdiag.runs.memory import memory_may_run_out
from offdiag.runs.processes import Place, open_fabric
from offdiag.runs.train import train

from ..helpers.cuda import Card

CARD, CPU = torch.device("cuda", 0), torch.device("cpu")


def test_auto_takes_a_card_where_there_is_one(monkeypatch):
    Card(cards=2).put_in_place(monkeypatch)
    assert pick_device("auto") == CARD and pick_device("cpu") == CPU
    assert pick_device("cuda", local_rank=1) == torch.device("cuda", 1)
    with pytest.raises(ConfigError, match="this machine has 2: start fewer"):
        pick_device("auto", local_rank=2)
    Card(cards=0).put_in_place(monkeypatch)
    assert pick_device("auto") == CPU


def test_metal_is_refused():
    with pytest.raises(ConfigError, match="no float64"):
        pick_device("mps")


def test_cards_hidden_by_the_environment_are_one_sentence(monkeypatch):
    Card(cards=0).put_in_place(monkeypatch)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    with pytest.raises(ConfigError, match="CUDA_VISIBLE_DEVICES is empty, .* --device cpu"):
        pick_device("cuda")
    assert pick_device("auto") == CPU


def test_a_torch_without_cuda_is_one_sentence(monkeypatch):
    Card(cards=0).put_in_place(monkeypatch)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setattr(torch.version, "cuda", None)
    with pytest.raises(ConfigError, match="built without CUDA"):
        pick_device("cuda")
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    with pytest.raises(ConfigError, match="not available on this machine"):
        pick_device("cuda")


def test_a_driver_too_old_is_named_even_where_auto_takes_the_cpu(monkeypatch):
    def too_old():
        warnings.warn(
            "CUDA initialization: The NVIDIA driver on your system is too old (found version "
            "11040). Please update your GPU driver",
            stacklevel=1,
        )
        return False

    monkeypatch.setattr(torch.cuda, "is_available", too_old)
    with pytest.raises(ConfigError, match="driver is too old for this torch .* update the driver"):
        pick_device("cuda")
    with pytest.warns(UserWarning, match="driver is too old .* this run uses the CPU"):
        assert pick_device("auto") == CPU


def test_a_card_that_another_process_fills_is_one_sentence(monkeypatch, tmp_path):
    full = Card(free_bytes=300 * 2**20).put_in_place(monkeypatch)
    with pytest.raises(RunError, match="cuda:0 has 0.3 of 80.0 GiB free, another process"):
        train(RunConfig(device="cuda"), tmp_path / "run")
    assert not (tmp_path / "run").exists()
    full.cards = 2
    room = {0: full.free_bytes, 1: 2**36}
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda d: (room[d.index], 80 * 2**30))
    with pytest.raises(RunError, match="card 1 has room: set CUDA_VISIBLE_DEVICES=1"):
        refuse_full_card(CARD)
    refuse_full_card(torch.device("cuda", 1))
    refuse_full_card(CPU)


def test_auto_precision_is_bfloat16_with_channels_last_where_the_card_has_it(monkeypatch):
    auto = RunConfig()
    assert auto.precision == "auto"
    Card().put_in_place(monkeypatch)
    assert (resolved(auto, CARD).precision, resolved(auto, CARD).channels_last) == (
        "bf16-mixed",
        True,
    )
    Card(bf16=False).put_in_place(monkeypatch)
    assert resolved(auto, CARD) == dataclasses.replace(auto, precision="32-true")
    assert resolved(auto, CPU) == dataclasses.replace(auto, precision="32-true")
    chosen = dataclasses.replace(auto, precision="16-mixed")
    assert resolved(chosen, CARD) == chosen


def test_a_run_records_what_auto_precision_became(tmp_path):
    config = RunConfig(epochs=1, batch_size=512, projector=(8, 4), device="cpu", read_every=1)
    train(config, tmp_path / "run")
    recorded = json.loads((tmp_path / "run" / "config.json").read_text())["config"]
    assert (recorded["precision"], recorded["channels_last"]) == ("32-true", False)


def test_tensor_float32_is_put_back_and_leaves_a_cpu_alone():
    def state():
        return torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32

    before = state()
    with tensor_float32(True, CARD):
        assert state() == ("high", True)
        with tensor_float32(False, CARD):
            assert state() == ("highest", False)
        assert state() == ("high", True)
    assert state() == before
    with tensor_float32(True, CPU):
        assert state() == before


def test_out_of_memory_says_what_would_fit():
    refusal = torch.OutOfMemoryError(
        "CUDA out of memory. Tried to allocate 20.00 GiB. GPU 0 has a total capacity of 80.00 GiB "
        "of which 10.00 GiB is free. Including non-PyTorch memory, this process has 70.00 GiB "
        "memory in use. Of the allocated memory 68.00 GiB is allocated by PyTorch."
    )
    with (
        pytest.raises(RunError, match="20.00 GiB more .* --batch-size 256 would probably fit"),
        memory_may_run_out(512),
    ):
        raise refusal
    with pytest.raises(RunError) as said, memory_may_run_out():
        raise refusal
    assert "would probably fit" not in str(said.value)


def test_none_of_lightnings_advice_reaches_the_terminal(monkeypatch, caplog):
    Card().put_in_place(monkeypatch)
    with caplog.at_level(logging.INFO):
        open_fabric(CARD, "32-true", Place()).launch()
    assert not caplog.records
