"""Piecewise-affine warps between two sets of points, and the pyramid that blends what they bring."""

from __future__ import annotations

import cv2
import numpy as np
from scipy.spatial import Delaunay


def border_points(size: int, steps: int = 4) -> np.ndarray:
    """Points along the edge of a square picture ``[4 * steps, 2]``; they stay where they are."""
    along = np.linspace(0, size - 1, steps + 1)[:-1]
    low, high = np.zeros(steps), np.full(steps, size - 1.0)
    sides = [(along, low), (high, along), (high - along, high), (low, high - along)]
    return np.concatenate([np.stack(side, 1) for side in sides])


def delaunay(points: np.ndarray) -> np.ndarray:
    """Delaunay triangulation of ``[N, 2]``, rows of ``points``: int ``[T, 3]``."""
    return Delaunay(points).simplices


def sampling_map(source: np.ndarray, target: np.ndarray, faces: np.ndarray, size: int, step: int = 2) -> np.ndarray:
    """float32 ``[S, S, 2]``: where in the source each pixel of the target lies.

    source, target: corresponding points ``[N, 2]``; faces: triangles ``[T, 3]``; step: the map is computed for every
    ``step``-th pixel and interpolated. Small triangles are drawn last, so that where a fold lays two over each other the
    finer part of the face wins. Triangles without area are passed over.
    """
    corners = target[faces]
    sides = corners[:, 1:] - corners[:, :1]
    area = np.abs(sides[:, 0, 0] * sides[:, 1, 1] - sides[:, 0, 1] * sides[:, 1, 0])
    order = [row for row in np.argsort(-area) if area[row] > 1e-3]
    coarse = -(-size // step)
    first = (step - 1) / 2  # center of the first cell, in pixels of the target
    label = np.zeros((coarse, coarse), np.int32)
    for number, corner in enumerate(np.round((corners[order] - first) / step * 16).astype(np.int32)):
        cv2.fillConvexPoly(label, corner, number, shift=4)
    homogeneous = np.concatenate([corners[order], np.ones((len(order), 3, 1))], 2)
    affine = np.linalg.solve(homogeneous, source[faces[order]]).astype(np.float32)  # [T, 3, 2]
    y, x = np.mgrid[:coarse, :coarse].astype(np.float32) * step + first
    chosen = affine[label]
    where = x[..., None] * chosen[..., 0, :] + y[..., None] * chosen[..., 1, :] + chosen[..., 2, :]
    if step == 1:
        return where
    # As a displacement, so that the repeated edge of the interpolation moves nothing.
    displacement = cv2.resize(where - np.stack([x, y], -1), (coarse * step,) * 2, interpolation=cv2.INTER_LINEAR)
    y, x = np.mgrid[:size, :size].astype(np.float32)
    return displacement[:size, :size] + np.stack([x, y], -1)


def sample_bicubic(picture: np.ndarray, where: np.ndarray) -> np.ndarray:
    """``picture`` ``[H, W, 3]`` at the positions ``[S, S, 2]``, bicubic; beyond the edge it repeats."""
    return cv2.remap(picture, where, None, cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE)


def pyramid_blend(inside: np.ndarray, outside: np.ndarray, mask: np.ndarray, levels: int = 5) -> np.ndarray:
    """Laplacian pyramid blend (Burt and Adelson, 1983) of float32 ``[S, S, 3]``; mask ``[S, S]``: 1 shows ``inside``."""
    result = []
    for _ in range(levels):
        smaller = [cv2.pyrDown(values) for values in (inside, outside, mask)]
        size = mask.shape[::-1]
        bands = [
            fine - cv2.pyrUp(coarse, dstsize=size) for fine, coarse in zip((inside, outside), smaller, strict=False)
        ]
        result.append(bands[1] + mask[..., None] * (bands[0] - bands[1]))
        inside, outside, mask = smaller
    blended = outside + mask[..., None] * (inside - outside)
    for band in reversed(result):
        blended = band + cv2.pyrUp(blended, dstsize=band.shape[1::-1])
    return blended
