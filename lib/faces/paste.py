"""Warps a crop back into the photograph, computing only the region that the crop covers."""

from __future__ import annotations

import math

import cv2
import numpy as np
import torch
from torch import Tensor

from ..vocabulary import Box, Similarity
from .align import coverage, warp

Region = tuple[int, int, int, int]


def unwarp(crop: Tensor, similarity: Similarity, size: tuple[int, int]) -> tuple[Tensor, Tensor, Region]:
    """A crop ``[C, S, S]`` laid back into the frame of a photograph of ``size`` (H, W).

    Returns the region ``[C, h, w]``, its validity ``[1, h, w]`` in 0..1 (0 beyond the crop), and where it lies
    (x0, y0, x1, y1). Pixels beyond the crop repeat its edge. Shrinking averages, so fine detail does not alias.
    """
    region = covered_region(similarity.inverse, similarity.size, size)
    matrix, shape = _onto(similarity.inverse, region)
    return warp(crop, matrix, shape), coverage(crop.shape[-2:], matrix, shape), region


def covered_region(inverse: np.ndarray, crop_size: int, size: tuple[int, int], margin: int = 0) -> Region:
    """The pixels of a photograph of ``size`` (H, W) that a crop reaches.

    inverse: ``[2, 3]``, crop pixels to photograph pixels. Clipped to the photograph, and at least one pixel, even for a
    crop that lies wholly outside.
    """
    low, high = -0.5, crop_size - 0.5
    corners = np.array([[low, low], [high, low], [low, high], [high, high]]) @ inverse[:, :2].T + inverse[:, 2]
    (x0, y0), (x1, y1) = corners.min(0) + 0.5, corners.max(0) + 0.5
    return _clip((x0 - margin, y0 - margin, x1 + margin, y1 + margin), size)


def face_region(box: Box, margin: float, size: tuple[int, int]) -> Region:
    """The upright region around a face at the photograph's own scale, clipped to ``size`` (H, W).

    margin: how much is added on every side, as a fraction of the box's longer side.
    """
    x0, y0, x1, y1 = box
    extra = margin * max(x1 - x0, y1 - y0)
    return _clip((x0 - extra, y0 - extra, x1 + extra, y1 + extra), size)


def paste_face(background: Tensor, face: Tensor, similarity: Similarity, upscale: int = 1) -> Tensor:
    """The published soft-mask paste: ``face`` ``[3, S, S]`` into ``background`` ``[3, H * upscale, W * upscale]``.

    similarity: of the photograph before it was enlarged. The mask is the crop's square, eroded and blurred by a width
    that follows its area. Returns a new picture. Pyramid blending is better at seams; this one is for comparison.
    """
    inverse = upscaled_inverse(similarity, upscale)
    if upscale > 1:
        # As published: half a source pixel, where exact pixel-center geometry would want half of (upscale - 1).
        inverse[:, 2] += 0.5 * upscale
    # A ring of two empty pixels lets the erosion see where the square ends.
    region = covered_region(inverse, similarity.size, background.shape[-2:], margin=2)
    matrix, shape = _onto(inverse, region)
    soft, hard = _soft_mask(coverage(face.shape[-2:], matrix, shape)[0].numpy(), upscale)
    pasted = warp(face, matrix, shape, border=(0.0,) * len(face), antialias=False) * torch.from_numpy(hard)
    weight = torch.from_numpy(soft)
    x0, y0, x1, y1 = region
    result = background.clone()
    result[:, y0:y1, x0:x1] = weight * pasted + (1 - weight) * background[:, y0:y1, x0:x1]
    return result


def upscaled_inverse(similarity: Similarity, upscale: int) -> np.ndarray:
    """``[2, 3]``: crop pixels to those of the enlarged photograph, in the published convention (multiplication)."""
    return similarity.inverse * upscale


def _soft_mask(mask: np.ndarray, upscale: int) -> tuple[np.ndarray, np.ndarray]:
    """The blurred weight and the eroded mask of the published paste."""
    hard = cv2.erode(mask, np.ones((2 * upscale, 2 * upscale), np.uint8))
    edge = int(math.sqrt(hard.sum())) // 20
    if edge == 0:
        return hard, hard
    soft = cv2.erode(hard, np.ones((2 * edge, 2 * edge), np.uint8))
    return cv2.GaussianBlur(soft, (2 * edge + 1, 2 * edge + 1), 0), hard


def _onto(inverse: np.ndarray, region: Region) -> tuple[np.ndarray, tuple[int, int]]:
    """The matrix into the region's own pixels, and the region's (height, width)."""
    x0, y0, x1, y1 = region
    return inverse - np.array([[0, 0, x0], [0, 0, y0]]), (y1 - y0, x1 - x0)


def _clip(box: Box, size: tuple[int, int]) -> Region:
    height, width = size
    x0, y0 = min(max(math.floor(box[0]), 0), width - 1), min(max(math.floor(box[1]), 0), height - 1)
    return x0, y0, max(min(math.ceil(box[2]), width), x0 + 1), max(min(math.ceil(box[3]), height), y0 + 1)
