"""A grid of runs: every combination of the values of some settings, for every seed."""

import dataclasses
import difflib
import itertools
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, get_type_hints

from offdiag._checks import ConfigError
from offdiag.registry import PARTS, Setting, settings_of
from offdiag.runs.config import AUTO, METHOD_PARTS, RunConfig

PLURALS = {"heads": "head", "methods": "method", "normalisers": "normaliser", "seeds": "seed"}
"""Keywords of the first version, each an axis."""
BARE = ("method", "head", "normaliser")
"""Axes whose values name themselves in the name of a cell, which always has them."""
SEED = "seed"

Value = Any
"""What a setting may be: a number, a word, or a tuple of numbers."""


@dataclass(frozen=True, kw_only=True)
class Grid:
    """Every combination of the values of `axes`, around the settings of one run.

    An axis is a setting of a run ("lr", "head", "seed") or of one of its parts
    ("method.variance"). Where the method varies, a combination in which a method has no such
    part, or no such setting, is one cell without it. `heads`, `methods`, `normalisers` and
    `seeds` are axes too, by the names of the first version.
    """

    base: RunConfig = field(default_factory=RunConfig)
    axes: Mapping[str, tuple[Value, ...]] = field(default_factory=dict)
    rows: tuple[Mapping[str, Value], ...] = ()
    """Combinations one by one, in place of a product: each with every value of `axes`."""
    heads: tuple[str, ...] = ()
    methods: tuple[str, ...] = ()
    normalisers: tuple[str, ...] = ()
    seeds: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        for plural, axis in PLURALS.items():
            if getattr(self, plural) and axis in self.axes:
                raise ConfigError(f"{axis} varies twice: give {plural} or {axis}, not both.")
        for axis, values in self.varied.items():
            name = next((p for p in PLURALS if PLURALS[p] == axis and getattr(self, p)), axis)
            if not values:
                raise ConfigError(f"{name} of a grid needs at least one value.")
            if len(set(values)) < len(values):
                listed = ", ".join(text(value) for value in values)
                raise ConfigError(f"the {name} of a grid must be different; got {listed}.")
        self.configs()

    @property
    def varied(self) -> dict[str, tuple[Value, ...]]:
        """All axes with their values, the seed last: a grid that is stopped early is complete
        for its first values of the others only if the seed is the outermost loop."""
        old = {axis: getattr(self, plural) for plural, axis in PLURALS.items()}
        every = {axis: tuple(values) for axis, values in self.axes.items()}
        every |= {axis: tuple(values) for axis, values in old.items() if values}
        seeds = every.pop(SEED, None)
        return every if seeds is None else {**every, SEED: seeds}

    def cells(self) -> "dict[str, CellSpec]":
        """Every cell by its name, seed by seed, so that the first seeds are complete first."""
        axes = dict(self.varied)
        seeds = axes.pop(SEED, (self.base.seed,))
        of_rows = dict.fromkeys(axis for row in self.rows for axis in row)
        first: tuple[str, ...] = ("method", "normaliser", "head")
        order = [axis for axis in first if axis in axes]
        order += [axis for axis in axes if axis not in order]
        found: dict[str, CellSpec] = {}
        products = [
            dict(zip(order, values, strict=True))
            for values in itertools.product(*(axes[axis] for axis in order))
        ]
        for seed, row, product in itertools.product(seeds, self.rows or ({},), products):
            chosen = {**row, **product, SEED: seed}
            config, kept = applied(self.base, chosen, varied=set(axes))
            name = cell_name(config, kept, [*of_rows, *axes])
            found.setdefault(name, CellSpec(config=config, values=kept))
        return found

    def configs(self) -> dict[str, RunConfig]:
        """The settings of every cell by its name; ConfigError if one of them makes no run."""
        return {name: cell.config for name, cell in self.cells().items()}


@dataclass(frozen=True, kw_only=True)
class CellSpec:
    """The settings of one cell, and its values of the axes; None where it has no such setting."""

    config: RunConfig
    values: Mapping[str, Value]


