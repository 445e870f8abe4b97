"""What happened to one start of the theory lab, whichever way it was run."""

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


@dataclass(frozen=True, kw_only=True)
class Trajectory:
    """The sufficient statistics of a network over time, and how the run ended.

    `time` is gradient-flow time: learning rate x steps. `inner_products[t, j, l]` is
    c_jl = <w_j, v_l>; `noise[t]` is R, the covariance of the neurons' responses to one
    noise patch; `head[t]` is E. `loss` is the population loss, except for a sampled run,
    where it is that of the batch just seen. `problem` holds the fields of the `Problem`,
    `method` says how it was run, `seconds` what it took. `failure` is None if the end was
    reached, else one sentence saying where it stopped and why.
    """

    time: Float[np.ndarray, " times"]
    inner_products: Float[np.ndarray, "times neurons features"]
    noise: Float[np.ndarray, "times neurons neurons"]
    head: Float[np.ndarray, "times neurons neurons"]
    loss: Float[np.ndarray, " times"]
    problem: Mapping[str, Any]
    method: Mapping[str, Any]
    seconds: float
    failure: str | None

    def save(self, path: Path) -> None:
        """Write one .npz file, whole or not at all."""
        about = {
            "problem": dict(self.problem),
            "method": dict(self.method),
            "seconds": self.seconds,
            "failure": self.failure,
        }
        content = io.BytesIO()
        np.savez(
            content,
            time=self.time,
            inner_products=self.inner_products,
            noise=self.noise,
            head=self.head,
            loss=self.loss,
            about=json.dumps(about),
        )
        write_whole(path, content.getvalue())

    @classmethod
    def load(cls, path: Path) -> "Trajectory":
        """Read what `save` wrote; RunError if the file is missing or something else."""
        try:
            with np.load(path, allow_pickle=False) as arrays:
                about = json.loads(str(arrays["about"]))
                return cls(
                    time=arrays["time"],
                    inner_products=arrays["inner_products"],
                    noise=arrays["noise"],
                    head=arrays["head"],
                    loss=arrays["loss"],
                    problem=about["problem"],
                    method=about["method"],
                    seconds=about["seconds"],
                    failure=about["failure"],
                )
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise RunError(
                f"{path} is not a trajectory written by offdiag ({error}): "
                "run `offdiag theory run --out` again."
            ) from None
