"""A training loop of your own, watched by the Monitor: nothing else of the library is in the way.

Linear SimSiam on Gaussian data with and without its predictor: without it the projection
collapses, and the verdict says so while the loss looks fine.

Seed 0, 2 virtual cores shared with other work, torch 2.15.0, 2026-11-27, 500 steps each. With
the predictor: loss -.948, effective rank 19.4 of 32. Without: loss -.997, rank 20.3, and the
verdict "The projection points nearly the same way, whatever the image." The rank alone, taken
about the mean, does not see this collapse. The width was chosen after one of 16, which is too
narrow for the verdict's rule about ranks.
"""

import argparse
from pathlib import Path

import torch
from torch import nn

import offdiag

INPUTS, DIM, BATCH = 32, 32, 256


class SimSiam(nn.Module):
    """Yours; the Monitor finds encoder, projector and predictor by these names."""

    def __init__(self, *, predictor: bool) -> None:
        super().__init__()
        self.encoder = nn.Sequential(nn.Linear(INPUTS, 64), nn.BatchNorm1d(64), nn.ReLU())
        self.projector = nn.Linear(64, DIM)
        self.predictor = nn.Linear(DIM, DIM, bias=False) if predictor else nn.Identity()

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        z = self.projector(self.encoder(x))
        return z.detach(), self.predictor(z)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=500)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--out", type=Path, default=Path("runs/own-loop"))
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    for seed in given.seeds:
        for predictor in (True, False):
            torch.manual_seed(seed)
            scale = torch.linspace(2, 0.2, INPUTS)
            model = SimSiam(predictor=predictor)
            optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
            name = "with" if predictor else "without"
            file = given.out / f"{name}-predictor-{seed}.jsonl"
            every = max(1, given.steps // 40)
            monitor = offdiag.Monitor(model, every=every, budget=None, file=file)
            monitor.attach_optimizer(optimizer)
            for _ in range(given.steps):
                x = scale * torch.randn(BATCH, INPUTS)
                (z_a, p_a), (z_b, p_b) = (model(x + 0.5 * torch.randn_like(x)) for _ in range(2))
                cosine = nn.functional.cosine_similarity
                loss = -0.5 * (cosine(p_a, z_b) + cosine(p_b, z_a)).mean()
                optimizer.zero_grad()
                loss.backward()
                monitor.note(loss=loss)
                optimizer.step()
            monitor.remove()
            projection = monitor.history[-1].parts["projector"]
            print(
                f"seed {seed}, {name} predictor: loss {loss.item():.3f}, rank of the projection "
                f"{projection.effective_rank:.1f} of {DIM}; {monitor.verdict().sentence}"
            )


if __name__ == "__main__":
    main()
