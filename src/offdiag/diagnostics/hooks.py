"""Hooks that a copy or a pickle of a watched module does not carry on, and where to hang them."""

from collections.abc import Callable
from typing import Any, Protocol, runtime_checkable

import torch
from torch import nn
from torch.utils.hooks import RemovableHandle

from offdiag.diagnostics.parts import Tap, unwrapped

INNER = ("optimizer", "optim", "_optimizer", "opt", "base_optimizer")
"""Where wrappers of optimisers keep the one that they wrap: Accelerate, LARC, LARSWrapper, SAM."""


@runtime_checkable
class Listener(Protocol):
    """What hooks need of a monitor: is this step recorded?"""

    def idle(self) -> bool: ...


class ForwardHook:
    """A forward hook; a copy or a pickle of the module that it is on gets an inert one."""

    def __init__(
        self, listener: Listener, record: Callable[..., None], part: str, tap: Tap
    ) -> None:
        self.listener, self.part, self.tap = listener, part, tap
        # Traced, the step number would become part of the graph and recompile it each step.
        self.record = torch.compiler.disable(record)  # type: ignore[no-untyped-call]

    def __call__(
        self, module: nn.Module, arguments: tuple[Any, ...], named: dict[str, Any], output: Any
    ) -> None:
        if not torch.compiler.is_compiling() and self.listener.idle():
            return
        self.record(self.part, self.tap, module, arguments, named, output)

    def __reduce__(self) -> tuple[Callable[[], Any], tuple[()]]:
        return Inert, ()


class StepHook:
    """An optimiser's hook; copies and pickles like `ForwardHook`."""

    def __init__(self, record: Callable[[], object]) -> None:
        self.record = record

    def __call__(self, *_: Any) -> None:
        self.record()

    def __reduce__(self) -> tuple[Callable[[], Any], tuple[()]]:
        return Inert, ()


class Inert:
    """What a hook becomes in a copy."""

    def __call__(self, *_: Any) -> None:
        return None


def optimizer_inside(optimizer: Any) -> torch.optim.Optimizer | None:
    """The torch optimiser that takes hooks: this one, or the one that it wraps; None if neither.

    A wrapper may subclass Optimizer without calling its __init__, and has no hooks then.
    """
    seen: set[int] = set()
    while optimizer is not None and id(optimizer) not in seen:
        seen.add(id(optimizer))
        if isinstance(optimizer, torch.optim.Optimizer) and hasattr(
            optimizer, "_optimizer_step_post_hooks"
        ):
            return optimizer
        optimizer = next(
            (inner for name in INNER if (inner := getattr(optimizer, name, None)) is not None),
            None,
        )
    return None


def forget_compiled(module: nn.Module) -> None:
    """Have a compiled module traced anew at its next call, so that its new hooks run.

    torch.compile keeps graphs by the code of a class, and does not look at hooks when it looks
    for a graph that fits: another instance's graph, without hooks, would be taken.
    """
    try:
        from torch._dynamo.eval_frame import remove_from_cache
    except ImportError:  # a private name: it may go
        return
    remove_from_cache(type(unwrapped(module)).forward)


Handles = list[RemovableHandle]
