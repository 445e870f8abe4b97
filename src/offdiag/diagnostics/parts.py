"""Finding the encoder, projector, predictor and target of somebody else's model by their names.

Packages agree on what the parts are and not on what they are called; `SCHEMES` lists what they
call them. A name is a dotted path of attributes. `<path` reads what goes into that module
instead of what comes out, `path[1]` the second thing that comes out.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from offdiag._checks import ConfigError
from offdiag.results.observation import PARTS

Scheme = Mapping[str, tuple[str, ...]]

SCHEMES: Mapping[str, Scheme] = {
    "lightly": {
        "encoder": ("backbone",),
        "projector": ("projection_head",),
        "predictor": ("prediction_head",),
        "target": (
            "projection_head_momentum",
            "backbone_momentum",
            "teacher_projection_head",
            "teacher_backbone",
        ),
    },
    "lightly, DINO": {
        "encoder": ("student_backbone",),
        "projector": ("student_head", "student_projection_head"),
        "target": ("teacher_head", "teacher_backbone", "projection_head"),
    },
    "solo-learn": {
        "encoder": ("backbone", "encoder"),
        "projector": ("projector", "head"),
        "predictor": ("predictor",),
        "target": ("momentum_projector", "momentum_head", "momentum_backbone", "momentum_encoder"),
    },
    "stable-pretraining": {
        "encoder": ("backbone.student", "encoder.student"),
        "projector": ("projector.student",),
        "predictor": ("predictor",),
        "target": ("projector.teacher", "backbone.teacher", "encoder.teacher"),
    },
    "simsiam": {
        "encoder": ("<encoder.fc",),
        "projector": ("encoder.fc",),
        "predictor": ("predictor",),
    },
    "byol-pytorch": {
        "encoder": ("online_encoder[1]",),
        "projector": ("online_encoder[0]",),
        "predictor": ("online_predictor",),
        "target": ("target_encoder[0]",),
    },
    "I-JEPA": {
        "encoder": ("encoder",),
        "predictor": ("predictor",),
        "target": ("target_encoder",),
    },
    "DINO": {
        "encoder": ("student.backbone", "student"),
        "projector": ("student.head", "student.projector"),
        "predictor": ("predictor",),
        "target": ("teacher.head", "teacher.projector", "teacher.backbone", "teacher"),
    },
    "offdiag": {
        "encoder": ("encoder",),
        "projector": ("projector",),
        "predictor": ("head",),
        "target": ("target_projector",),
    },
    "others": {
        "encoder": ("backbone", "encoder", "online_encoder", "online_network", "net"),
        "projector": ("projector", "projection_head", "projection", "online_projector"),
        "predictor": ("predictor", "prediction_head", "online_predictor"),
        "target": ("target_projector", "projector_ema", "target_network", "target_encoder"),
    },
}
"""Names by package, each part's in order of preference; the scheme that names most parts wins,
the earlier one where two name as many."""

DEPTH = 3
"""How far below the model a scheme is looked for: a LightningModule may hold the method that
holds the parts."""


@dataclass(frozen=True, kw_only=True)
class Tap:
    """Where a part is read: a module, and which of the things that go in or come out."""

    name: str
    module: nn.Module
    inputs: bool = False
    index: int | None = None

    def pick(self, arguments: tuple[Any, ...], output: Any) -> Tensor | None:
        """The tensor to read of one call, or None if there is none.

        Of a tuple, a list or a dict without an index it is the first tensor of two
        dimensions or more.
        """
        found = arguments if self.inputs else output
        if self.index is not None and isinstance(found, tuple | list):
            found = found[self.index] if self.index < len(found) else None
        return next(_tensors(found), None)


def _tensors(value: Any) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        if value.is_floating_point() and value.ndim >= 2:
            yield value
    elif isinstance(value, Mapping):
        for item in value.values():
            yield from _tensors(item)
    elif isinstance(value, tuple | list):
        for item in value:
            yield from _tensors(item)


def unwrapped(module: nn.Module) -> nn.Module:
    """The module inside DistributedDataParallel, FSDP, torch.compile or Fabric."""
    while True:
        inner = getattr(module, "_orig_mod", None)
        if not isinstance(inner, nn.Module) and len(list(module.children())) == 1:
            # One child named `module` is what every wrapper of torch looks like.
            inner = getattr(module, "module", None)
        if not isinstance(inner, nn.Module):
            inner = getattr(module, "_original_module", None)  # Fabric
        if not isinstance(inner, nn.Module) or inner is module:
            return module
        module = inner


def find_parts(
    model: nn.Module | Mapping[str, nn.Module] | None,
    **told: nn.Module | str | None,
) -> dict[str, Tap]:
    """Where to read each part of `model`: as `told`, the rest by the names in `SCHEMES`.

    `model` may be wrapped, or hold what holds the parts, or be a mapping of names to modules
    for a loop that keeps them apart (`{"student": ..., "teacher": ...}`). `told` maps parts
    to modules or to dotted names below the model. A target that is the online network
    itself is left out. ConfigError, with the children that there are, if nothing is found.
    """
    roots = [] if model is None else list(_below(_as_module(model)))
    taps = {
        part: _told(part, where, roots[0] if roots else None)
        for part, where in told.items()
        if where is not None
    }
    for part, tap in _by_name(roots).items():
        taps.setdefault(part, tap)
    if not taps:
        raise ConfigError(_nothing_found(roots[0] if roots else None))
    online = [tap.module for part, tap in taps.items() if part != "target"]
    if "target" in taps and any(taps["target"].module is module for module in online):
        del taps["target"]
    return {part: taps[part] for part in PARTS if part in taps}


def _as_module(model: nn.Module | Mapping[str, nn.Module]) -> nn.Module:
    if isinstance(model, nn.Module):
        return unwrapped(model)
    holder = nn.Module()
    holder.__dict__["_modules"] = dict(model)  # no registration, so that names may be anything
    return holder


def _below(model: nn.Module) -> Iterator[nn.Module]:
    """The model and the modules within it, nearest first."""
    level = [model]
    for _ in range(DEPTH):
        yield from level
        level = [unwrapped(child) for module in level for child in module.children()]


def _by_name(roots: list[nn.Module]) -> dict[str, Tap]:
    """The nearest module with an encoder and another part; else the nearest with an encoder."""
    alone: dict[str, Tap] = {}
    for root in roots:
        found = max((_match(root, scheme) for scheme in SCHEMES.values()), key=len)
        if len(found) > 1:
            return found
        alone = alone or found
    return alone


def _match(root: nn.Module, scheme: Scheme) -> dict[str, Tap]:
    found: dict[str, Tap] = {}
    for part, names in scheme.items():
        tap = next((tap for name in names if (tap := _tap(root, name)) is not None), None)
        if tap is not None:
            found[part] = tap
    return found if "encoder" in found else {}


def _tap(root: nn.Module, name: str) -> Tap | None:
    path, _, index = name.removeprefix("<").removesuffix("]").partition("[")
    module = _at(root, path)
    if module is None or isinstance(module, nn.Identity) and path.endswith(".fc"):
        return None
    return Tap(
        name=name,
        module=module,
        inputs=name.startswith("<"),
        index=int(index) if index else None,
    )


def _at(root: nn.Module, path: str) -> nn.Module | None:
    """The module at a dotted path, wrappers on the way taken off, the last one left on.

    The last is what the training code calls, and so where hooks are heard.
    """
    module = root
    for name in path.split("."):
        inner = getattr(unwrapped(module), name, None)
        if not isinstance(inner, nn.Module):
            return None
        module = inner
    return module


def _told(part: str, where: nn.Module | str, root: nn.Module | None) -> Tap:
    if isinstance(where, nn.Module):
        return Tap(name=type(where).__name__, module=where)
    tap = None if root is None else _tap(root, where)
    if tap is None:
        raise ConfigError(
            f"no module named {where!r} for the {part}; {_children(root)}. Give a dotted name "
            "below the model, or the module itself."
        )
    return tap


def _children(root: nn.Module | None) -> str:
    if root is None:
        return "there is no model to look in"
    names = [name for name, _ in root.named_children()]
    return f"the children of {type(root).__name__} are {', '.join(names) or 'none'}"


def _nothing_found(root: nn.Module | None) -> str:
    return (
        "found no encoder by any name that lightly, solo-learn, stable-pretraining, simsiam, "
        f"byol-pytorch, I-JEPA or DINO use; {_children(root)}. Say which module is which: "
        "Monitor(model, encoder=..., projector=..., predictor=..., target=...), each a module "
        "or a dotted name."
    )
