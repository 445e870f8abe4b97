"""The home of the target network in the first version: see `offdiag.targets.ema`."""

from offdiag.targets.ema import cosine_momentum, frozen_copy, move_towards

__all__ = ["cosine_momentum", "frozen_copy", "move_towards"]
