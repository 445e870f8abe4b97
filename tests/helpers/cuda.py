"""A stand-in for torch.cuda on a machine without a card, as strict as the real one.

It answers what the package asks of torch.cuda and refuses what the real one refuses: the
allocator's statistics cannot be reset before CUDA is initialised.
"""

from dataclasses import dataclass

import pytest
import torch


@dataclass
class Card:
    """What the stand-in says of its cards, and what was done to them."""

    cards: int = 1
    free_bytes: int = 70 * 2**30
    total_bytes: int = 80 * 2**30
    bf16: bool = True
    name: str = "Pretend H200"
    capability: tuple[int, int] = (9, 0)
    initialised: bool = False
    resets: int = 0
    peak_bytes: int = 0

    def init(self) -> None:
        self.initialised = True

    def reset_peak_memory_stats(self, device=None) -> None:
        if not self.initialised:
            raise RuntimeError("Invalid device argument ")  # as torch's C++ says it
        self.resets += 1
        self.peak_bytes = 0

    def max_memory_allocated(self, device=None) -> int:
        return self.peak_bytes if self.initialised else 0

    def mem_get_info(self, device=None) -> tuple[int, int]:
        self.init()
        return self.free_bytes, self.total_bytes

    def put_in_place(self, monkeypatch: pytest.MonkeyPatch) -> "Card":
        answers = {
            "is_available": lambda: self.cards > 0,
            "device_count": lambda: self.cards,
            "is_initialized": lambda: self.initialised,
            "is_bf16_supported": lambda including_emulation=True: self.bf16,
            "init": self.init,
            "get_device_name": lambda device=None: self.name,
            "get_device_capability": lambda device=None: self.capability,
            "current_device": lambda: 0,
            "set_device": lambda device: None,
            "synchronize": lambda device=None: None,
            "empty_cache": lambda: None,
            "manual_seed_all": lambda seed: None,
            "is_current_stream_capturing": lambda: False,
            "reset_peak_memory_stats": self.reset_peak_memory_stats,
            "max_memory_allocated": self.max_memory_allocated,
            "mem_get_info": self.mem_get_info,
        }
        for name, answer in answers.items():
            monkeypatch.setattr(torch.cuda, name, answer)
        return self
