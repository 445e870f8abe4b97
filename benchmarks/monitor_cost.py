"""What does a monitor cost, as a share of a training step?

    python benchmarks/monitor_cost.py [--rounds 10] [--threads 2] [--device cpu] [--nets small]

SimSiam at batch 128 on 32x32 images, by plain PyTorch: ResNet-18 with the CIFAR stem and the
small net, each with a narrow projector and with SimSiam's of 2,048. Kinds of step take turns:
without a monitor, with one on a step that is not read (quiet), with one on the step before a read
one, where marks take a sample of the weights, and with one on a step that is read, with and without
marks. Without an accelerator the times are the process's CPU time.

step, reading     median of the steps without, and what a read one takes beyond that
first             the same for the first reading, which also draws the noise
quiet             what a quiet step takes beyond one without: noise, where it is about 0
hooks             the six calls of hooks on a quiet step, timed by themselves
marks             what marks take of that, with the step before
default           hooks and one reading with marks in every 100 steps, as a share of 100 steps
                  without
every             the gap that the cadence's own count of multiplications asks for; the monitor
                  takes 100 or this, whichever is more
held              bytes held during a reading, for all parts together
"""

import argparse
import inspect
import time
from statistics import median

import torch
import torchvision
from torch import nn

from offdiag.diagnostics.monitor import Monitor
from offdiag.encoders import projector, resnet, small_conv

BATCH, SIDE = 128, 32
DEFAULTS = inspect.signature(Monitor).parameters
EVERY, BUDGET = DEFAULTS["every"].default, DEFAULTS["budget"].default
CONTENDERS = {
    "small, 64": (lambda: small_conv(), 128, (256, 64)),
    "small, 2048": (lambda: small_conv(), 128, (2048, 2048)),
    "resnet18, 128": (lambda: resnet(torchvision.models.resnet18), 512, (512, 128)),
    "resnet18, 2048": (lambda: resnet(torchvision.models.resnet18), 512, (2048, 2048)),
}


class SimSiam(nn.Module):
    """Encoder, projector and predictor under the names that the monitor finds."""

    def __init__(self, encoder: nn.Module, features: int, widths: tuple[int, int]) -> None:
        super().__init__()
        dim = widths[-1]
        self.backbone = encoder
        self.projector = projector((features, *widths))
        self.predictor = projector((dim, dim // 4, dim))

    def forward(self, view):
        z = self.projector(self.backbone(view))
        return z.detach(), self.predictor(z)


def measure(name: str, *, rounds: int, device: torch.device) -> None:
    build, features, widths = CONTENDERS[name]
    torch.manual_seed(0)
    model = SimSiam(build(), features, widths).to(device)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.03, momentum=0.9)
    views = torch.rand(2, BATCH, 3, SIDE, SIDE, device=device)

    clock = time.perf_counter if device.type == "cuda" else time.process_time

    def step(monitor: Monitor | None) -> float:
        wait(device)
        start = clock()
        (z_a, p_a), (z_b, p_b) = model(views[0]), model(views[1])
        cosine = nn.functional.cosine_similarity
        loss = -0.5 * (cosine(p_a, z_b).mean() + cosine(p_b, z_a).mean())
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        if monitor is not None:
            monitor.step(loss=loss)
        wait(device)
        return clock() - start

    step(None)
    seconds: dict[str, list[float]] = {
        kind: [] for kind in ("without", "quiet", "before", "read", "plain")
    }
    held = first = asked = 0.0
    for round in range(rounds + 1):
        seconds["without"].append(step(None))
        with Monitor(model, every=1, budget=None, marks=False) as monitor:
            seconds["plain"].append(step(monitor))
        with Monitor(model, every=10, budget=BUDGET, first_step=90) as monitor:
            monitor.hold(optimizer)
            monitor.next_reading = -1
            seconds["quiet"].append(step(monitor))
            monitor.next_reading = monitor.steps + 1
            seconds["before"].append(step(monitor))
            seconds["read"].append(step(monitor))
            held = monitor.held_bytes
            asked = monitor.cadence.reading / (BUDGET * monitor.cadence.step)
        if round == 0:  # the first reading also draws the noise
            first = seconds["read"][0] - seconds["without"][0]
            seconds = {kind: [] for kind in seconds}
    without, quiet, before, read, plain = (median(times) for times in seconds.values())
    hooks = 6 * hook_seconds(model)
    extra = max(read - without, 0.0) + max(before - without, 0.0)
    marks = extra - (plain - without)
    share = ((EVERY - 1) * hooks + extra) / (EVERY * without)
    print(
        f"{name:<16} {1e3 * without:>10.1f} {1e3 * extra:>10.1f} {1e3 * marks:>10.1f} "
        f"{1e3 * first:>10.1f} {100 * (quiet / without - 1):>8.2f} % {1e6 * hooks:>8.1f} "
        f"{100 * share:>10.3f} % {max(EVERY, asked):>8.0f} {held / 2**20:>8.1f}"
    )


def hook_seconds(model: nn.Module, calls: int = 10_000) -> float:
    """What one hook takes on a step that is not read."""
    module = nn.Identity()
    with Monitor(encoder=module) as monitor:
        monitor.next_reading = -1
        hook = next(iter(module._forward_hooks.values()))
        start = time.perf_counter()
        for _ in range(calls):
            hook(module, (), {}, None)
        return (time.perf_counter() - start) / calls


def wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--nets", nargs="+", choices=CONTENDERS, default=list(CONTENDERS))
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    device = torch.device(options.device)
    where = torch.cuda.get_device_name(device) if device.type == "cuda" else "CPU"
    print(
        f"torch {torch.__version__}, {where}, {options.threads} threads, {options.rounds} rounds, "
        f"batch {BATCH} x 2 views, {SIDE}x{SIDE}; default: every {EVERY} steps, budget "
        f"{100 * BUDGET:g} %"
    )
    print(
        f"{'net, projection':<16} {'step':>10} {'reading':>10} {'marks':>10} {'first':>10} "
        f"{'quiet':>10} "
        f"{'hooks':>8} {'default':>12} {'every':>8} {'held'}\n"
        f"{'':<16} {'ms':>10} {'ms':>10} {'ms':>10} {'ms':>10} {'of step':>10} {'us':>8} "
        f"{'of step':>12} {'>= 100':>8} {'MiB'}"
    )
    for name in options.nets:
        measure(name, rounds=options.rounds, device=device)


if __name__ == "__main__":
    main()
