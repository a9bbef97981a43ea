"""S3Diff's degradation estimator: how blurred and how noisy a picture is (MM-RealSR's DEResNet).

One small residual network per degradation; parameter names are those of the public ``de_net.pth``.
"""

from __future__ import annotations

import torch
from torch import nn

DEGRADATIONS = 2  # blur, noise


class DegradationEstimator(nn.Module):
    """num_feats, num_blocks, downscales: channels, residual blocks and stride (1 or 2) of every stage.

    fc_hidden: width of the hidden layer of the heads. The defaults are those of the public weights.
    """

    def __init__(
        self,
        num_feats: tuple[int, ...] = (64, 64, 64, 128),
        num_blocks: tuple[int, ...] = (2, 2, 2, 2),
        downscales: tuple[int, ...] = (1, 1, 2, 1),
        fc_hidden: int = 512,
    ):
        super().__init__()
        branches = range(DEGRADATIONS)
        self.conv_first = nn.ModuleList(nn.Conv2d(3, num_feats[0], 3, 1, 1) for _ in branches)
        self.body = nn.ModuleList(nn.Sequential(*_stages(num_feats, num_blocks, downscales)) for _ in branches)
        self.fc_degree = nn.ModuleList(
            nn.Sequential(nn.Linear(num_feats[-1], fc_hidden), nn.ReLU(), nn.Linear(fc_hidden, 1), nn.Sigmoid())
            for _ in branches
        )

    def forward(self, picture: torch.Tensor) -> torch.Tensor:
        """Degrees of blur and noise ``[B, 2]`` in 0..1. picture: ``[B, 3, H, W]`` in 0..1, before any enlarging."""
        degrees = [
            head(body(first(picture)).mean((-2, -1)))
            for first, body, head in zip(self.conv_first, self.body, self.fc_degree, strict=True)
        ]
        return torch.cat(degrees, 1)


class ResidualBlock(nn.Module):
    """x + conv(relu(conv(x))), without normalization: it would wipe out how strong the damage is."""

    def __init__(self, channels: int):
        super().__init__()
        self.conv1 = nn.Conv2d(channels, channels, 3, 1, 1)
        self.conv2 = nn.Conv2d(channels, channels, 3, 1, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.conv2(self.conv1(x).relu_())


def _stages(num_feats: tuple[int, ...], num_blocks: tuple[int, ...], downscales: tuple[int, ...]) -> list[nn.Module]:
    """The layers of one branch. A convolution joins two stages only where the size or the width changes."""
    layers: list[nn.Module] = []
    following = (*num_feats[1:], num_feats[-1])
    for width, count, stride, after in zip(num_feats, num_blocks, downscales, following, strict=True):
        layers += [ResidualBlock(width) for _ in range(count)]
        if stride > 1 or width != after:
            layers.append(nn.Conv2d(width, after, 3, stride, 1))
    return layers
