"""What branches of a run came to: one outcome a change and seed, and what each change is worth."""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import mean, stdev
from typing import Any

from offdiag._checks import RunError
from offdiag._files import finite, write_json
from offdiag.results.readings import NAN

UNCHANGED = "unchanged"
SLOWER = "learning rate /"
"""How changes begin that only make a branch slower: what they keep may be lost later."""
WHY_FILE = "why.json"
QUANTILES = (NAN, 12.71, 4.30, 3.18, 2.78, 2.57, 2.45, 2.36, 2.31, 2.26)
"""Student's t at 97.5 % by degrees of freedom, from 0; 2 beyond the last."""


@dataclass(frozen=True, kw_only=True)
class Branch:
    """One branch: the change, the seed of its batches, and the directions left at its end."""

    change: str
    seed: int
    directions: float


@dataclass(frozen=True, kw_only=True)
class Effect:
    """What a change is worth: the directions at the end, and the gain over the unchanged branch.

    The gain is paired by seed, so that both saw the same batches. `low` and `high` are its 95 %
    interval by Student's t; nan for one seed.
    """

    change: str
    directions: float
    gain: float
    low: float
    high: float
    seeds: int

    @property
    def slower(self) -> bool:
        """Does the change only slow the branch down?"""
        return self.change.startswith(SLOWER)

    @property
    def certain(self) -> bool:
        """Is the whole interval above no gain?"""
        return self.low > 0


@dataclass(frozen=True, kw_only=True)
class Why:
    """Branches of one run, each with one thing changed.

    `start` says from what weights they began and `steps` how long they went on.
    """

    name: str
    start: str
    steps: int
    branches: tuple[Branch, ...]

    def effects(self) -> tuple[Effect, ...]:
        """Each change against the unchanged branch, the largest certain gain first.

        Changes that only slow the branch down come after the others that are certain.
        """
        base = {b.seed: b.directions for b in self.branches if b.change == UNCHANGED}
        named = dict.fromkeys(b.change for b in self.branches if b.change != UNCHANGED)
        effects = [_effect(change, self.branches, base) for change in named]
        return tuple(
            sorted(effects, key=lambda e: (not e.certain, e.slower, -_or(e.gain, -math.inf)))
        )

    @property
    def unchanged(self) -> float:
        """Directions at the end of the unchanged branches, on average."""
        kept = [b.directions for b in self.branches if b.change == UNCHANGED]
        return mean(kept) if kept else NAN

    def save(self, directory: Path) -> None:
        """Write `why.json` into the directory, whole."""
        write_json(directory / WHY_FILE, finite(asdict(self)))

    @classmethod
    def load(cls, directory: Path) -> "Why":
        """Read what `save` wrote; RunError if it is missing or something else."""
        path = directory / WHY_FILE
        try:
            plain: dict[str, Any] = json.loads(path.read_text())
            branches = tuple(
                Branch(change=b["change"], seed=b["seed"], directions=_or(b["directions"], NAN))
                for b in plain["branches"]
            )
            return cls(**{**plain, "branches": branches})
        except OSError as error:
            raise RunError(f"cannot read {path}: {error.strerror or error}.") from None
        except (ValueError, KeyError, TypeError) as error:
            raise RunError(f"{path} is not what offdiag why writes ({error}).") from None


def _effect(change: str, branches: Sequence[Branch], base: Mapping[int, float]) -> Effect:
    mine = [b for b in branches if b.change == change]
    gains = [b.directions - base[b.seed] for b in mine if b.seed in base]
    gain = mean(gains) if gains else NAN
    half = NAN
    if len(gains) > 1:
        quantile = QUANTILES[len(gains) - 1] if len(gains) <= len(QUANTILES) else 2.0
        half = quantile * stdev(gains) / math.sqrt(len(gains))
    return Effect(
        change=change,
        directions=mean(b.directions for b in mine),
        gain=gain,
        low=gain - half,
        high=gain + half,
        seeds=len(gains),
    )


def _or(value: float | None, other: float) -> float:
    return other if value is None or math.isnan(value) else value
