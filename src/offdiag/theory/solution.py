"""What a solved dynamics gives back: its states over time, and what it was solved with."""

import io
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from offdiag._checks import RunError
from offdiag._files import write_whole

State = Mapping[str, np.ndarray]
"""The arrays that a dynamics moves, by name."""


@dataclass(frozen=True, kw_only=True)
class Solution:
    """One trajectory of a dynamics.

    `time` is learning rate x steps; `states[name]` has one entry a time on its first axis.
    `settings` are the fields of the dynamics, `method` says how it was integrated, `seconds`
    what that took. `failure` is None if the end was reached, else one sentence saying where it
    stopped and why.
    """

    time: Float[np.ndarray, " times"]
    states: Mapping[str, np.ndarray]
    settings: Mapping[str, Any]
    method: Mapping[str, Any]
    seconds: float
    failure: str | None

    def state(self, index: int) -> State:
        """The state at one of the times; -1 is the last."""
        return {name: values[index] for name, values in self.states.items()}

    def save(self, path: Path) -> None:
        """Write one .npz file, whole or not at all."""
        about = {
            "settings": dict(self.settings),
            "method": dict(self.method),
            "seconds": self.seconds,
            "failure": self.failure,
        }
        content = io.BytesIO()
        states: dict[str, Any] = {f"state/{name}": one for name, one in self.states.items()}
        np.savez(content, time=self.time, about=json.dumps(about), **states)
        write_whole(path, content.getvalue())

    @classmethod
    def load(cls, path: Path) -> "Solution":
        """Read what `save` wrote; nothing in the file is executed."""
        try:
            with np.load(path, allow_pickle=False) as file:
                about = json.loads(str(file["about"]))
                states = {
                    name.removeprefix("state/"): file[name]
                    for name in file.files
                    if name.startswith("state/")
                }
                return cls(time=file["time"], states=states, **about)
        except (OSError, KeyError, TypeError, ValueError) as error:
            raise RunError(f"{path} should be a solution of the theory lab: {error}.") from error
