"""What a run trained, in words: the names of the registry, or the classes of one's own parts."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from offdiag.registry import HEADS, METHODS

OURS = "offdiag.methods."
"""The module of every method of the library."""


@dataclass(frozen=True, kw_only=True)
class Description:
    """The method and the head of a run.

    `head` is None for a method without one. `own` says that the method was given to `train` as
    an object: then both are names of classes, and no command makes the run again.
    """

    method: str
    head: str | None
    own: bool = False

    @classmethod
    def of(cls, config: Mapping[str, Any], about: Mapping[str, Any]) -> "Description":
        """From the settings of a run of any version, and what was recorded about it."""
        if isinstance(own := config.get("own"), Mapping):
            head = own.get("head")
            return cls(
                method=str(own.get("method")), head=None if head is None else str(head), own=True
            )
        trained = str(about.get("method", OURS))
        if not trained.startswith(OURS):  # the first version recorded the settings' words besides
            return cls(method=trained.rpartition(".")[2], head=None, own=True)
        method, head = config.get("method", "simsiam"), config.get("head")
        return cls(method=str(method), head=None if head is None else str(head))

    @property
    def phrase(self) -> str:
        """ "with the off-diagonal head", "without a head", "with VICReg": for a sentence."""
        if self.own:
            head = f" and its head {self.head}" if self.head else ""
            return f"with the method {self.method}{head}"
        if self.head is None:
            return f"with {METHODS[self.method].title}" if self.method in METHODS else "in this run"
        if self.head == "none":
            return "without a head"
        title = HEADS[self.head].title if self.head in HEADS else f"{self.head} head"
        return f"with the {title}"
