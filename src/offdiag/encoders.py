"""Encoders: from images to features; each has `.dim`."""

from collections.abc import Callable
from typing import Annotated, Any

import torchvision
from jaxtyping import Float
from torch import Tensor, nn

from offdiag._checks import at_least
from offdiag.projectors import projector
from offdiag.registry import ENCODERS

__all__ = [
    "ENCODERS",
    "Encoder",
    "projector",
    "resnet",
    "resnet18",
    "resnet50",
    "small_conv",
]


class Encoder(nn.Module):
    """A network with its output width: from a batch of images, or of anything, to (batch, dim).

    Wrap any module of your own: `Encoder(my_net, dim=384)`.
    """

    def __init__(self, net: nn.Module, *, dim: int) -> None:
        super().__init__()
        at_least("the encoder's width", dim, 1)
        self.net = net
        self.dim = dim

    def forward(self, samples: Any) -> Float[Tensor, "batch features"]:
        features: Tensor = self.net(samples)
        return features


def resnet(
    build: Callable[..., nn.Module], *, channels: int = 3, small_stem: bool = True
) -> Encoder:
    """A torchvision ResNet without its classifier, from a random start.

    `small_stem`, for images up to about 64 pixels: the first convolution is 3x3
    with stride 1 and padding 1, and there is no max-pool (Chen et al. 2020,
    appendix B.9). Otherwise the ordinary 7x7, stride 2, max-pool stem.
    """
    net = build(weights=None)
    width: int = net.fc.in_features  # type: ignore[union-attr, assignment]
    net.fc = nn.Identity()
    if small_stem:
        net.conv1 = nn.Conv2d(channels, 64, 3, stride=1, padding=1, bias=False)
        net.maxpool = nn.Identity()
    elif channels != 3:
        net.conv1 = nn.Conv2d(channels, 64, 7, stride=2, padding=3, bias=False)
    nn.init.kaiming_normal_(net.conv1.weight, mode="fan_out", nonlinearity="relu")  # type: ignore[union-attr, arg-type]
    return Encoder(net, dim=width)


def resnet18(channels: int = 3, *, small_stem: bool = True) -> Encoder:
    """`resnet` of torchvision's ResNet-18: 512 features."""
    return resnet(torchvision.models.resnet18, channels=channels, small_stem=small_stem)


def resnet50(channels: int = 3, *, small_stem: bool = True) -> Encoder:
    """`resnet` of torchvision's ResNet-50: 2,048 features."""
    return resnet(torchvision.models.resnet50, channels=channels, small_stem=small_stem)


def small_conv(
    channels: int = 3,
    *,
    width: Annotated[int, "channels of the first layer; the features are four times as many"] = 32,
    stem_stride: Annotated[int, "stride of the first layer"] = 1,
) -> Encoder:
    """Three 3x3 convolutions with BatchNorm and ReLU, the last two with stride 2, then the mean.

    Widths are `width`, 2 `width` and 4 `width`, the last being the feature width:
    32 gives 128 features and about 93,000 weights. For images of 8 to 64 pixels.
    `stem_stride=2` halves the sides in the first layer already: a quarter of the cost at
    the same width, for images of 16 pixels or more.
    """
    at_least("the small net's width", width, 1)
    at_least("the stride of the small net's first layer", stem_stride, 1)
    layers: list[nn.Module] = []
    before = channels
    for after, stride in ((width, stem_stride), (2 * width, 2), (4 * width, 2)):
        layers += [
            nn.Conv2d(before, after, 3, stride=stride, padding=1, bias=False),
            nn.BatchNorm2d(after),
            nn.ReLU(inplace=True),
        ]
        before = after
    return Encoder(nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten()), dim=before)
