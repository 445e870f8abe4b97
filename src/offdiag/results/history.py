"""The record of one training run: readings over time, head matrices, evaluation.

A run directory holds
    config.json       settings, versions and machine
    metrics.jsonl     one row per reading, appended as training goes
    head.npz          the head's matrix at the start, at its peak and at the end
    evaluation.json   what the frozen features are worth, once training is over
    checkpoint.pt     all that training needs to go on
and `RunRecord.load` reads all but the last.
"""

import io
import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
from jaxtyping import Float

from offdiag._checks import RunError
from offdiag._files import append_line, finite, write_whole
from offdiag.results.description import Description
from offdiag.results.observation import Observation
from offdiag.results.readings import NAN, HeadReadings, Readings, restored

CONFIG_FILE = "config.json"
METRICS_FILE = "metrics.jsonl"
HEAD_FILE = "head.npz"
EVALUATION_FILE = "evaluation.json"


@dataclass(frozen=True, kw_only=True)
class Row:
    """One reading of a run. `loss` is the mean over the steps since the row before.

    `knn` maps features and projection to an accuracy in [0, 1], and is None without
    labels; `head` is None for a head that is not one matrix, `prediction` for a method without a
    head. `terms` are the means of the loss's named terms, without their weights.
    `waiting_share` is the share of the steps' time, in [0, 1], that went by waiting for
    images to be decoded; `peak_memory_gib` the most memory held so far, on the accelerator
    or, without one, by the process that trains. Both are nan in older files.
    `seconds` is wall time spent training, pauses between resumed pieces left out.
    """

    step: int
    epoch: float
    seconds: float
    loss: float
    learning_rate: float
    head_learning_rate: float
    images_per_second: float
    features: Readings
    projection: Readings
    prediction: Readings | None
    head: HeadReadings | None
    knn: Mapping[str, float] | None
    waiting_share: float = NAN
    peak_memory_gib: float = NAN
    terms: Mapping[str, float] = field(default_factory=dict)

    @classmethod
    def from_dict(cls, row: Mapping[str, Any]) -> "Row":
        """Read what `to_json` wrote, null standing for nan."""
        parts: dict[str, Any] = {
            name: Readings(**restored(row[name]))
            for name in ("features", "projection", "prediction")
            if row[name] is not None
        }
        parts["terms"] = restored(row.get("terms", {}))
        for name in ("waiting_share", "peak_memory_gib"):
            if row.get(name) is None:
                parts[name] = NAN
        if row["head"] is not None:
            parts["head"] = HeadReadings(**restored(row["head"]))
        return cls(**{**row, **parts})

    def observation(self) -> Observation:
        """The same readings as a monitor of any run would give them."""
        parts = {"encoder": self.features, "projector": self.projection}
        if self.prediction is not None:
            parts["predictor"] = self.prediction
        return Observation(step=self.step, parts=parts, head=self.head, loss=self.loss)

    def to_json(self) -> str:
        """One line of JSON; nan, which JSON lacks, becomes null."""
        return json.dumps(finite(asdict(self)), allow_nan=False)

    def scalars(self) -> dict[str, float]:
        """Every number of the row under a flat name such as "projection/rankme".

        What was not measured (nan) is left out.
        """
        flat: dict[str, float] = {f"loss/{name}": value for name, value in self.terms.items()}
        for name, value in asdict(self).items():
            if name == "terms":
                continue
            if isinstance(value, dict):
                numbers = {f"{name}/{k}": v for k, v in value.items() if isinstance(v, float)}
                flat |= {k: v for k, v in numbers.items() if not math.isnan(v)}
            elif value is not None:
                flat[name] = value
        return flat


@dataclass(frozen=True, kw_only=True)
class HeadMatrices:
    """The head's matrix at three moments, with the epoch of each.

    `peak` is the reading with the largest off-diagonal norm.
    """

    start: Float[np.ndarray, "dim dim"]
    peak: Float[np.ndarray, "dim dim"]
    end: Float[np.ndarray, "dim dim"]
    peak_epoch: float
    end_epoch: float


