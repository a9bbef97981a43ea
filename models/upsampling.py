"""Diffusers' upsampling in one layer: repeating pixels and the convolution behind it are one transposed convolution.

Nearest-neighbour doubling spreads every pixel over a 2x2 box; the 3x3 convolution behind it is linear too, so both are one
4x4 kernel with stride 2. It has 4 products per output pixel and channel in the place of 9, and the enlarged map is never made.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from diffusers.models.upsampling import Upsample2D
from torch import nn


def fuse_upsampling(root: nn.Module) -> None:
    """Replaces every doubling with a 3x3 convolution in a network that is not to be trained; equal but for the order of sums."""
    for block in list(root.modules()):
        for name, layer in list(block.named_children()):
            if isinstance(layer, Upsample2D) and type(layer.conv) is nn.Conv2d and layer.name == "conv":
                setattr(block, name, fused(layer.conv))


@torch.no_grad()
def fused(conv: nn.Conv2d) -> nn.ConvTranspose2d:
    """Twice as large, then ``conv`` (3x3, padding 1), as one layer; summed in float32."""
    weight = conv.weight
    # Output pixel y hears input pixel i through the taps that fall on its two copies, 2 i and 2 i + 1.
    spread = F.conv_transpose2d(weight.float().flip(-2, -1).flatten(0, 1)[:, None], weight.new_ones(1, 1, 2, 2).float())
    layer = nn.ConvTranspose2d(
        conv.in_channels, conv.out_channels, 4, 2, 1, bias=conv.bias is not None, device="meta", dtype=weight.dtype
    )
    layer.weight = nn.Parameter(spread.view(*weight.shape[:2], 4, 4).transpose(0, 1).contiguous().to(weight), False)
    layer.bias = conv.bias
    return layer
