"""Finding the encoder, projector, predictor and target of somebody else's model by their names.

Packages agree on what the parts are and not on what they are called; `SCHEMES` lists what they
call them. A name is a dotted path of attributes. `<path` reads what goes into that module
instead of what comes out, `path[1]` the second thing that comes out.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn, strided

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
    # Its momentum network is the one without a prefix.
    "lightly, MSN": {
        "encoder": ("anchor_backbone",),
        "projector": ("anchor_projection_head",),
        "target": ("projection_head", "backbone"),
    },
    "solo-learn": {
        "encoder": ("backbone", "encoder"),
        "projector": ("projector", "head"),
        "predictor": ("predictor",),
        "target": ("momentum_projector", "momentum_head", "momentum_backbone", "momentum_encoder"),
    },
    "stable-pretraining": {
        "encoder": ("backbone.student", "encoder.student"),
        "projector": ("projector.student", "cls_head.student"),
        "predictor": ("predictor",),
        "target": (
            "projector.teacher",
            "cls_head.teacher",
            "backbone.teacher",
            "encoder.teacher",
        ),
    },
    "LeJEPA": {
        "encoder": ("backbone",),
        "projector": ("proj", "projector"),
    },
    "simsiam": {
        "encoder": ("<encoder.fc",),
        "projector": ("encoder.fc",),
        "predictor": ("predictor",),
    },
    # The official one and PyGCL's: the encoder's output is the projection.
    "BGRL": {
        "encoder": ("online_encoder",),
        "predictor": ("predictor",),
        "target": ("target_encoder",),
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
    # LeWM and eb_jepa: encoder, action encoder, predictor over time, a projector or none.
    "LeWM": {
        "encoder": ("encoder",),
        "projector": ("projector",),
        "predictor": ("predictor",),
        "target": ("target_encoder",),
    },
    # TD-MPC2 keeps one encoder for each kind of observation. The others are self-predictive RL.
    "world model": {
        "encoder": ("_encoder.rgb", "_encoder.state", "encoder", "obs_encoder", "conv"),
        "projector": ("projection", "projector"),
        "predictor": (
            "_dynamics",
            "dynamics",
            "dynamics_model",
            "transition",
            "transition_model",
            "latent_model",
        ),
        "target": ("target_encoder", "encoder_target", "obs_encoder_target"),
    },
    "DINO": {
        "encoder": ("student.backbone", "student"),
        "projector": ("student.head", "student.projector"),
        "predictor": ("predictor",),
        "target": ("teacher.head", "teacher.projector", "teacher.backbone", "teacher"),
    },
    # DINOv3 names its teacher model_ema too.
    "DINOv2": {
        "encoder": ("student.backbone",),
        "projector": ("student.dino_head", "student.ibot_head"),
        "target": (
            "teacher.dino_head",
            "teacher.ibot_head",
            "model_ema.dino_head",
            "model_ema.ibot_head",
        ),
    },
    "offdiag": {
        "encoder": ("encoder",),
        "projector": ("projector",),
        "predictor": ("head",),
        "target": ("target_projector", "target_encoder"),
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

TOWERS: Mapping[str, Scheme] = {
    "vision": {
        "encoder": ("vision_model", "visual", "image_encoder"),
        "projector": ("visual_projection", "vision_proj"),
    },
    "text": {
        "encoder": ("text_model", "text_encoder", "transformer"),
        "projector": ("text_projection", "text_proj"),
    },
}
"""Models of two towers (CLIP, SigLIP): each tower is watched by a monitor of its own."""

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
        if value.layout is not strided:  # a graph's features may be sparse; rows are dense
            value = value.to_dense()
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


@dataclass(frozen=True, kw_only=True)
class Found:
    """The parts of a model, whose names they have, and the module that holds them."""

    taps: Mapping[str, Tap]
    library: str = "torch"
    root: nn.Module | None = None
    notes: tuple[str, ...] = ()


def find_parts(
    model: nn.Module | Mapping[str, nn.Module] | None,
    **given: nn.Module | str | None,
) -> dict[str, Tap]:
    """Where to read each part of `model`: as `given`, the rest by the names in `SCHEMES`.

    `model` may be wrapped, or hold what holds the parts, or be a mapping of names to modules
    for a loop that keeps them apart (`{"student": ..., "teacher": ...}`). `given` maps parts
    to modules or to dotted names below the model. A target that is the online network
    itself is left out. ConfigError, with the children that there are, if nothing is found.
    """
    return dict(look(model, **given).taps)


def look(
    model: nn.Module | Mapping[str, nn.Module] | None,
    **given: nn.Module | str | None,
) -> Found:
    """`find_parts`, with whose names they are and what there is to note about them.

    A model of two towers is read at its vision tower. A model of transformers or timm that has
    none of the parts' names is an encoder as a whole.
    """
    roots = [] if model is None else list(_below(_as_module(model)))
    taps = {
        part: _given(part, where, roots[0] if roots else None)
        for part, where in given.items()
        if where is not None
    }
    found = _by_name(roots)
    for part, tap in found.taps.items():
        taps.setdefault(part, tap)
    if not taps:
        raise ConfigError(_nothing_found(roots[0] if roots else None))
    online = [tap.module for part, tap in taps.items() if part != "target"]
    if "target" in taps and any(taps["target"].module is module for module in online):
        del taps["target"]
    return Found(
        taps={part: taps[part] for part in PARTS if part in taps},
        library=found.library,
        root=found.root or (roots[0] if roots else None),
        notes=found.notes if "encoder" not in given or given["encoder"] is None else (),
    )


def towers(model: nn.Module) -> dict[str, dict[str, nn.Module]]:
    """The towers of a model such as CLIP, each as the parts for a monitor of its own.

    `{"vision": {"encoder": ..., "projector": ...}, "text": {...}}`; use as
    `Monitor(None, **towers(model)["text"])`. Empty where there are not two.
    """
    root = unwrapped(model)
    found = {tower: _match(root, scheme) for tower, scheme in TOWERS.items()}
    if not all(found.values()):
        return {}
    return {
        tower: {part: tap.module for part, tap in taps.items()} for tower, taps in found.items()
    }


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


def _by_name(roots: list[nn.Module]) -> Found:
    """The nearest module with an encoder and another part; else the nearest with an encoder."""
    alone: Found | None = None
    for root in roots:
        if towers(root):
            note = (
                "this model has two towers: the vision tower is watched. For the text tower build "
                "another: Monitor(None, **towers(model)['text']) from offdiag.diagnostics.parts."
            )
            return Found(
                taps=_match(root, TOWERS["vision"]), library="towers", root=root, notes=(note,)
            )
        library, found = max(
            ((name, _match(root, scheme)) for name, scheme in SCHEMES.items()),
            key=lambda one: len(one[1]),
        )
        if len(found) > 1:
            return Found(taps=found, library=library, root=root)
        whole = _whole(root)
        if whole is not None:
            return Found(taps={"encoder": whole}, library=library, root=root)
        if found and alone is None:
            alone = Found(taps=found, library=library, root=root)
    return alone or Found(taps={})


def _whole(root: nn.Module) -> Tap | None:
    """A model of transformers, or its base model, or one of timm: an encoder as it is."""
    prefix = getattr(root, "base_model_prefix", None)
    if isinstance(prefix, str) and hasattr(getattr(root, "config", None), "model_type"):
        base = getattr(root, prefix, None) if prefix else None
        if isinstance(base, nn.Module):
            return Tap(name=prefix, module=base)
        return Tap(name=type(root).__name__, module=root)
    if hasattr(root, "forward_features") and hasattr(root, "pretrained_cfg"):
        return Tap(name=type(root).__name__, module=root)
    return None


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

    The last is what the training code calls, and so where hooks run.
    """
    module = root
    for name in path.split("."):
        inner = getattr(unwrapped(module), name, None)
        if not isinstance(inner, nn.Module):
            return None
        module = inner
    return module


