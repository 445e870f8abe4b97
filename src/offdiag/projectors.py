"""Projectors: from the encoder's features to the projection."""

from collections.abc import Sequence

from torch import nn

from offdiag._checks import ConfigError


def projector(widths: Sequence[int]) -> nn.Sequential:
    """Linear, BatchNorm, ReLU, ..., Linear through `widths`; the first is the encoder's.

    The last layer has neither BatchNorm nor ReLU: the objective normalises.
    """
    if len(widths) < 2 or min(widths) < 1:
        raise ConfigError(
            "a projector needs the encoder's width and at least one more, all positive; "
            f"got {list(widths)}."
        )
    layers: list[nn.Module] = []
    for before, after in zip(widths[:-2], widths[1:-1], strict=True):
        layers += [
            nn.Linear(before, after, bias=False),
            nn.BatchNorm1d(after),
            nn.ReLU(inplace=True),
        ]
    return nn.Sequential(*layers, nn.Linear(widths[-2], widths[-1]))
