"""`offdiag evaluate` and `offdiag embed`"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from tyro.conf import Positional

from offdiag._checks import ConfigError
from offdiag.cli.progress import console
from offdiag.runs.config import RunConfig
from offdiag.runs.frozen import FrozenRun


@dataclass(frozen=True, kw_only=True)
class Evaluate:
    """kNN and linear probe of a run's frozen features and projection."""

    directory: Annotated[Path, Positional]
    """The run's directory."""
    json: bool = False
    """Print JSON, with the exact settings, instead of a table."""
    device: str = "auto"

    def run(self) -> None:
        result = FrozenRun(self.directory, device=self.device).evaluate()
        if self.json:
            print(json.dumps(result, indent=1))
            return
        for part in ("features", "projection"):
            console.print(
                f"{part}: kNN {result['knn'][part]:.4f}, linear probe {result['linear'][part]:.4f}"
            )


@dataclass(frozen=True, kw_only=True)
class Embed:
    """Write the embeddings of a data set by a trained run to an .npz file."""

    directory: Annotated[Path, Positional]
    """The run's directory."""
    out: Path
    """File to write: features, projection, split, classes, and labels where there are any."""
    data: str | None = None
    """As in `offdiag train`; by default the run's own."""
    data_root: Path = Path("data")
    download: bool = False
    image_size: int | None = None
    channels: str | None = None
    skip_corrupt: bool = False
    workers: int | None = None
    device: str = "auto"

    def run(self) -> None:
        if self.out.suffix != ".npz":
            raise ConfigError(f"--out must end in .npz; got {self.out}.")
        frozen = FrozenRun(self.directory, device=self.device)
        data = frozen.config
        if self.data is not None:
            data = RunConfig(
                data=self.data,
                data_root=self.data_root,
                download=self.download,
                image_size=self.image_size,
                channels=self.channels,
                skip_corrupt=self.skip_corrupt,
                workers=self.workers,
            )
        count = frozen.embed(data, self.out)
        console.print(f"wrote {count} embeddings to {self.out}", soft_wrap=True)
