"""What repeats around a hole: a halftone, a fabric, a straight edge go on in it as they do a few pixels further.

The shifts at which the surroundings of a block's holes repeat are those of the least masked sum of squared differences, computed by
Fourier transforms (as Padfield, Masked Object Registration in the Fourier Domain, 2012, section III); few shifts say it all (He and Sun,
Statistics of Patch Offsets for Image Completion, 2012). For every pixel, each of them, and some short ones in all directions, is
then judged by how well it fits the known pixels around.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from ...lib.pictures.color import luma

# Pixels: a block's side, how much around it is compared, and how far a shift reaches.
CORE, MARGIN, FARTHEST = 48, 8, 32
# What is read around a block, the side of both together, and how many shifts there are along a side.
INSET = MARGIN + FARTHEST
FRAME = CORE + 2 * INSET
ALONG = 2 * FARTHEST + 1
FOUND = 16  # shifts of a block
# Beside them: short shifts, so far in pixels and in so many directions. Not whole numbers, so that no step is half a pixel.
SHORT, TURNS = (5.1, 9.1), 12
TOGETHER = 8  # blocks that are computed at once: their planes fit into a CPU's cache
NEARBY = 8  # pixels: only what is so near to a hole tells how it repeats
# Least share of what is nearby that a shift must compare, and of the holes that it must fill.
COMPARED, FILLED = 0.15, 0.02
# A pixel's own fit is averaged at half the resolution, twice over 5 x 5 pixels. The block's fit is added with the weight of such a share of
# known pixels.
HALF, WINDOWS, WHOLE = 2, (5, 5), 0.05
# Shifts count less the worse they fit, in shares of the best one's squared error.
FADING = 0.5
FINEST = 1e-5  # squared error of luma below which all fits are alike
NONE = 1.0  # squared error where nothing fits


@dataclass(frozen=True)
class _Blocks:
    """``[N, FRAME, FRAME]`` each, of those with holes. known, holes: 1 or 0, both 0 beyond the picture; light: luma less its mean, 0
    where unknown; colors: ``[N, 3, FRAME, FRAME]``."""

    known: Tensor
    holes: Tensor
    light: Tensor
    colors: Tensor


def repeated(picture: Tensor, holes: Tensor, working: Callable[[], None] = lambda: None) -> tuple[Tensor, Tensor]:
    """What repeats in the holes of a picture, and how badly it fits.

    picture: float32 ``[B, 3, H, W]`` in 0..1; holes: ``[B, 1, H, W]``, 1 inside, else 0; working() is called now and then, and may raise
    to cancel. Returns colors ``[B, 3, H, W]`` and the mean squared error of luma around each pixel, ``[B, 1, H, W]`` in 0..1. Where
    nothing repeats, and outside the holes, they are 0 and ``NONE``.
    """
    height, width = picture.shape[-2:]
    frames = _frames(torch.cat([picture, holes, 1 - holes], 1))
    batch, rows, columns = frames.shape[:3]
    found = picture.new_zeros(batch, 4, rows * CORE, columns * CORE)
    found[:, 3] = NONE
    cores = found.view(batch, 4, rows, CORE, columns, CORE).permute(0, 2, 4, 1, 3, 5)
    chosen = frames[..., 3, INSET:-INSET, INSET:-INSET].flatten(3).any(3).nonzero()
    for part in chosen.split(TOGETHER) if len(chosen) else ():
        working()
        place = tuple(part.T)
        blocks = _blocks(frames[place])
        cores[place] = _shifted_together(blocks, *_shifts(blocks))
    return found[:, :3, :height, :width], found[:, 3:, :height, :width]


def _frames(planes: Tensor) -> Tensor:
    """``[B, C, H, W]`` to a view of blocks with what is around each, ``[B, rows, columns, C, FRAME, FRAME]``; 0 beyond the picture."""
    height, width = planes.shape[-2:]
    around = INSET, INSET + -width % CORE, INSET, INSET + -height % CORE
    return F.pad(planes, around).unfold(2, FRAME, CORE).unfold(3, FRAME, CORE).permute(0, 2, 3, 1, 4, 5)


def _blocks(frames: Tensor) -> _Blocks:
    colors, holes, known = frames[:, :3], frames[:, 3], frames[:, 4]
    light = luma(colors)[:, 0]
    mean = (light * known).sum((1, 2), keepdim=True) / known.sum((1, 2), keepdim=True).clamp(min=1)
    return _Blocks(known, holes, (light - mean) * known, colors)


def _shifts(blocks: _Blocks) -> tuple[Tensor, Tensor]:
    """The ``FOUND`` shifts of each block that fit best for the holes that they fill, and the short ones, as steps in a flattened frame
    ``[N, S]``; and the mean squared error of luma with which each fits in the whole block, infinite where it compares or fills too
    little."""
    known, light = blocks.known, blocks.light
    nearby = F.max_pool2d(blocks.holes, (2 * NEARBY + 1, 1), 1, (NEARBY, 0))
    compared = known * F.max_pool2d(nearby, (1, 2 * NEARBY + 1), 1, (0, NEARBY))
    compared = compared * _only(compared, FARTHEST)
    holes = blocks.holes * _only(known, INSET)
    ones, values, squares = (torch.fft.rfft2(known * light**power) for power in range(3))
    own, own_values, own_squares = (torch.fft.rfft2(compared * light**power).conj() for power in range(3))
    error = _by_shift(own_squares * ones + own * squares - 2 * own_values * values)
    count = _by_shift(own * ones)
    filled = _by_shift(torch.fft.rfft2(holes).conj() * ones) / holes.sum((1, 2), keepdim=True)
    few = (count < COMPARED * compared.sum((1, 2), keepdim=True).clamp(min=1)) | (filled < FILLED)
    error = (error.clamp(min=0) / count.clamp(min=1)).masked_fill(few, torch.inf)
    cost = (error + FINEST) / filled.clamp(min=FILLED)
    # One of a group of neighbors: the best.
    least = -F.max_pool2d(-cost[:, None], 3, 1, 1)[:, 0]
    number = cost.masked_fill(cost > least, torch.inf).flatten(1).topk(FOUND, largest=False).indices
    number = torch.cat([number, _short().to(number).expand(len(number), -1)], 1)
    steps = (number // ALONG - FARTHEST) * FRAME + number % ALONG - FARTHEST
    return steps, error.flatten(1).gather(1, number)


def _short() -> Tensor:
    """The short shifts, as places among all of them."""
    turns = torch.arange(TURNS) * (2 * math.pi / TURNS)
    y, x = (torch.cat([far * wave for far in SHORT]).round().long() + FARTHEST for wave in (turns.sin(), turns.cos()))
    return y * ALONG + x


def _only(like: Tensor, inset: int) -> Tensor:
    """1 at least ``inset`` pixels from the border, else 0."""
    side = FRAME - 2 * inset
    return F.pad(like.new_ones(side, side), (inset,) * 4)


def _by_shift(spectrum: Tensor) -> Tensor:
    """A correlation by shifts of -FARTHEST to FARTHEST, ``[N, ALONG, ALONG]``."""
    correlation = torch.fft.irfft2(spectrum, s=(FRAME, FRAME))
    return correlation.roll((FARTHEST, FARTHEST), (1, 2))[:, :ALONG, :ALONG]


def _shifted_together(blocks: _Blocks, shifts: Tensor, errors: Tensor) -> Tensor:
    """``[N, 4, CORE, CORE]``: in the holes of the cores the mean color of the shifts and the least error; else 0 and ``NONE``.
    errors: of the shifts in the whole block, see `_shifts`."""
    around, compared = _fits(blocks, shifts)
    block, y, x = (blocks.holes[:, INSET:-INSET, INSET:-INSET] > 0).nonzero(as_tuple=True)
    coarse = block, slice(None), y // HALF, x // HALF
    at = ((y + INSET) * FRAME + x + INSET)[:, None] + shifts[block]
    known = blocks.known.flatten(1)[block[:, None], at]
    own = (around[coarse] + WHOLE * errors[block]) / (compared[coarse] + WHOLE)
    useless = (known == 0) | own.isinf()
    own = own.clamp(0, NONE).masked_fill(useless, NONE)
    least = own.amin(1, keepdim=True)
    weights = (-(own - least) / (FADING * (least + FINEST))).exp().masked_fill(useless, 0)
    weights = weights / weights.sum(1, keepdim=True).clamp(min=1e-9)
    colors = blocks.colors.flatten(2).mT[block[:, None], at]
    found = colors.new_zeros(len(shifts), CORE, CORE, 4)
    found[..., 3] = NONE
    found[block, y, x] = torch.cat([(weights[..., None] * colors).sum(1), least], 1)
    return found.movedim(3, 1)


def _fits(blocks: _Blocks, shifts: Tensor) -> tuple[Tensor, Tensor]:
    """Around each pixel of the cores, for each shift: the mean of the squared error, which is 0 where either pixel is unknown, and the
    share of pixels that are known in both, ``[N, S, CORE / HALF, CORE / HALF]``."""
    rows = torch.arange(FARTHEST, FRAME - FARTHEST, device=shifts.device)
    at = ((rows[:, None] * FRAME + rows) + shifts[..., None, None]).flatten(1)
    there_known, there = (
        plane.flatten(1).gather(1, at).view(*shifts.shape, len(rows), -1) for plane in (blocks.known, blocks.light)
    )
    known, here = (plane[:, None, FARTHEST:-FARTHEST, FARTHEST:-FARTHEST] for plane in (blocks.known, blocks.light))
    both = there_known * known
    return _around(both * (there - here).square()), _around(both)


def _around(planes: Tensor) -> Tensor:
    """Means over windows around each pixel of the cores, at half the resolution, of planes that are ``MARGIN`` wider on each side."""
    planes = F.avg_pool2d(planes, HALF)
    for side in WINDOWS:
        for axis in (-2, -1):
            total = F.pad(planes.cumsum(axis), (1, 0) if axis == -1 else (0, 0, 1, 0))
            length = planes.shape[axis] + 1 - side
            planes = (total.narrow(axis, side, length) - total.narrow(axis, 0, length)) / side
    return planes
