"""SimSiam on generated 1-D signals, (batch, channels, time), with a convolutional encoder.

Each signal is a chirp, a pulse train, a sawtooth or a sine of random frequency and phase under
noise; the views are cropped in time, scaled and noisy. The class is never shown in training.

Seed 0, 2 virtual cores shared with other work, torch 2.15.0, 2026-11-27, 25 epochs of 12 steps:
without a head the projection ends at an effective rank of 1.5 of 64, with the off-diagonal head
at 6.9. The linear probe on the features is 1.000 in both: these waves are easy to tell apart.
"""

import argparse
from pathlib import Path

import torch
from torch import nn

import offdiag

SAMPLES, TIME, CLASSES = 2_000, 128, ("sine", "sawtooth", "pulses", "chirp")


def signals() -> offdiag.Samples:
    """Two channels: the wave, and the same wave a quarter of a period later."""
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(SAMPLES) % len(CLASSES)
    time = torch.linspace(0, 1, TIME)
    frequency = 4 + 4 * torch.rand(SAMPLES, 1, 1, generator=generator)
    phase = torch.rand(SAMPLES, 1, 1, generator=generator)
    turns = frequency * time + phase + torch.tensor([0.0, 0.25])[:, None]
    chirp = turns + frequency * time**2
    waves = torch.stack(
        [
            (2 * torch.pi * turns).sin(),
            2 * (turns % 1) - 1,
            2 * (turns % 1 < 0.15).float() - 1,
            (2 * torch.pi * chirp).sin(),
        ]
    )
    values = waves[labels, torch.arange(SAMPLES)]
    values = values + 0.3 * torch.randn(values.shape, generator=generator)
    return offdiag.Samples(values, labels=labels, classes=CLASSES, name="waves")


def views(batch, generator):
    """Two views: 96 consecutive values from a random start, scaled, with noise."""

    def view():
        start = torch.randint(TIME - 96 + 1, (len(batch), 1, 1), generator=generator)
        where = (start + torch.arange(96)).expand(-1, batch.shape[1], -1)
        scale = 0.7 + 0.6 * torch.rand(len(batch), 1, 1, generator=generator)
        cut = scale * batch.gather(2, where)
        return cut + 0.2 * torch.randn(cut.shape, generator=generator)

    return view(), view()


def encoder() -> offdiag.Encoder:
    """Three convolutions over time and the mean: 64 features."""
    layers: list[nn.Module] = []
    for before, after in ((2, 16), (16, 32), (32, 64)):
        layers += [nn.Conv1d(before, after, 7, stride=2, padding=3, bias=False)]
        layers += [nn.BatchNorm1d(after), nn.ReLU()]
    net = nn.Sequential(*layers, nn.AdaptiveAvgPool1d(1), nn.Flatten())
    return offdiag.Encoder(net, dim=64)


def data() -> offdiag.Data:
    """Also for the command line: offdiag train --data examples/signals.py:data --out runs/waves"""
    return offdiag.Data.of(signals(), views=views, encoder=encoder)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--out", type=Path, default=Path("runs/signals"))
    given = parser.parse_args()
    waves, records = data(), []
    for seed in given.seeds:
        for head in ("none", "off-diagonal"):
            config = offdiag.RunConfig(
                head=head, epochs=max(1, given.steps // 12), batch_size=128, seed=seed
            )
            out = given.out / f"{head}-seed{seed}"
            record = offdiag.train(config, out, data=waves)
            records.append(record)
            last = record.history[-1]
            print(
                f"seed {seed}, head {head}: rank of the projection "
                f"{last.projection.effective_rank:.1f} of {last.projection.dim}, linear probe "
                f"{record.evaluation['linear']['features']:.3f}"
            )
    offdiag.write_report(records, given.out / "report.html")


if __name__ == "__main__":
    main()
