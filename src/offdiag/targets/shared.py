"""The online network is its own target (SimSiam)."""

from torch import nn

from offdiag.targets.target import Module


class SharedWeights:
    """No copy: the target of a view is its online projection."""

    def copy_of(self, online: Module) -> Module | None:
        return None

    def follow(self, copy: nn.Module, online: nn.Module, *, progress: float) -> None:
        """Nothing to do: there is no copy."""
