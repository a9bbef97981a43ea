"""The U-Net that the finder and the filler share: every operation is local, so that a place depends on its surroundings only."""

from __future__ import annotations

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor, nn

from ..embedded.one_step import ResidualBlock


class UNet(nn.Module):
    """``[B, inputs, H, W]`` to ``[B, outputs, H, W]``; H and W are multiples of `multiple`.

    It works on pixel-unshuffled pictures: widths are the channels at half the resolution, a quarter, and so on; depths the blocks
    of each, on either side of the U.
    """

    def __init__(self, inputs: int, outputs: int, widths: Sequence[int], depths: Sequence[int]):
        super().__init__()
        self.multiple = 2 ** len(widths)
        self.stem = nn.Conv2d(inputs * 4, widths[0], 3, padding=1)

        def chain(width: int, depth: int) -> nn.Sequential:
            return nn.Sequential(*(ResidualBlock(width) for _ in range(depth)))

        self.down = nn.ModuleList(map(chain, widths, depths))
        self.up = nn.ModuleList(map(chain, widths[:-1], depths[:-1]))
        steps = list(zip(widths, widths[1:], strict=False))
        self.shrink = nn.ModuleList(nn.Conv2d(a, b, 3, stride=2, padding=1) for a, b in steps)
        self.grow = nn.ModuleList(nn.Conv2d(b, a, 1) for a, b in steps)
        self.head = nn.Conv2d(widths[0], outputs * 4, 3, padding=1)
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(F.pixel_unshuffle(x, 2))
        kept = []
        for blocks, shrink in zip(self.down, self.shrink, strict=False):
            x = blocks(x)
            kept.append(x)
            x = shrink(x)
        x = self.down[-1](x)
        for skip, blocks, grow in reversed(list(zip(kept, self.up, self.grow, strict=True))):
            x = blocks(skip + F.interpolate(grow(x), scale_factor=2, mode="bilinear", align_corners=False))
        return F.pixel_shuffle(self.head(x), 2)
