"""What a monitor sees of any training run at one step, and the file it keeps of it.

The file is JSON lines: a header (`{"offdiag_monitor": 1, ...}`), then one observation, one check
(`{"check": step, ...}`) or one note (`{"note": ..., "step": ...}`) a line.
"""

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from offdiag._checks import RunError
from offdiag._files import append_line, finite, write_whole
from offdiag.results.readings import NAN, HeadReadings, Readings, numbers, restored

OBSERVATION_FILE = "monitor.jsonl"
FORMAT = 1
PARTS = ("encoder", "projector", "predictor", "target")
"""The parts of a run that are read: features, projection, prediction, and the target branch's
projection where that is another network. A run may lack any of them."""


@dataclass(frozen=True, kw_only=True)
class Observation:
    """The readings of one step. `parts` is keyed by names in `PARTS`; `loss` may be nan.

    `checkpoint` names the file or tag that holds the weights of this step, where one does.
    `marks` are numbers on possible causes by name, as `diagnostics.marks` measures them; empty
    where they were not measured.
    """

    step: int
    parts: Mapping[str, Readings]
    head: HeadReadings | None = None
    loss: float = NAN
    checkpoint: str | None = None
    marks: Mapping[str, float] = field(default_factory=dict)

    @classmethod
    def from_dict(cls, plain: Mapping[str, Any]) -> "Observation":
        """Read what `to_json` wrote."""
        return cls(
            step=plain["step"],
            parts={name: Readings(**restored(part)) for name, part in plain["parts"].items()},
            head=None if plain["head"] is None else HeadReadings(**restored(plain["head"])),
            loss=NAN if plain["loss"] is None else plain["loss"],
            checkpoint=plain["checkpoint"],
            marks=restored(plain.get("marks") or {}),
        )

    def to_json(self) -> str:
        """One line of JSON; nan becomes null."""
        return json.dumps(finite(asdict(self)), allow_nan=False)

    def scalars(self) -> dict[str, float]:
        """Every number under a flat name such as "projector/rankme", for any logger.

        What was not measured (nan) is left out.
        """
        flat = {"loss": self.loss}
        for name, part in self.parts.items():
            flat |= {f"{name}/{reading}": value for reading, value in numbers(part).items()}
        if self.head is not None:
            flat |= {f"head/{reading}": value for reading, value in numbers(self.head).items()}
        flat |= {f"marks/{name}": value for name, value in self.marks.items()}
        return {name: value for name, value in flat.items() if not math.isnan(value)}


@dataclass(frozen=True, kw_only=True)
class Check:
    """The marks of one of the first steps, taken without readings: what can be known at once."""

    step: int
    marks: Mapping[str, float]

    def to_json(self) -> str:
        """One line of JSON; nan becomes null."""
        plain = {"check": self.step, "marks": dict(self.marks)}
        return json.dumps(finite(plain), allow_nan=False)


@dataclass(frozen=True, kw_only=True)
class Note:
    """A sentence of the monitor on what it could not read, or put off, and from which step on."""

    step: int
    text: str

    def to_json(self) -> str:
        return json.dumps({"note": self.text, "step": self.step})


@dataclass(frozen=True, kw_only=True)
class MonitorRecord:
    """What a monitor's file holds: who wrote it, the references, the observations.

    `noise` has, for each part, the readings of Gaussian noise of the same shape. The
    network at its random start is the first observation if its step is 0. `checks` are the marks
    of the first steps, `notes` what the monitor had to say.
    """

    name: str
    history: tuple[Observation, ...]
    noise: Mapping[str, Readings] = field(default_factory=dict)
    about: Mapping[str, Any] = field(default_factory=dict)
    checks: tuple[Check, ...] = ()
    notes: tuple[Note, ...] = ()

    @classmethod
    def load(cls, path: Path) -> "MonitorRecord":
        """Read a monitor's file, finished or not; a last line cut short by a kill is left out."""
        try:
            lines = path.read_text().split("\n")
            header = json.loads(lines[0])
            if header["offdiag_monitor"] != FORMAT:
                raise RunError(
                    f"{path} has format {header['offdiag_monitor']}, this version of offdiag reads "
                    f"{FORMAT}: use the version that wrote it."
                )
            rows = [json.loads(line) for line in lines[1:-1] if line]
            return cls(
                name=header["name"],
                history=tuple(Observation.from_dict(row) for row in rows if "parts" in row),
                noise={name: Readings(**restored(part)) for name, part in header["noise"].items()},
                about=header["about"],
                checks=tuple(
                    Check(step=row["check"], marks=restored(row["marks"]))
                    for row in rows
                    if "check" in row
                ),
                notes=tuple(
                    Note(step=row["step"], text=row["note"]) for row in rows if "note" in row
                ),
            )
        except OSError as error:
            raise RunError(f"cannot read {path}: {error.strerror or error}.") from None
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise RunError(
                f"{path} is not a file written by a monitor of offdiag ({error}): restore it, or "
                "give another file."
            ) from None


def start_file(
    path: Path, *, name: str, noise: Mapping[str, Readings], about: Mapping[str, Any]
) -> None:
    """Write the header of a new monitor's file; what stood there is replaced."""
    header = {
        "offdiag_monitor": FORMAT,
        "name": name,
        "noise": {part: asdict(readings) for part, readings in noise.items()},
        "about": dict(about),
    }
    write_whole(path, json.dumps(finite(header), allow_nan=False) + "\n")


def append_observation(path: Path, observation: Observation | Check | Note) -> None:
    """Add one observation, check or note to a monitor's file and bring it to the disk."""
    append_line(path, observation.to_json())
