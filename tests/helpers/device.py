"""A device that is not the CPU, on a machine that has none: real numbers, real refusals.

A `Placed` tensor holds its values on the CPU and says that it is on `cuda:0`. Within
`pretend_device()` the factories, `.to`, `.cuda` and generators understand `cuda`, and what a
real card refuses is refused in its words: a CPU tensor that meets one of the device (a CPU
scalar may, where torch lets it), `.numpy()` without `.cpu()`, a generator of another device.
Every operator that reaches torch's dispatcher is checked, whoever calls it.

To C++ the tensors are `meta` tensors, as torch's own fake tensors are: autograd, which would
ask a driver for the streams of CUDA, asks nothing of those. Autocast therefore does not see
them, and no kernel of CUDA runs: what is tested is where things are, not how fast or how exact.
"""

import contextlib
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode, return_and_correct_aliasing
from torch.utils._pytree import tree_flatten, tree_map

from offdiag.data import operations

from .cuda import Card

CUDA, META, CPU = torch.device("cuda", 0), torch.device("meta"), torch.device("cpu")
aten = torch.ops.aten

MAY_MIX = {  # copies, and what torch lets take indices from the CPU
    aten.copy_.default,
    aten._to_copy.default,
    aten.index.Tensor,
    aten.index_put_.default,
    aten._index_put_impl_.default,
}
_drawing: list[str] = []  # where the generators live that are at work: C++ forgets our class


class Placed(torch.Tensor):
    """Values on the CPU that say they are on `cuda:0`."""

    values: torch.Tensor

    @staticmethod
    def __new__(cls, values: torch.Tensor) -> "Placed":
        placed = torch.Tensor._make_wrapper_subclass(
            cls,
            values.shape,
            strides=values.stride(),
            storage_offset=values.storage_offset(),
            dtype=values.dtype,
            device=META,
        )
        placed.values = values
        return placed

    @property
    def device(self) -> torch.device:
        return CUDA

    @property
    def is_cuda(self) -> bool:
        return True

    @property
    def is_cpu(self) -> bool:
        return False

    @property
    def is_meta(self) -> bool:
        return False

    def __repr__(self, **_: Any) -> str:
        return f"Placed({self.values!r})"

    def __reduce_ex__(self, protocol: Any) -> Any:
        return self.values.__reduce_ex__(protocol)

    def __deepcopy__(self, memo: dict[int, Any]) -> "Placed":
        copied = Placed(self.values.detach().clone()).requires_grad_(self.requires_grad)
        return torch.nn.Parameter(copied) if isinstance(self, torch.nn.Parameter) else copied

    @classmethod
    def __torch_dispatch__(cls, func, types, args=(), kwargs=None):
        return run(func, args, kwargs or {})


class Generator(torch.Generator):
    """A generator that says where it lives and draws on the CPU."""

    lives: torch.device

    def __new__(cls, device: Any = "cpu") -> "Generator":
        made = super().__new__(cls, "cpu")
        made.lives = torch.device(device)
        return made

    @property
    def device(self) -> torch.device:
        return self.lives


def refuse(why: str) -> None:
    raise RuntimeError(why)


def run(func: Any, args: Any, kwargs: Any) -> Any:
    """One operator of torch: check where everything is, compute on the CPU, place the result."""
    given = [x for x in tree_flatten((args, kwargs))[0] if isinstance(x, torch.Tensor)]
    placed = [x for x in given if isinstance(x, Placed)]
    others = [x for x in given if not isinstance(x, Placed)]
    assert not any(x.is_meta for x in others), f"{func} was given a tensor without values"
    device = kwargs.get("device")
    # A CPU scalar may meet a device's tensors in pointwise operators, and in no others.
    strangers = [x for x in others if x.dim() > 0 or torch.Tag.pointwise not in func.tags]
    if placed and strangers and func not in MAY_MIX:
        refuse(
            "Expected all tensors to be on the same device, but found at least two devices, "
            f"cuda:0 and cpu! ({func}, {[tuple(x.shape) for x in strangers]})"
        )
    if func is aten.index.Tensor and not isinstance(args[0], Placed) and placed:
        refuse("indices should be either on cpu or on the same device as the indexed tensor (cpu)")
    written = func in MAY_MIX or bool(func._schema.is_mutable)
    target = given[0] if given else None
    if written and placed and not isinstance(target, Placed) and func not in MAY_MIX:
        refuse(f"Expected all tensors to be on the same device: {func} writes to the cpu.")
    there = bool(placed) if device is None else device.type != "cpu"
    if func in (aten.copy_.default, aten.index_put_.default, aten._index_put_impl_.default):
        there = isinstance(args[0], Placed)
    if func is aten.index.Tensor:
        there = isinstance(args[0], Placed)
    if kwargs.get("generator") is not None and _drawing and there != (_drawing[-1] == "cuda"):
        expected, found = ("cuda", "cpu") if there else ("cpu", "cuda")
        refuse(f"Expected a '{expected}' device type for generator but found '{found}'")

    real = {k: CPU if k == "device" and v is not None else v for k, v in kwargs.items()}
    unwrap = lambda x: x.values if isinstance(x, Placed) else x  # noqa: E731
    result = func(*tree_map(unwrap, args), **tree_map(unwrap, real))
    if func is aten._to_copy.default and any(result is unwrap(x) for x in given):
        result = result.clone()
    if not there:
        return result
    result = tree_map(lambda x: Placed(x) if isinstance(x, torch.Tensor) else x, result)
    if not placed:
        return result
    return return_and_correct_aliasing(func, args, kwargs, result)


