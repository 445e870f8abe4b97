"""`offdiag theory run | sweep | verify`: parse, call, write."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from rich.console import Console
from rich.table import Table

from offdiag.theory.ensemble import Ensemble, ensemble
from offdiag.theory.problem import Problem


@dataclass(frozen=True, kw_only=True)
class ProblemFlags:
    """The problem; the defaults are the reference problem of docs/theory.md."""

    dim: int = 1000
    """Dimension d of a patch; the cost does not depend on it."""
    strengths: tuple[float, ...] = (4.0, 2.0)
    """Strength of each feature."""
    probabilities: tuple[float, ...] | None = None
    """Probability of each feature; uniform unless given."""
    patches: int = 16
    """Patches of a sample."""
    feature_patches: int = 2
    """Those among them that hold the feature."""
    masks: Literal["half", "independent"] = "half"
    """A view keeps a uniform half of the patches, or each with probability 1/2."""
    noise: float = 1.0
    """Standard deviation of the noise, in each coordinate."""
    neurons: int = 2
    """Neurons of the network."""
    power: int = 3
    """Odd power of the activation: 3 or 5."""
    normaliser: Literal["bn", "none"] = "bn"
    """Batch normalisation of both outputs, or none."""
    stop_gradient: Literal["target", "none", "online"] = "target"
    """The branch that no gradient passes through."""
    head_lr_ratio: float = 0.01
    """Learning rate of the head over that of the neurons; 0: no head."""
    seed: int = 0
    """Seed of the starts."""

    def problem(self) -> Problem:
        """The problem these flags describe; ConfigError if they make no sense together."""
        return Problem(
            dim=self.dim,
            strengths=self.strengths,
            probabilities=self.probabilities,
            patches=self.patches,
            feature_patches=self.feature_patches,
            masks=self.masks,
            noise=self.noise,
            neurons=self.neurons,
            power=self.power,
            normaliser=self.normaliser,
            stop_gradient=self.stop_gradient,
            head_lr_ratio=self.head_lr_ratio,
            seed=self.seed,
        )


@dataclass(frozen=True, kw_only=True)
class TheoryRun(ProblemFlags):
    """Run the exact gradient flow from many random starts and say how they end.

    The first call compiles for about half a minute; the machine code is kept.
    """

    time: float = 1e8
    """Gradient-flow time to run to: learning rate x steps."""
    starts: int = 100
    """Random starts."""
    rtol: float = 1e-6
    """Relative tolerance of a step."""
    json: Path | None = None
    """Write the numbers to this file."""
    out: Path | None = None
    """Write a page and its pictures into this directory."""

    def __call__(self) -> None:
        result = ensemble(self.problem(), time=self.time, count=self.starts, rtol=self.rtol)
        show(result, Console())
        if self.json is not None:
            write_json(self.json, result.to_dict())


def show(result: Ensemble, console: Console) -> None:
    """Print the shares and medians of one ensemble."""
    numbers = result.to_dict()
    table = Table(title=f"{numbers['starts']} starts to time {result.time:g}", show_header=False)
    for name, value in numbers.items():
        if isinstance(value, float) or value is None:
            table.add_row(name.replace("_", " "), "never" if value is None else f"{value:.4g}")
    console.print(table)
    for failure in numbers["failures"]:
        console.print(f"start {failure['start']} failed: {failure['why']}")


def write_json(path: Path, content: Any) -> None:
    """Write the file, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.name + ".part")
    part.write_text(json.dumps(content, indent=2) + "\n")
    part.replace(path)