def _given(part: str, where: nn.Module | str, root: nn.Module | None) -> Tap:
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
        f"byol-pytorch, BGRL, I-JEPA, LeJEPA, TD-MPC2 or DINO use; {_children(root)}. "
        "Say which module is which: "
        "Monitor(model, encoder=..., projector=..., predictor=..., target=...), each a module "
        "or a dotted name."
    )


def target_modules(found: Found) -> list[nn.Module]:
    """All networks that the scheme names as targets, and the one that is read; none in another."""
    named = [] if "target" not in found.taps else [found.taps["target"].module]
    if found.root is not None and found.library in SCHEMES:
        for name in SCHEMES[found.library].get("target", ()):
            module = _at(found.root, name.partition("[")[0])
            if module is not None:
                named.append(module)
    online = [tap.module for part, tap in found.taps.items() if part != "target"]
    inside = {id(part) for module in online for part in unwrapped(module).modules()}
    unique = {id(m): m for m in map(unwrapped, named) if id(m) not in inside}
    nested = {id(inner) for m in unique.values() for inner in m.modules() if inner is not m}
    return [module for module in unique.values() if id(module) not in nested]


def twins(found: Found) -> list[tuple[nn.Module, nn.Module]]:
    """Each target network with the online one that has the same parameters by name and shape."""
    targets = target_modules(found)
    taken = {id(inner) for target in targets for inner in target.modules()}
    near = [unwrapped(tap.module) for part, tap in found.taps.items() if part != "target"]
    if found.root is not None:
        near += [m for m in _below(found.root) if id(m) not in taken and m is not found.root]
    pairs = []
    for target in targets:
        shape = _signature(target)
        if shape:
            twin = next((m for m in near if id(m) not in taken and _signature(m) == shape), None)
            if twin is not None:
                pairs.append((twin, target))
    return pairs


def _signature(module: nn.Module) -> tuple[tuple[str, Any], ...]:
    return tuple((name, parameter.shape) for name, parameter in module.named_parameters())


def parameters_by_part(found: Found) -> dict[str, list[nn.Parameter]]:
    """The parameters of each part; what lies in several belongs to the later one in the flow."""
    whole = {part: unwrapped(_holder(found, tap)) for part, tap in found.taps.items()}
    taken: set[int] = set()
    kept: dict[str, list[nn.Parameter]] = {}
    for part in reversed([part for part in PARTS if part in whole]):
        inner = _by_index(found.taps[part], whole[part])
        mine = [p for p in inner.parameters() if id(p) not in taken]
        taken |= {id(p) for p in mine}
        kept[part] = mine
    return {part: kept[part] for part in PARTS if part in kept}


def _holder(found: Found, tap: Tap) -> nn.Module:
    """The module whose output a tap reads: of `<encoder.fc` it is `encoder`."""
    parent = tap.name.removeprefix("<").rpartition(".")[0]
    if tap.inputs and parent and found.root is not None:
        return _at(found.root, parent) or tap.module
    return tap.module


def _by_index(tap: Tap, module: nn.Module) -> nn.Module:
    """byol-pytorch's wrapper gives (projection, features): its projector and its net."""
    name = {0: "projector", 1: "net"}.get(tap.index) if tap.index is not None else None
    inner = getattr(module, name, None) if name else None
    return inner if isinstance(inner, nn.Module) else module