class _Operators(TorchDispatchMode):
    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        return run(func, args, kwargs or {})


class _Names(TorchFunctionMode):
    """Understands `cuda` where torch is called, and what never reaches the dispatcher."""

    def __init__(self, waits: list[str]) -> None:
        super().__init__()
        self.waits = waits

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        first = args[0] if args else None
        name = getattr(func, "__name__", "")
        if isinstance(first, Placed):
            if name in ("numpy", "__array__"):
                raise TypeError(
                    "can't convert cuda:0 device type tensor to numpy. Use Tensor.cpu() to copy "
                    "the tensor to host memory first."
                )
            if name in ("tolist", "item", "__bool__", "__int__", "__float__", "__index__"):
                self.waits.append(name)
            if name == "tolist":
                return first.values.tolist()
            if name == "record_stream":
                return None
            if name in ("pin_memory", "share_memory_", "data_ptr"):
                raise RuntimeError(f"{name}: not for a tensor of cuda:0 in a test")
        if name in ("__getitem__", "__setitem__") and isinstance(args[1], list):
            # C++ would make the index below the dispatcher, where nothing places it
            args = (first, torch.tensor(args[1]), *args[2:])
        if name == "get_device" and isinstance(first, Placed):
            return 0
        if name == "cuda":
            return first.to(META)
        if name == "cpu" and isinstance(first, Placed):
            self.waits.append("cpu")
        if name == "to" and len(args) > 1 and isinstance(args[1], Placed):
            args = (first, META, args[1].dtype, *args[2:])
        if func is not torch.device:
            args = tuple(META if _is_cuda(x, name == "to") else x for x in args)
            kwargs = {k: META if _is_cuda(v, k == "device") else v for k, v in kwargs.items()}
        if func in (torch.tensor, torch.as_tensor, torch.asarray) and kwargs.get("device") == META:
            # made below the dispatcher, so placed by hand
            made = func(*args, **{k: v for k, v in kwargs.items() if k != "device"})
            return made.to(META)
        generator = kwargs.get("generator")
        if generator is None:
            return func(*args, **kwargs)
        _drawing.append(generator.device.type)
        try:
            return func(*args, **kwargs)
        finally:
            _drawing.pop()


def _is_cuda(value: Any, may_be_named: bool) -> bool:
    if isinstance(value, str):
        return may_be_named and value.split(":")[0] == "cuda"
    return isinstance(value, torch.device) and value.type == "cuda"


@contextlib.contextmanager
def pretend_device(
    monkeypatch: pytest.MonkeyPatch, card: Card | None = None
) -> Iterator[list[str]]:
    """`cuda:0` is there within; yields what has waited for the device, in order."""
    (card or Card()).put_in_place(monkeypatch)
    monkeypatch.setattr(torch, "Generator", Generator)
    for name in ("_accelerator_graph_capture_health_check", "_cuda_graph_capture_health_check"):
        # asks the driver whether a graph is being captured
        monkeypatch.setattr(torch.optim.Optimizer, name, lambda self: None, raising=False)
    waits: list[str] = []
    load = torch.load

    def load_there(*args: Any, map_location: Any = None, **settings: Any) -> Any:
        state = load(*args, map_location="cpu", **settings)
        if torch.device(map_location or "cpu").type == "cpu":
            return state
        return tree_map(lambda x: x.to(META) if isinstance(x, torch.Tensor) else x, state)

    monkeypatch.setattr(torch, "load", load_there)
    _forget_constants()
    try:
        with _Operators(), _Names(waits):
            yield waits
    finally:
        _forget_constants()


def _forget_constants() -> None:
    """Tensors kept by device: those of a pretended one must not meet a real one's."""
    for kept in (operations.constant, operations._mirrored_shifts):
        kept.cache_clear()