def applied(
    base: RunConfig, values: Mapping[str, Value], *, varied: Iterable[str] = ()
) -> tuple[RunConfig, dict[str, Value]]:
    """`base` with these values, and the values that the run then has.

    A part, or a setting of a part, that the method does not have is left out and None, if the
    method or that part is one of `varied`; otherwise it is refused.
    """
    varied = set(varied)
    plain = {axis: value for axis, value in values.items() if "." not in axis}
    for axis in plain:
        if axis not in RunConfig.__dataclass_fields__ or axis == "settings":
            raise ConfigError(unknown_axis(axis))
    kept: dict[str, Value] = dict(values)
    takes = PARTS["method"].get(str(plain.get("method", base.method)))
    for axis in METHOD_PARTS:
        missing = takes is not None and axis not in takes.parts
        if missing and "method" in varied and (axis in plain or getattr(base, axis) != AUTO):
            plain[axis] = AUTO
            if axis in kept:
                kept[axis] = None
    config = replace(base, **plain)
    for axis, value in values.items():
        kind, dot, name = axis.partition(".")
        if not dot:
            continue
        if kind not in PARTS:
            raise ConfigError(unknown_axis(axis))
        part = config.parts.get(kind)
        known = () if part is None else settings_of(kind, part)
        if name not in {one.name for one in known}:
            if not {"method", kind} & varied:
                raise ConfigError(_no_setting(axis, part, known))
            kept[axis] = None
            continue
        own = {**config.settings.get(kind, {}), name: value}
        config = replace(config, settings={**config.settings, kind: own})
    return config, kept


def cell_name(config: RunConfig, values: Mapping[str, Value], axes: Iterable[str]) -> str:
    """A name from what varies that a file may have: simsiam_mlp_bn_lr0.003_seed0."""
    parts = config.parts
    words = [parts.get(axis, "none") for axis in BARE]
    words += [
        f"{axis}{slug(values[axis])}"
        for axis in axes
        if axis not in BARE and axis != SEED and values.get(axis) is not None
    ]
    return "_".join([*words, f"seed{config.seed}"])


def slug(value: Value) -> str:
    """A value as part of a file's name."""
    return re.sub(r"[^A-Za-z0-9.+-]+", "-", text(value)).strip("-")


def text(value: Value) -> str:
    """A value in a table or a sentence: 0.003, mlp, 256 64; a dash where there is none."""
    if value is None:
        return "–"
    if isinstance(value, tuple | list):
        return " ".join(text(item) for item in value)
    return f"{value:g}" if isinstance(value, float) else str(value)


def parsed(axis: str, words: Sequence[str], grid_methods: Sequence[str]) -> tuple[Value, ...]:
    """The values of an axis as the words of a command line spell them; ConfigError otherwise.

    The type is that of the setting: of a run, or of the first of the methods that has it.
    Widths, as of the projector, are joined by commas: 256,64.
    """
    if not words:
        raise ConfigError(f"--vary {axis} needs at least one value.")
    kind = _type_of(axis, grid_methods)
    return tuple(_parse(axis, word, kind) for word in words)


def _type_of(axis: str, methods: Sequence[str]) -> Any:
    part, dot, name = axis.partition(".")
    if not dot:
        if axis not in RunConfig.__dataclass_fields__ or axis == "settings":
            raise ConfigError(unknown_axis(axis))
        return get_type_hints(RunConfig)[axis]
    if part not in PARTS:
        raise ConfigError(unknown_axis(axis))
    names = methods if part == "method" else tuple(PARTS[part])
    for one in names:
        if one in PARTS[part]:
            for setting in settings_of(part, one):
                if setting.name == name:
                    return setting.type
    raise ConfigError(f"no {part} of this grid has a setting {name!r}: see `offdiag list {part}s`.")


def _parse(axis: str, word: str, kind: Any) -> Value:
    options = getattr(kind, "__args__", ()) or (kind,)
    if getattr(kind, "__origin__", None) is tuple:
        return tuple(_parse(axis, one, options[0]) for one in word.split(","))
    if type(None) in options and word in ("none", "None"):
        return None
    for option in options:
        if option is bool and word.lower() in ("true", "false"):
            return word.lower() == "true"
        if option in (int, float):
            try:
                return option(word)
            except ValueError:
                continue
        if option is Path:
            return Path(word)
        if option is str or isinstance(option, str):
            return word
    wanted = " or ".join(getattr(option, "__name__", str(option)) for option in options)
    raise ConfigError(f"--vary {axis} takes values of type {wanted}; got {word!r}.")


def unknown_axis(axis: str) -> str:
    """The sentence for what is no setting of a run."""
    names = [item.name for item in dataclasses.fields(RunConfig) if item.name != "settings"]
    close = difflib.get_close_matches(axis, names, n=1)
    hint = f"did you mean {close[0]}? " if close else ""
    return (
        f"{axis!r} is no setting of a run: {hint}Settings are those of `offdiag train --help`, and "
        "method.NAME, head.NAME and so on for those of a part."
    )


def _no_setting(axis: str, part: str | None, known: Sequence[Setting]) -> str:
    kind, _, name = axis.partition(".")
    if part is None:
        return f"the runs of this grid have no {kind}, so {axis} cannot vary."
    has = ", ".join(f"{kind}.{one.name}" for one in known) or "none"
    return f"the {kind} {part!r} has no setting {name!r}: it has {has}."
