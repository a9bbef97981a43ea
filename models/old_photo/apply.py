"""The finder and the filler brought to whole photographs, in tiles."""

from __future__ import annotations

import math
from collections.abc import Callable

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ...lib.pictures.tiles import as_memory_allows, memory_for, tiled
from .filler import Filler, smoothly_filled
from .finder import Finder
from .repeats import repeated

# Calibrated on drawn damage that was not trained on, see docs/old_photographs.md.
THRESHOLD = 0.5

# By how much the logarithm of the odds may be less beside a place that is sure.
SLACK = 1.5
FINDER_TILE, FILLER_TILE, OVERLAP = 1024, 384, 64


def find_damage(
    photos: Tensor, load: Callable[[], Finder], progress: Callable[[int, int], None] = lambda done, total: None
) -> Tensor:
    """How probably each pixel of ``[B, 3, H, W]`` is damaged, ``[B, 1, H, W]`` in 0..1, float32 on the CPU."""
    net = load()
    weight = next(net.parameters())

    def apply(tile: Tensor) -> Tensor:
        padded = _padded(tile, net.multiple).to(weight)
        return net(padded)[..., : tile.shape[-2], : tile.shape[-1]].float().sigmoid()

    def run(tile: int) -> Tensor:
        return tiled(apply, photos, tile, 2 * OVERLAP, multiple=net.multiple, progress=progress)

    with torch.inference_mode():
        return as_memory_allows(run, FINDER_TILE, 2 * OVERLAP)


def mask_of(probability: Tensor, threshold: float, grow: int) -> Tensor:
    """``[B, 1, H, W]``, 1 where the probability is at least ``threshold``, where it is hardly less beside such places (hysteresis, Canny
    1986), and up to ``grow`` pixels around; else 0."""
    odds = math.log(threshold / (1 - threshold)) - SLACK
    weak = (probability >= 1 / (1 + math.exp(-odds))).numpy().astype(np.uint8)
    found = torch.empty_like(probability)
    for number, sure in enumerate((probability >= threshold).numpy()[:, 0]):
        count, parts = cv2.connectedComponents(weak[number, 0], connectivity=8)
        kept = np.zeros(count, np.float32)
        kept[parts[sure]] = 1
        found[number, 0] = torch.from_numpy(kept[parts])
    return F.max_pool2d(found, 2 * grow + 1, 1, grow) if grow else found


def fill_damage(
    photos: Tensor,
    mask: Tensor,
    strength: float,
    load: Callable[[], Filler],
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Tensor:
    """Photographs ``[B, 3, H, W]`` with their masked places filled from what surrounds them.

    mask: ``[B, 1, H, W]`` in 0..1; whatever is above 0 is not looked at, and is replaced by that share. Where mask or strength is 0, the
    pixels stay as they are, bit for bit.
    """
    holes = (mask > 0).float()
    if strength == 0 or not holes.any():
        return photos
    net = load()
    device = next(net.parameters()).device
    with memory_for("what repeats around the damage"):
        smooth = smoothly_filled(photos * (1 - holes), holes)
        stack = torch.cat([smooth, holes, *repeated(smooth, holes, lambda: progress(0, 1))], 1)

    def apply(tile: Tensor) -> Tensor:
        if not tile[:, 3:4].any():
            return tile[:, :3]
        planes = _padded(tile, net.multiple).to(device).split((3, 1, 3, 1), 1)
        return net(*planes)[..., : tile.shape[-2], : tile.shape[-1]].float()

    def run(tile: int) -> Tensor:
        return tiled(apply, stack, tile, OVERLAP, multiple=net.multiple, progress=progress)

    with torch.inference_mode():
        filled = as_memory_allows(run, FILLER_TILE, OVERLAP).clamp(0, 1)
    return torch.where(holes > 0, torch.lerp(photos, filled, mask * strength), photos)


def _padded(tile: Tensor, multiple: int) -> Tensor:
    """Continued at the lower and right border to a multiple of ``multiple``."""
    height, width = tile.shape[-2:]
    return F.pad(tile, (0, -width % multiple, 0, -height % multiple), mode="replicate")
