"""What a target is: which network gives it, and how that network follows the online one."""

from typing import Protocol, TypeVar, runtime_checkable

from torch import nn

Module = TypeVar("Module", bound=nn.Module)


@runtime_checkable
class Target(Protocol):
    """A rule, without weights of its own: the method holds the copies."""

    def copy_of(self, online: Module) -> Module | None:
        """The target's copy of a part; None where the online part itself is the target."""

    def follow(self, copy: nn.Module, online: nn.Module, *, progress: float) -> None:
        """Move the copy after an optimiser step; `progress` runs from 0 to 1 over training."""
