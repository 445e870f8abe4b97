"""Diagnose a run or a file of embeddings: read it, hold it against noise, judge it."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from offdiag._checks import ConfigError, DataError, RunError
from offdiag._types import Embeddings, Labels
from offdiag.diagnostics.diagnosis import Diagnosis
from offdiag.diagnostics.named_cause import named_causes
from offdiag.diagnostics.readings import noise_readings
from offdiag.diagnostics.run_verdict import gaussian_baselines, judge_run, observations
from offdiag.diagnostics.verdict import Kind, Verdict, judge_embeddings
from offdiag.embeddings.labels import NAMES as LABEL_NAMES
from offdiag.embeddings.labels import open_labels
from offdiag.embeddings.reader import (
    OURS,
    READERS,
    EmbeddingArray,
    arrays_of,
    open_embeddings,
)
from offdiag.evaluation.knn import NEIGHBOURS, TEMPERATURE, knn_accuracy
from offdiag.results.history import CONFIG_FILE, METRICS_FILE, RunRecord
from offdiag.results.observation import OBSERVATION_FILE, MonitorRecord, Observation
from offdiag.results.readings import Readings
from offdiag.runs.circumstances import circumstances
from offdiag.runs.read_array import POSITION_ONLY, ReadArray, rank_bound, read_array

Source = Path | str | Tensor | np.ndarray

QUERY_SHARE = 0.2
RECORD_HEADER = 200
"""Characters of a monitor's file in which its first key is found."""


def diagnose(
    source: Source,
    *,
    views: Source | None = None,
    labels: Source | None = None,
    key: str | None = None,
    tokens: str | None = None,
    name: str | None = None,
) -> Diagnosis:
    """Does it collapse? A run directory, a monitor's file, or embeddings, in a file or in memory.

    Embeddings have a row for each image, (images x width), in float16, bfloat16, float32 or
    float64; files end in .npy, .npz, .pt, .safetensors or .parquet and are read in
    pieces, so that memory does not grow with their rows: at most about 250 MiB for a
    sample of each view, and 40 bytes for each entry of the width x width covariance.
    `views` holds a second view of the same images, row by row: alignment and LiDAR
    need it. `labels` gives one class for each row: their nearest-neighbour accuracy is
    shown beside the verdict, which never sees it. `key` chooses among the arrays of a
    file, `tokens` ("mean" or "flatten") says what becomes of (images x tokens x width).
    A DataError, ConfigError or RunError says in one sentence what cannot be used.
    """
    if isinstance(source, str | Path) and _is_run(path := Path(source)):
        given = {"views": views, "labels": labels, "a key": key, "tokens": tokens}
        if extra := [word for word, value in given.items() if value is not None]:
            raise ConfigError(
                f"{path} is a run, which brings its own readings: {extra[0]} goes with a file of "
                "embeddings only."
            )
        return _run(path, name)
    return _embeddings(source, views, labels, key, tokens, name)


def is_record(path: Path) -> bool:
    """A directory, or a monitor's file; any other .jsonl holds embeddings."""
    if path.is_dir() or path.suffix != ".jsonl" or path.name == OBSERVATION_FILE:
        return path.is_dir() or path.suffix == ".jsonl"
    try:
        with path.open(errors="replace") as file:
            return '"offdiag_monitor"' in file.readline(RECORD_HEADER)
    except OSError:
        return True  # to be refused as a record that cannot be read


def _is_run(path: Path) -> bool:
    if is_record(path):
        return True
    if not path.suffix and not path.exists():
        raise RunError(
            f"{path} does not exist: give a run directory, a {OBSERVATION_FILE}, or a file of "
            f"embeddings ({', '.join(READERS)})."
        )
    return False


def _run(path: Path, name: str | None) -> Diagnosis:
    if path.is_dir() and (path / METRICS_FILE).exists():
        return _own_run(path, name or path.resolve().name)
    file = path / OBSERVATION_FILE if path.is_dir() else path
    if path.is_dir() and not file.exists():
        what = (
            "has no readings yet: train for at least one epoch, or resume it"
            if (path / CONFIG_FILE).exists()
            else f"is not a run directory: it has neither {METRICS_FILE} nor {OBSERVATION_FILE}"
        )
        raise RunError(f"{path} {what}.")
    record = MonitorRecord.load(file)
    if not record.history:
        raise RunError(f"{file} has no observation yet: let the run go on for some steps.")
    return _of_record(record, name or record.name, dict(record.about), {})


