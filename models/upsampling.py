"""Diffusers' upsampling in one layer: repeating pixels and the convolution behind it are one transposed convolution.

Nearest-neighbour doubling spreads every pixel over a 2x2 box; the 3x3 convolution behind it is linear too, so both are one
4x4 kernel with stride 2. It has 4 products per output pixel and channel in the place of 9, and the enlarged map is never made.
"""

from __future__ import annotations

import torch
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
    own = weight.float().flip(-2, -1)
    spread = own.new_zeros(*weight.shape[:2], 4, 4)
    for down in range(2):  # a convolution with the box would take gigabytes for the widest layers
        for right in range(2):
            spread[..., down : down + 3, right : right + 3] += own
    layer = nn.ConvTranspose2d(
        conv.in_channels, conv.out_channels, 4, 2, 1, bias=conv.bias is not None, device="meta", dtype=weight.dtype
    )
    layer.weight = nn.Parameter(spread.transpose(0, 1).contiguous().to(weight), False)
    layer.bias = conv.bias
    return layer
