"""The filler: what belongs into the masked places of a photograph, from what surrounds them, in one step.

A pull-push pyramid (Gortler et al., The Lumigraph, 1996, section 3.4) first fills the holes smoothly, however large they are. For
every pixel, the network then weighs the nearest known pixels in eight directions, what repeats around the hole and the smooth
filling, and adds a little of its own. It sees no masked pixel, so that what the damage looks like does not matter.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...lib.pictures.color import BT601
from .neighbors import DIRECTIONS, REACH, colors_around, steps_to_known
from .repeats import NONE
from .unet import UNet

# What the weights cannot make is small beside the range of the picture: so large is a unit of the network.
STEP = 0.1
WIDTHS, DEPTHS = (32, 48, 64, 96, 128), (1, 1, 2, 2, 2)
AROUND = 2 * len(DIRECTIONS)  # colors that are weighed, beside the smooth filling and what repeats
# Before training, weights fall with the square of the distance; for pixels a little behind, and for none in reach, by as much more.
FALL, BEHIND, MISSING = 2.0, 1.0, 8.0
# Before training, what repeats weighs like the smooth filling where its squared error is this small, and less the larger it is.
FITTING = 2e-4
CONTRAST = 4.0  # by which differences of luma are amplified for the network


class Filler(nn.Module):
    """Float32 ``[B, 3, H, W]`` in 0..1, filled smoothly, and ``[B, 1, H, W]``, 1 in the holes, to the better filled picture, unclamped.

    again, error: what repeats there, ``[B, 3, H, W]``, and the mean squared error of its luma, ``[B, 1, H, W]``, see `repeated`. H and W
    are multiples of `multiple`. Outside the holes nothing changes.
    """

    def __init__(self, widths: Sequence[int] = WIDTHS, depths: Sequence[int] = DEPTHS):
        super().__init__()
        self.net = UNet(6 + len(DIRECTIONS) + AROUND, AROUND + 2 + 3, widths, depths)
        self.multiple = self.net.multiple

    def forward(self, smooth: Tensor, holes: Tensor, again: Tensor, error: Tensor) -> Tensor:
        far = steps_to_known(holes)
        index, colors = colors_around(smooth, far)
        # Where nothing repeats, it must not matter.
        again = torch.where(error < NONE, again, smooth)
        misfit = (error / FITTING + 1e-2).log()
        rows = _rows(smooth)
        own = rows[index]
        colors = torch.cat([colors, _rows(again)[index][:, None]], 1)
        light = ((colors - own[:, None]) * smooth.new_tensor(BT601)).sum(2) * CONTRAST
        light = _planes(light.new_zeros(len(rows), AROUND + 1).index_copy(0, index, light), smooth)
        # All of the order of 1.
        stack = [smooth * 2 - 1, holes, light, far.log1p() / 2 - 1, misfit / 4]
        seen = torch.cat(stack, 1).to(self.net.head.weight.dtype, memory_format=torch.channels_last)
        out = self.net(seen).float()
        out, far, misfit = (_rows(planes)[index] for planes in (out, far, misfit))
        start = -FALL * far.log1p() - MISSING * (far == REACH)
        smoothest = torch.full_like(misfit, -FALL)
        # Half of the logarithm of a squared error: weights fall with the error.
        start = torch.cat([start, start - BEHIND, smoothest - misfit / 2, smoothest], 1)
        weights = (start + out[:, : AROUND + 2]).softmax(1)
        mixed = (weights[:, :-1, None] * colors).sum(1) + weights[:, -1:] * own
        return _planes(rows.index_copy(0, index, mixed + STEP * out[:, AROUND + 2 :]), smooth)


def _rows(planes: Tensor) -> Tensor:
    """``[B, C, H, W]`` to ``[B * H * W, C]``."""
    return planes.permute(0, 2, 3, 1).reshape(-1, planes.shape[1])


def _planes(rows: Tensor, like: Tensor) -> Tensor:
    """``[B * H * W, C]`` to ``[B, C, H, W]``, of the size of ``like``."""
    batch, _, height, width = like.shape
    return rows.view(batch, height, width, -1).permute(0, 3, 1, 2)


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