@dataclass(frozen=True, kw_only=True)
class RunRecord:
    """All that can be told about one run without loading its weights.

    `evaluation` is {"knn": {"features", "projection"}, "linear": {...}, "settings"}
    with accuracies in [0, 1]; None while training goes on or without labels.
    """

    name: str
    config: Mapping[str, Any]
    circumstances: Mapping[str, Any]
    history: tuple[Row, ...]
    head: HeadMatrices | None
    evaluation: Mapping[str, Any] | None

    @property
    def description(self) -> Description:
        """The method and the head, in words."""
        return Description.of(self.config, self.circumstances)

    @classmethod
    def load(cls, directory: Path, *, name: str | None = None) -> "RunRecord":
        """Read a run directory, finished or not; RunError says what is missing."""
        described = read_config(directory)
        history = read_history(directory / METRICS_FILE)
        if not history:
            raise RunError(
                f"{directory} has no readings yet: train for at least one epoch, or resume it."
            )
        return cls(
            name=name or directory.name,
            config=described["config"],
            circumstances=described["circumstances"],
            history=history,
            head=read_head(directory / HEAD_FILE),
            evaluation=read_evaluation(directory / EVALUATION_FILE),
        )


def read_config(directory: Path) -> dict[str, Any]:
    """The settings and circumstances a run was started with."""
    path = directory / CONFIG_FILE
    try:
        described = json.loads(path.read_text())
        return {"config": described["config"], "circumstances": described["circumstances"]}
    except OSError:
        raise RunError(
            f"{directory} is not a run directory: it has no {CONFIG_FILE} to read. "
            "Give a directory written by `offdiag train`."
        ) from None
    except (ValueError, KeyError, TypeError) as error:
        raise RunError(
            f"{path} is not a configuration written by offdiag ({error}): start the run anew."
        ) from None


def read_history(path: Path) -> tuple[Row, ...]:
    """The rows of a metrics file; a last line cut short by a kill is left out."""
    if not path.exists():
        return ()
    try:
        lines = path.read_text().split("\n")  # what follows the last newline was cut short
        return tuple(Row.from_dict(json.loads(line)) for line in lines[:-1] if line)
    except (ValueError, KeyError, TypeError) as error:
        raise RunError(
            f"{path} is not a metrics file written by offdiag ({error}): "
            "restore it, or start the run anew."
        ) from None


def read_head(path: Path) -> HeadMatrices | None:
    """The head matrices of a run, or None if its head is not a single matrix."""
    if not path.exists():
        return None
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
            return HeadMatrices(
                start=arrays["start"],
                peak=arrays["peak"],
                end=arrays["end"],
                peak_epoch=float(arrays["peak_epoch"]),
                end_epoch=float(arrays["end_epoch"]),
            )
    except (OSError, EOFError, ValueError, KeyError, BadZipFile) as error:
        raise RunError(f"{path} cannot be read ({error}): remove it and resume the run.") from None


def read_evaluation(path: Path) -> dict[str, Any] | None:
    """The final evaluation of a run, or None if there is none."""
    if not path.exists():
        return None
    try:
        evaluation: dict[str, Any] = json.loads(path.read_text())
        return evaluation
    except ValueError as error:
        raise RunError(f"{path} cannot be read ({error}): remove it and resume the run.") from None


def append_row(path: Path, row: Row) -> None:
    """Add one row to a metrics file and bring it to the disk."""
    append_line(path, row.to_json())


def keep_rows(path: Path, *, last_step: int) -> None:
    """Drop the rows of a metrics file after `last_step`, and a last line cut short by a kill."""
    kept = [row for row in read_history(path) if row.step <= last_step]
    if path.exists():
        write_whole(path, "".join(row.to_json() + "\n" for row in kept))


def write_head(directory: Path, head: HeadMatrices) -> None:
    """Write the head matrices of a run."""
    buffer = io.BytesIO()
    np.savez(buffer, **asdict(head))
    write_whole(directory / HEAD_FILE, buffer.getvalue())
