"""All marks of one training step, gathered while the parts run."""

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from offdiag.diagnostics.marks import assignments, gradients, inputs, modes, weights
from offdiag.diagnostics.parts import Found, parameters_by_part, twins, unwrapped
from offdiag.results.readings import NAN

MOST_ROWS = 1_024
"""Rows of which gradients are set against rows of the other view."""
Marks = dict[str, float]


class Collector:
    """Listens to the parts, the inputs and the optimisers on the steps that ask for it.

    `begin` at a step's first call, then what is called, then `end`. What compares two steps needs
    `begin` on the step before as well. Holds samples of the weights and hooks of one graph, and
    lets go of both in `end`.
    """

    def __init__(self, found: Found, *, criterion: nn.Module | None = None) -> None:
        self.found = found
        self.optimizers: list[torch.optim.Optimizer] = []
        self._criterion = criterion
        self._pairs: list[tuple[nn.Module, nn.Module]] | None = None
        self._before: tuple[int, Marks, dict[str, Tensor], list[tuple[Tensor, Tensor]]] | None = (
            None
        )
        self._decays: Marks = {}
        self._step: int | None = None
        self._clear()

    def _clear(self) -> None:
        for handle in getattr(self, "_handles", ()):
            handle.remove()
        self._handles: list[RemovableHandle] = []
        self._marks: Marks = {}
        self._views: list[Tensor] = []
        self._outputs: dict[str, list[Tensor]] = {}
        self._flows: dict[str, list[gradients.Flow]] = {}
        self._predicted: set[int] = set()
        self._evaluated = 0
        self._calls = 0

    def begin(self, step: int) -> None:
        """The first call of a part in a step: compare the weights with those of the step before."""
        if self._step == step:
            return
        self._clear()
        self._step = step
        by_part = parameters_by_part(self.found)
        samples = {part: weights.sample(parameters) for part, parameters in by_part.items()}
        pairs = [
            (weights.sample(list(online.parameters())), weights.sample(list(target.parameters())))
            for online, target in self._twins()
        ]
        before, self._before = self._before, (step, {}, samples, pairs)
        if before is not None and before[0] == step - 1:
            self._compare(before[2], samples, before[3], pairs)
            self._marks |= self._decays
        self._decays = {}

    def _twins(self) -> list[tuple[nn.Module, nn.Module]]:
        if self._pairs is None:
            self._pairs = twins(self.found)
        return self._pairs

    def _compare(
        self,
        before: Mapping[str, Tensor],
        after: Mapping[str, Tensor],
        pairs_before: list[tuple[Tensor, Tensor]],
        pairs_after: list[tuple[Tensor, Tensor]],
    ) -> None:
        for part, sample in after.items():
            if part in before and sample.numel():
                self._marks[f"{part}/update"] = weights.relative_update(before[part], sample)
                self._marks[f"{part}/finite"] = float(sample.isfinite().float().mean())
        if not pairs_after or len(pairs_before) != len(pairs_after):
            return
        if any(b[1].shape != a[1].shape for b, a in zip(pairs_before, pairs_after, strict=True)):
            return
        fits = [
            weights.momentum_of((b[0], a[0]), (b[1], a[1]))
            for b, a in zip(pairs_before, pairs_after, strict=True)
        ]
        # The network that follows worst: one that was forgotten is the fault.
        momentum, residual, gap = max(
            fits, key=lambda fit: (fit[0] if fit[0] == fit[0] else -1.0, fit[1])
        )
        moved = [
            float((a[1] != b[1]).float().mean())
            for b, a in zip(pairs_before, pairs_after, strict=True)
        ]
        self._marks |= {
            "target/momentum": momentum,
            "target/residual": max((fit[1] for fit in fits if fit[1] == fit[1]), default=NAN),
            "target/gap": gap,
            "target/moved": min(moved),
        }
        self._marks["target/least_momentum"] = min(
            (fit[0] for fit in fits if fit[0] == fit[0]), default=NAN
        )

    def forget(self, part: str) -> None:
        """The calls of this part so far were of another pass than the one that trains."""
        self._outputs.pop(part, None)
        self._flows.pop(part, None)
        if part == "predictor":
            self._flows.pop("made", None)
        if part == "encoder":
            self._views = []

    def drop(self) -> None:
        """End a step without marks."""
        self._clear()

    def before_update(self, step: int) -> None:
        """Just before an optimiser's step: the gradients as it will use them, and their decay."""
        if self._step != step or self._before is None:
            return
        by_part = parameters_by_part(self.found)
        groups = self._groups()
        for part, parameters in by_part.items():
            mine = [p for p in parameters if p.grad is not None and id(p) in groups]
            if not mine or part == "target":
                continue
            values, pulls = weights.sample(mine), weights.sample([p.grad for p in mine])
            if values.shape != pulls.shape:
                continue
            optimizer, group = groups[id(max(mine, key=lambda p: p.numel()))]
            decoupled = weights.is_decoupled(optimizer, group)
            ratio = NAN
            if not decoupled:
                ratio = weights.decay_ratio(values, pulls, NAN, group, decoupled=False)
            self._decays |= {
                f"{part}/gradient": float(pulls.norm()),
                f"{part}/gradient_finite": float(pulls.isfinite().float().mean()),
                f"{part}/gradient_zeros": float((pulls == 0).float().mean()),
            }
            if math.isfinite(ratio) or ratio == math.inf:
                self._decays[f"{part}/decay_ratio"] = min(ratio, 1e9)
            if decoupled:
                self._decays[f"{part}/decayed"] = float(group.get("lr") or 0) * float(
                    group.get("weight_decay") or 0
                )

    def called(
        self,
        part: str,
        module: nn.Module,
        arguments: tuple[Any, ...],
        named: Mapping[str, Any],
        output: Tensor,
        rows: Tensor,
        *,
        evaluated: bool,
    ) -> None:
        """One call of a part in the step that is marked; `rows` is a copy of its output's rows."""
        if part != "target":
            self._calls += 1
            self._evaluated += evaluated
        if output.dtype is torch.float16:
            self._marks["precision/half"] = 1.0
        seen = self._outputs.setdefault(part, [])
        if len(seen) < 2:
            seen.append(rows[:MOST_ROWS])
        if part == "encoder" and len(self._views) < 2:
            given = _first_tensor((arguments, named), integers=True)
            if given is not None and given.ndim >= 2 and len(given):
                self._views.append(inputs.rows_of(given))
        flows = self._flows.setdefault(part, [])
        if len(flows) >= 2:
            return
        if part == "predictor":
            given = _first_tensor((arguments, named))
            if given is not None:
                self._mark_predicted(given)
                if given is output:
                    self._marks["predictor/identity"] = 1.0
                else:
                    self._keep(flows, gradients.Flow(given, output))
                    self._keep(self._flows.setdefault("made", []), gradients.Flow(output, None))
        elif output.requires_grad:
            self._keep(flows, gradients.Flow(output, None))

    def _mark_predicted(self, given: Tensor) -> None:
        """Of the outputs that a predictor might take: which does this call take?"""
        flows = self._flows.get("projector") or self._flows.get("encoder") or []
        found = gradients.comes_from(given, [flow.given for flow in flows])
        self._predicted |= {id(flow) for flow, mine in zip(flows, found, strict=True) if mine}

    def _keep(self, flows: list[gradients.Flow], flow: gradients.Flow) -> None:
        flows.append(flow)
        self._handles += flow.handles

    def terms(self, named: Mapping[str, Tensor]) -> None:
        """The gradient norm of each named term of the loss at the outputs, before the backward."""
        last = next(
            (self._flows[part] for part in ("projector", "encoder") if self._flows.get(part)), None
        )
        if last is None:
            return
        at = [flow.given for flow in last if flow.given is not None and flow.given.requires_grad]
        for name, term in named.items():
            if not (isinstance(term, Tensor) and term.requires_grad and at):
                continue
            found = torch.autograd.grad(term, at, retain_graph=True, allow_unused=True)
            sizes = [float(g.detach().float().norm()) for g in found if g is not None]
            self._marks[f"terms/{name}"] = math.sqrt(sum(size**2 for size in sizes))

    def end(self) -> Marks:
        """All marks of the step; lets go of everything but the weights' sample."""
        marks = self._marks
        with torch.no_grad():
            marks |= self._of_inputs()
            marks |= self._of_gradients()
            marks |= self._of_outputs()
            marks |= self._of_modules()
            marks |= self._of_optimizers()
        self._clear()
        return {name: value for name, value in marks.items() if value == value}

    def _of_inputs(self) -> Marks:
        if not self._views:
            return {}
        marks = inputs.scale_marks(self._views)
        if len(self._views) == 2:
            marks["inputs/identical"] = inputs.identical(*self._views)
        seen = self._outputs.get("encoder", [])
        other = seen[1:2]
        if len(seen) == 1:
            targets = self._outputs.get("target", [])
            other = [t for t in targets[:1] if t.shape == seen[0].shape]
        if len(seen) == 2 and seen[0].shape == seen[1].shape:
            spread = (seen[0] - seen[0].mean(0)).norm()
            if spread > 0:
                marks["views/difference"] = float((seen[0] - seen[1]).norm() / spread)
        if seen and other:
            marks["views/partner"] = inputs.partners(seen[0], other[0])
            marks["views/rows"] = float(min(len(seen[0]), inputs.ROWS))
        return marks

    def _of_gradients(self) -> Marks:
        marks: Marks = {}
        shares = [(flow.share_elsewhere(), flow) for flow in self._flows.get("predictor", [])]
        shares = [(share, flow) for share, flow in shares if share == share]
        if shares:
            share, flow = max(shares, key=lambda one: one[0])
            marks["target/gradient"] = share
            marks["target/pull"] = self._leak(flow)
        marks |= self._of_unpredicted()
        reached = [flow for flow in self._flows.get("target", []) if flow.total is not None]
        if reached:
            marks["target/gradient"] = float(any(flow.total.abs().sum() > 0 for flow in reached))  # type: ignore[union-attr]
        elif self._outputs.get("target"):
            marks.setdefault("target/gradient", 0.0)
        part = "projector" if self._flows.get("projector") else "encoder"
        flows = [flow for flow in self._flows.get(part, []) if flow.total is not None]
        if flows:
            force = -flows[0].total.float()  # type: ignore[union-attr]
            marks[f"{part}/felt"] = float(force.norm())
            rows = self._outputs.get(part, [])
            if force.ndim == 2:
                marks["loss/spreading"] = gradients.spreading(force, flows[0].at)
                others = rows[1:] + self._outputs.get("target", [])
                marks["loss/pull"] = self._purest(force, flows[0].at, others)
                # Away from every partner: the least of the opposite force's pulls.
                marks["loss/push"] = -self._purest(-force, flows[0].at, others)
        elif self._flows.get(part):
            marks[f"{part}/felt"] = 0.0
        made = [flow for flow in self._flows.get("made", []) if flow.total is not None]
        if made and made[0].at.ndim == 2:
            others = [*self._outputs.get("target", []), *self._outputs.get(part, [])]
            force = -made[0].total.float()  # type: ignore[union-attr]
            marks["prediction/push"] = -self._purest(-force, made[0].at, others)
        return marks

    def _of_unpredicted(self) -> Marks:
        """A view of the online network that no predictor takes is a target: is it trained?"""
        flows = self._flows.get("projector") or self._flows.get("encoder") or []
        apart = [f for f in flows if id(f) not in self._predicted and f.total is not None]
        made = [f.made for f in self._flows.get("predictor", []) if f.made is not None]
        if not self._predicted or not apart or not made or apart[0].at.ndim != 2:
            return {}
        force = -apart[0].total.float()  # type: ignore[union-attr]
        if not force.abs().sum() > 0:
            return {}
        return {"target/gradient": 1.0, "target/pull": self._purest(force, apart[0].at, made)}

    def _leak(self, flow: gradients.Flow) -> float:
        """How purely the gradient that comes past the predictor draws the target to predictions."""
        rest = flow.elsewhere()
        made = [other.made for other in self._flows["predictor"] if other.made is not None]
        if rest is None or rest.ndim != 2:
            return NAN
        return self._purest(-rest, flow.at, made)

    def _purest(self, force: Tensor, at: Tensor, partners: list[Tensor]) -> float:
        """The largest pull over what may be the partners: the other view, or the other half."""
        half = len(at) // 2
        candidates = [*partners, *(torch.cat((p[half:], p[:half])) for p in (at, *partners))]
        pulls = [
            gradients.pull(force[:MOST_ROWS], at[:MOST_ROWS], other[:MOST_ROWS])
            for other in candidates
            if other.shape[1:] == at.shape[1:] and len(other[:MOST_ROWS]) == len(at[:MOST_ROWS])
        ]
        pulls = [pull for pull in pulls if pull == pull]
        return max(pulls) if pulls else NAN

    def _of_outputs(self) -> Marks:
        marks: Marks = {}
        for part, seen in self._outputs.items():
            rows = torch.cat([one for one in seen if one.shape[1] == seen[0].shape[1]])
            finite = rows.isfinite().all()
            marks[f"{part}/outputs_finite"] = float(finite)
            if finite and len(rows) > 1:
                spread = rows.std(0, unbiased=False)
                marks[f"{part}/spread"] = float(spread.norm())
                marks[f"{part}/dead"] = float((spread <= 1e-7 * rows.abs().amax()).float().mean())
                marks[f"{part}/zeros"] = float((rows == 0).float().mean())
        marks |= self._of_assignments()
        return marks

    def _of_assignments(self) -> Marks:
        head = self.found.taps.get("projector")
        loss = self._loss()
        if head is None or (loss is None and not assignments.has_prototypes(head.module)):
            return {}
        marks: Marks = {}
        temperature = getattr(loss, "student_temp", assignments.STUDENT_TEMPERATURE)
        seen = self._outputs.get("projector", [])
        if seen and isinstance(temperature, int | float) and temperature > 0:
            p = (torch.cat(seen).float() / temperature).softmax(1)
            marks |= assignments.assignment_marks("student", p)
        if loss is not None:
            marks |= assignments.loss_marks(loss)
            teacher = getattr(loss, "teacher_temp", None)
            centre = getattr(loss, "center", None)
            centre = getattr(centre, "value", centre)
            seen = self._outputs.get("target", [])
            if seen and isinstance(teacher, int | float) and teacher > 0:
                logits = torch.cat(seen).float()
                if isinstance(centre, Tensor) and centre.shape[-1] == logits.shape[1]:
                    logits = logits - centre.reshape(1, -1).to(logits)
                marks |= assignments.assignment_marks("teacher", (logits / teacher).softmax(1))
        return marks

    def _loss(self) -> Any:
        if self._criterion is not None:
            return assignments.prototype_loss([self._criterion])
        root = self.found.root
        return None if root is None else assignments.prototype_loss(root.children())

    def _of_modules(self) -> Marks:
        taps = self.found.taps
        online = [unwrapped(tap.module) for part, tap in taps.items() if part != "target"]
        marks = modes.norm_marks(online)
        if self._calls:
            marks["modes/evaluated"] = self._evaluated / self._calls
        if (first := next(iter(self._outputs.values()), None)) is not None:
            marks["modes/rows"] = float(len(first[0]))
        for part, parameters in parameters_by_part(self.found).items():
            total = sum(p.numel() for p in parameters)
            marks[f"{part}/parameters"] = float(total)
            if total:
                free = sum(p.numel() for p in parameters if p.requires_grad)
                marks[f"{part}/trainable"] = free / total
        gaps = [modes.stale_statistics(target, online) for online, target in self._twins()]
        gaps = [gap for gap in gaps if gap == gap]
        if gaps:
            marks["target/stale"] = max(gaps)
        for part in ("encoder", "projector"):
            if part in taps and (width := modes.narrowest(unwrapped(taps[part].module))):
                marks[f"{part}/narrowest"] = float(width)
            if seen := self._outputs.get(part):
                marks[f"{part}/width"] = float(seen[0].shape[1])
        return marks

    def _of_optimizers(self) -> Marks:
        if not self.optimizers:
            return {}
        groups = self._groups()
        marks: Marks = {}
        for part, parameters in parameters_by_part(self.found).items():
            total = sum(p.numel() for p in parameters)
            if not total:
                continue
            held = [p for p in parameters if id(p) in groups]
            marks[f"{part}/held"] = sum(p.numel() for p in held) / total
            if held:
                rates = [float(groups[id(p)][1].get("lr") or 0.0) for p in held]
                decays = [float(groups[id(p)][1].get("weight_decay") or 0.0) for p in held]
                marks[f"{part}/lr"] = max(rates)
                marks[f"{part}/weight_decay"] = max(decays)
        shares = [marks.get(f"{part}/held", 0.0) for part in ("encoder", "projector", "predictor")]
        targets = [p for _, target in self._twins() for p in target.parameters()]
        if targets:
            held = [p for p in targets if id(p) in groups and p.requires_grad]
            marks["target/held"] = sum(p.numel() for p in held) / sum(p.numel() for p in targets)
        # Sharded or flattened parameters are other objects: then nothing is known of any part.
        if not any(shares):
            return {}
        for part in ("encoder", "projector", "predictor"):
            update = self._marks.get(f"{part}/update", NAN)
            decayed = self._marks.pop(f"{part}/decayed", None)
            if decayed is not None and update == update:
                rest = math.sqrt(max(update**2 - decayed**2, 0.0))
                marks[f"{part}/decay_ratio"] = min(decayed / rest if rest > 0 else 0.0, 1e9)
        return marks

    def _groups(self) -> dict[int, tuple[torch.optim.Optimizer, dict[str, Any]]]:
        return {
            id(p): (optimizer, group)
            for optimizer in self.optimizers
            for group in optimizer.param_groups
            for p in group["params"]
        }

    def close(self) -> None:
        """Let go of everything."""
        self._clear()
        self._before, self._step = None, None


def _first_tensor(value: Any, *, integers: bool = False) -> Tensor | None:
    """The first tensor of two axes or more; of a graph's data its node features."""
    if isinstance(value, Tensor):
        dense = value.layout is torch.strided and value.ndim >= 2
        return value if dense and (integers or value.is_floating_point()) else None
    if isinstance(value, Mapping):
        value = tuple(value.values())
    if isinstance(value, tuple | list):
        found = (_first_tensor(item, integers=integers) for item in value)
        return next((tensor for tensor in found if tensor is not None), None)
    x = getattr(value, "x", None)
    return _first_tensor(x, integers=integers) if isinstance(x, Tensor) else None
