"""The finder: where a scanned print is damaged in places, such as by scratches, cracks, dust, stains and missing corners."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from .unet import UNet

WIDTHS, DEPTHS = (24, 40, 64, 80, 96), (1, 1, 1, 1, 2)


class Finder(nn.Module):
    """``[B, 3, H, W]`` in 0..1 to logits ``[B, 1, H, W]`` of damage; H and W are multiples of `multiple`."""

    def __init__(self, widths: Sequence[int] = WIDTHS, depths: Sequence[int] = DEPTHS):
        super().__init__()
        self.net = UNet(3, 1, widths, depths)
        self.multiple = self.net.multiple

    def forward(self, picture: Tensor) -> Tensor:
        return self.net((picture * 2 - 1).contiguous(memory_format=torch.channels_last))