def _own_run(directory: Path, name: str) -> Diagnosis:
    record = RunRecord.load(directory)
    parts = {"features": "encoder", "projection": "projector"}
    knn = {parts[part]: value for part, value in (record.history[-1].knn or {}).items()}
    about = {"config": record.config, "circumstances": record.circumstances}
    return _of_record(record, name, about, knn)


def _of_record(
    record: RunRecord | MonitorRecord, name: str, about: dict[str, Any], knn: Mapping[str, float]
) -> Diagnosis:
    history = observations(record)
    first, last = history[0], history[-1]
    known = record.noise if isinstance(record, MonitorRecord) else {}
    record_notes = record.notes if isinstance(record, MonitorRecord) else ()
    verdict = judge_run(record)
    return Diagnosis(
        name=name,
        verdict=verdict,
        causes=named_causes(record, verdict) if isinstance(record, MonitorRecord) else (),
        readings=last.parts,
        noise=gaussian_baselines(history, known),
        start=first.parts if first.step == 0 and len(history) > 1 else {},
        head=last.head,
        history=history,
        knn=knn,
        notes=(
            *(note for part, read in last.parts.items() for note in rank_bound(part, read)),
            *_lost_losses(history),
            *(f"Step {note.step:,}: {note.text}" for note in record_notes),
        ),
        about=about,
    )


def _lost_losses(history: Sequence[Observation]) -> tuple[str, ...]:
    """The note that some losses are not finite; a run that tells no loss has none that is."""
    told = [row for row in history if row.step > 0]
    bad = [row.step for row in told if not math.isfinite(row.loss)]
    if not bad or len(bad) == len(told):
        return ()
    return (
        f"The loss is not a finite number at {len(bad)} of {len(told)} observations, first at step "
        f"{bad[0]:,}: the verdict does not use it, and the training does.",
    )


def _embeddings(
    source: Source,
    views: Source | None,
    labels: Source | None,
    key: str | None,
    tokens: str | None,
    name: str | None,
) -> Diagnosis:
    arrays = _named(open_embeddings(source, key=key, tokens=tokens))
    others: dict[str, EmbeddingArray] = {}
    if views is not None:
        # In memory there is nothing to choose from.
        view_key = key if isinstance(views, str | Path) else None
        opened = open_embeddings(views, key=view_key, tokens=tokens, name="the second view")
        others = dict(zip(arrays, opened, strict=False))
        _same_shapes(list(arrays.values()), opened)
    classes, where = _labels(source, labels, next(iter(arrays.values())), tokens)
    read = {part: read_array(array, others.get(part)) for part, array in arrays.items()}
    noise = {
        part: noise_readings(array.rows, array.dim, views=2 if part in others else 1)
        for part, array in arrays.items()
    }
    verdicts = {part: _judged(one, noise[part]) for part, one in read.items()}
    knn, chance = {}, math.nan
    if classes is not None:
        for part, one in read.items():
            knn[part], chance = _knn(one.rows, classes[one.places])
    about: dict[str, Any] = {
        part: {"where": array.where, "shape": [array.rows, array.dim], "type": array.dtype}
        for part, array in arrays.items()
    }
    about |= {f"{part}, second view": {"where": other.where} for part, other in others.items()}
    if classes is not None:
        about["labels"] = {
            "where": where,
            "classes": int(classes.max()) + 1,
            "neighbours": NEIGHBOURS,
            "similarity": "cosine",
            "weight": f"exp(similarity / {TEMPERATURE})",
            "rows": len(next(iter(read.values())).places),
            "asked": f"{QUERY_SHARE:.0%} of them, drawn with a fixed seed; the rest is stored",
            "largest class": chance,
        }
    return Diagnosis(
        name=name or (Path(source).name if isinstance(source, str | Path) else "embeddings"),
        verdict=_together(verdicts),
        readings={part: one.readings for part, one in read.items()},
        noise=noise,
        knn=knn,
        notes=tuple(note for one in read.values() for note in one.notes),
        about=about | circumstances(),
    )


