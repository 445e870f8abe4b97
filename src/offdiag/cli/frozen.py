"""`offdiag evaluate` and `offdiag embed`"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from tyro.conf import Positional

from offdiag._checks import ConfigError
from offdiag.cli.progress import console
from offdiag.data.data import Data
from offdiag.data.from_file import data_of_file
from offdiag.runs.config import RunConfig, is_own_file
from offdiag.runs.frozen import FrozenRun


@dataclass(frozen=True, kw_only=True)
class Evaluate:
    """kNN and linear probe of a run's frozen features and projection."""

    directory: Annotated[Path, Positional]
    """The run's directory."""
    data: str | None = None
    """FILE.py:FUNCTION again, for a run on data of your own."""
    json: bool = False
    """Print JSON, with the exact settings, instead of a table."""
    device: str = "auto"

    def run(self) -> None:
        if self.data is not None and not is_own_file(self.data):
            raise ConfigError(
                "evaluate takes the run's own data, so --data is FILE.py:FUNCTION for data of your "
                f"own only; got {self.data!r}."
            )
        data = None if self.data is None else data_of_file(self.data)
        result = FrozenRun(self.directory, data=data, device=self.device).evaluate()
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
    """As in `offdiag train`; by default the run's own, unless they are of a file of yours."""
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
        own = self.data is not None and is_own_file(self.data)
        given = data_of_file(self.data) if own and self.data is not None else None
        frozen = FrozenRun(self.directory, data=given, device=self.device)
        data: RunConfig | Data = frozen.config
        if given is not None:
            data = given
        elif self.data is not None:
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
