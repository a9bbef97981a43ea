"""What lies around a hole: for every pixel in it, the nearest known pixels in eight directions."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

# Steps of x and y, in the order of everything below.
DIRECTIONS = ((-1, 0), (1, 0), (0, -1), (0, 1), (1, -1), (-1, 1), (1, 1), (-1, -1))
# Pixels: how far is looked, and how far behind the nearest known pixel the second one lies, where less of the damage is left.
REACH, BEHIND = 48, 2


def steps_to_known(holes: Tensor) -> Tensor:
    """``[B, 8, H, W]``, float32: steps to the nearest known pixel in each direction; 0 for a known one, ``REACH`` where there is none.

    holes: ``[B, 1, H, W]``, 1 inside, else 0.
    """
    width = holes.shape[-1]
    skewed, other = _skewed(holes), _skewed(holes.flip(-2))
    planes = [
        *(_run(holes, back) for back in (False, True)),
        *(_run(holes.mT, back).mT for back in (False, True)),
        *(_straight(_run(skewed.mT, back).mT, width) for back in (False, True)),
        *(_straight(_run(other.mT, back).mT, width).flip(-2) for back in (False, True)),
    ]
    return torch.cat(planes, 1)


def colors_around(picture: Tensor, steps: Tensor) -> tuple[Tensor, Tensor]:
    """Of a picture ``[B, 3, H, W]`` and its `steps_to_known`: which pixels lie in holes, ``[M]``, counted through the batch, and the colors
    around each, ``[M, 16, 3]``: the nearest of each direction, then those a little behind. What is out of reach has the pixel's own."""
    height, width = picture.shape[-2:]
    inside = steps[:, 0] > 0
    index = inside.flatten().nonzero()[:, 0]
    y, x = index // width % height, index % width
    far = steps.permute(0, 2, 3, 1).reshape(-1, len(DIRECTIONS))[index].long()
    dx, dy = torch.tensor(DIRECTIONS, device=picture.device).T
    stride = dy * width + dx
    reached = far < REACH
    near = index[:, None] + torch.where(reached, far, 0) * stride
    further = far + BEHIND
    px, py = x[:, None] + further * dx, y[:, None] + further * dy
    kept = reached & (px >= 0) & (px < width) & (py >= 0) & (py < height)
    behind = torch.where(kept, index[:, None] + further * stride, near)
    behind = torch.where(inside.flatten()[behind], near, behind)
    rows = picture.permute(0, 2, 3, 1).reshape(-1, picture.shape[1])
    return index, rows[torch.cat([near, behind], 1)]


def _run(holes: Tensor, backward: bool) -> Tensor:
    """Steps to the nearest known pixel on the left, or on the right, of ``[B, 1, h, w]``."""
    holes = holes.flip(-1) if backward else holes
    place = torch.arange(1, holes.shape[-1] + 1, device=holes.device, dtype=torch.float32)
    last = torch.where(holes > 0, 0.0, place).cummax(-1).values
    steps = torch.where(last > 0, place - last, REACH).clamp(max=REACH)
    return steps.flip(-1) if backward else steps


def _skewed(holes: Tensor) -> Tensor:
    """``[B, 1, H, W]`` to ``[B, 1, H, H + W - 1]``: row y lies y pixels further to the right, so that diagonals are columns. What is beyond
    the picture counts as hole."""
    height = holes.shape[-2]
    return F.pad(holes, (0, height), value=1.0).flatten(-2)[..., :-height].unflatten(-1, (height, -1))


def _straight(planes: Tensor, width: int) -> Tensor:
    """The inverse of `_skewed`."""
    height = planes.shape[-2]
    return F.pad(planes.flatten(-2), (0, height)).unflatten(-1, (height, -1))[..., :width]
