"""The VAE's upsampling in one layer: repeating pixels and the convolution behind it, without the repeated pixels.

Of the 3x3 pixels that a kernel sees of a picture repeated twice each way, only 2x2 differ: which ones depends on whether the
output pixel lies in an even or an odd row and column. So each of these four phases is a 2x2 convolution of the small picture,
with 4 products in the place of 9, and the enlarged map is never made.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from diffusers.models.upsampling import Upsample2D
from torch import nn


class FusedUpsampling(nn.Module):
    """Twice as large, then ``conv`` (3x3, padding 1), which it is made of; equal but for the order of sums. Not to be trained."""

    def __init__(self, conv: nn.Conv2d):
        super().__init__()
        phases = [kernel for rows in _phases(conv.weight.float(), 2) for kernel in _phases(rows, 3)]
        self.weight = nn.Parameter(torch.stack(phases).to(conv.weight), requires_grad=False)
        self.bias = conv.bias

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """``[B, C, H, W]`` to ``[B, C, 2 H, 2 W]``."""
        height, width = x.shape[-2:]
        padded = F.pad(x, (1, 1, 1, 1))
        out = x.new_empty(len(x), self.weight.shape[1], 2 * height, 2 * width)
        for phase, kernel in enumerate(self.weight):
            row, column = divmod(phase, 2)
            seen = padded[..., row : row + height + 1, column : column + width + 1]
            out[..., row::2, column::2] = F.conv2d(seen, kernel, self.bias)
        return out


def fuse_upsampling(root: nn.Module) -> None:
    """Replaces every doubling with a plain 3x3 convolution behind it. It pays where maps are large and layers narrow, as in a VAE:
    the kernels become 16 / 9 times as large."""
    for block in list(root.modules()):
        for name, layer in list(block.named_children()):
            if isinstance(layer, Upsample2D) and type(layer.conv) is nn.Conv2d:
                setattr(block, name, FusedUpsampling(layer.conv))


def _phases(kernel: torch.Tensor, dimension: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Three taps along a dimension as two, for even and for odd output pixels: two of the three fall on copies of one pixel."""
    before, middle, after = kernel.unbind(dimension)
    return torch.stack([before, middle + after], dimension), torch.stack([before + middle, after], dimension)