def _judged(read: ReadArray, baseline: Readings) -> Verdict:
    verdict = judge_embeddings(read.readings, baseline)
    if not read.by_position > POSITION_ONLY:
        return verdict
    return replace(
        verdict,
        kind=Kind.COMPLETE,
        score=1.0,
        sentence=f"The tokens depend on their position and not on the image: "
        f"{100 * read.by_position:.2f}\u00a0% of their variance lies between positions.",
    )


def _named(arrays: Sequence[EmbeddingArray]) -> dict[str, EmbeddingArray]:
    """The arrays by the name under which they are spoken of: a single one needs none."""
    return {array.name: array for array in arrays} if len(arrays) > 1 else {"embeddings": arrays[0]}


def _same_shapes(arrays: Sequence[EmbeddingArray], others: Sequence[EmbeddingArray]) -> None:
    if len(arrays) != len(others):
        raise DataError(
            f"the second view needs the same arrays as the first; it has {len(others)}, and the "
            f"first has {len(arrays)}: choose one with --key."
        )
    for array, other in zip(arrays, others, strict=True):
        if (array.rows, array.dim) != (other.rows, other.dim):
            raise DataError(
                "two views must have the same images in the same order, so the same shape; "
                f"{array.where} has ({array.rows:,} x {array.dim:,}), {other.where} has "
                f"({other.rows:,} x {other.dim:,})."
            )


def _labels(
    source: Source, labels: Source | None, array: EmbeddingArray, tokens: str | None
) -> tuple[Labels | None, str]:
    """The classes of the rows and where they come from; those in a file of `offdiag embed` too."""
    if labels is None and isinstance(source, str | Path) and array.name in OURS:
        beside = [one for one in arrays_of(Path(source)) if one.name == LABEL_NAMES[0]]
        if beside and beside[0].shape == (array.rows,) and "int" in beside[0].dtype:
            labels = source
    if labels is None:
        return None, ""
    if tokens == "flatten":
        raise ConfigError(
            "labels name images, and --tokens flatten gives every token a row: use --tokens mean."
        )
    where = str(labels) if isinstance(labels, str | Path) else "in memory"
    return open_labels(labels, rows=array.rows), where


def _knn(rows: Embeddings, classes: Labels) -> tuple[float, float]:
    """Accuracy of the neighbours on a fifth of the rows, and the share of its largest class."""
    order = torch.randperm(len(rows), generator=torch.Generator().manual_seed(0))
    asked = max(round(QUERY_SHARE * len(rows)), 1)
    queries, stored = order[:asked], order[asked:]
    accuracy = knn_accuracy(
        rows[stored].float(),
        classes[stored],
        rows[queries].float(),
        classes[queries],
        neighbours=min(NEIGHBOURS, len(stored)),
    )
    largest = classes[queries].bincount().max().item() / asked
    return accuracy, largest


def _together(verdicts: Mapping[str, Verdict]) -> Verdict:
    """One verdict on several arrays: that of the worst, collapse before doubt before health."""
    if len(verdicts) == 1:
        return next(iter(verdicts.values()))

    def badness(part: str) -> tuple[int, float]:
        kind, score = verdicts[part].kind, verdicts[part].score
        order = {Kind.HEALTHY: 0, Kind.UNKNOWN: 1}.get(kind, 2)
        return order, score if math.isfinite(score) else 0.0

    worst = max(verdicts, key=badness)
    others = tuple(
        f"{part}: {verdict.kind.value}. {verdict.sentence}"
        for part, verdict in verdicts.items()
        if part != worst
    )
    chosen = verdicts[worst]
    where = None if chosen.kind == Kind.HEALTHY else worst
    return replace(
        chosen,
        part=where,
        sentence=f"{worst}: {chosen.sentence}",
        evidence=chosen.evidence + others,
    )
