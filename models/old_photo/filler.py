"""The filler: what belongs into the masked places of a photograph, from what surrounds them, in one step.

A pull-push pyramid (Gortler et al., The Lumigraph, 1996, section 3.4) first fills the holes smoothly, however large they are;
the network then adds structure and texture. It sees no masked pixel, so that what the damage looks like does not matter.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .unet import UNet

WIDTHS, DEPTHS = (32, 48, 64, 96, 128), (1, 1, 2, 2, 2)


class Filler(nn.Module):
    """``[B, 3, H, W]`` in 0..1, filled smoothly, and ``[B, 1, H, W]``, 1 in the holes, to the better filled picture, unclamped.

    H and W are multiples of `multiple`. Outside the holes nothing changes.
    """

    def __init__(self, widths: Sequence[int] = WIDTHS, depths: Sequence[int] = DEPTHS):
        super().__init__()
        self.net = UNet(4, 3, widths, depths)
        self.multiple = self.net.multiple

    def forward(self, smooth: Tensor, holes: Tensor) -> Tensor:
        stack = torch.cat([smooth * 2 - 1, holes], 1).contiguous(memory_format=torch.channels_last)
        return smooth + holes * self.net(stack)


def smoothly_filled(picture: Tensor, holes: Tensor) -> Tensor:
    """``[B, 3, H, W]`` with its holes (``[B, 1, H, W]``, 1 inside, else 0) filled from a pyramid of what is known.

    Known pixels stay as they are, bit for bit. A picture that is all hole becomes black.
    """
    return torch.where(holes > 0, _pulled(picture, 1 - holes), picture)


def _pulled(picture: Tensor, known: Tensor) -> Tensor:
    """known: ``[B, 1, h, w]``, how surely each pixel is. Unknown places come from the next coarser level."""
    height, width = picture.shape[-2:]
    if height == 1 and width == 1:
        return picture * known
    total = F.avg_pool2d(known, 2, ceil_mode=True, count_include_pad=False)
    mean = F.avg_pool2d(picture * known, 2, ceil_mode=True, count_include_pad=False) / total.clamp(min=1e-6)
    coarse = _pulled(mean, (4 * total).clamp(max=1))
    enlarged = F.interpolate(coarse, scale_factor=2, mode="bilinear", align_corners=False)[..., :height, :width]
    return torch.lerp(enlarged, picture, known)
