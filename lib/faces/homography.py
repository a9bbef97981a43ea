"""The homography between two sets of matched points, many of them wrong: RANSAC on four points, then a refit.

RANSAC-Flow's coarse stage (Shen et al. 2020, section 3.1), which ends at the best four-point solution; the refit is the
normalized direct linear transform (Hartley 1997). Points are float64 ``[N, 2]`` in any unit, the tolerance is in the same.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from kornia.geometry.homography import find_homography_dlt

POINTS = 4
ITERATIONS = 10_000
# Of a homography of unit length; below it the plane is folded onto a line, or mirrored.
SMALLEST_DETERMINANT = 1e-6
# Hypotheses scored at once: bounds the memory, not the result.
BATCH = 512


@dataclass(frozen=True)
class Homography:
    """matrix: float64 ``[3, 3]``, last entry 1, start to end; inliers: bool ``[N]``; found: False means the identity."""

    matrix: np.ndarray
    inliers: np.ndarray
    found: bool


def ransac_homography(
    start: np.ndarray, end: np.ndarray, tolerance: float, seed: int = 0, iterations: int = ITERATIONS
) -> Homography:
    """The homography that brings most of ``start`` to within ``tolerance`` of ``end``, refitted to all of those.

    The same seed gives the same result. Fewer than four matches, or none that fit together, give the identity.
    """
    hypothesis = best_sample(start, end, draw_samples(len(start), iterations, seed), tolerance)
    while hypothesis.found:
        matrix = refit(start[hypothesis.inliers], end[hypothesis.inliers])
        inliers = residuals(matrix[None], start, end)[0] < tolerance
        better = inliers.sum() > hypothesis.inliers.sum()
        if inliers.sum() >= hypothesis.inliers.sum():
            hypothesis = Homography(matrix, inliers, True)
        if not better:
            break
    return hypothesis


def draw_samples(count: int, iterations: int, seed: int) -> np.ndarray:
    """int ``[M, 4]``: at most ``iterations`` random choices of four different ones of ``count`` points."""
    if count < POINTS:
        return np.zeros((0, POINTS), np.int64)
    drawn = np.random.default_rng(seed).integers(count, size=(iterations, POINTS))
    ordered = np.sort(drawn, 1)
    return drawn[(ordered[:, 1:] != ordered[:, :-1]).all(1)]


def best_sample(start: np.ndarray, end: np.ndarray, samples: np.ndarray, tolerance: float) -> Homography:
    """The first of the four-point homographies of ``samples`` ``[M, 4]`` with the most inliers, not refitted."""
    best = Homography(np.eye(3), np.zeros(len(start), bool), False)
    for first in range(0, len(samples), BATCH):
        chosen = samples[first : first + BATCH]
        matrices, sound = four_point(start[chosen], end[chosen])
        inliers = (residuals(matrices, start, end) < tolerance) & sound[:, None]
        index = int(inliers.sum(1).argmax())
        if inliers[index].sum() > best.inliers.sum():
            best = Homography(matrices[index], inliers[index], True)
    return best


def four_point(start: np.ndarray, end: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Exact homographies ``[M, 3, 3]``, last entry 1, of four matches each ``[M, 4, 2]``, and which are sound, ``[M]``.

    A sound one neither mirrors nor folds the plane, nor sends one of the four points through infinity. Solved by the
    basis change of the projective plane, so that degenerate choices cost nothing and raise nothing.
    """
    with np.errstate(all="ignore"):
        here, there = _basis(start), _basis(end)
        matrices = there @ _adjugate(here)
        matrices /= np.linalg.norm(matrices, axis=(1, 2), keepdims=True)
        depth = (_homogeneous(start) @ matrices[:, 2, :, None])[..., 0]
        matrices *= np.sign(depth[:, :1, None])
        sound = (np.sign(depth) == np.sign(depth[:, :1])).all(1) & (np.linalg.det(matrices) > SMALLEST_DETERMINANT)
        return matrices / matrices[:, 2:, 2:], sound


def refit(start: np.ndarray, end: np.ndarray) -> np.ndarray:
    """The least-squares homography ``[3, 3]``, last entry 1, of four or more matches (normalized DLT)."""
    points, images = (torch.from_numpy(np.asarray(side, np.float64))[None] for side in (start, end))
    return find_homography_dlt(points, images, solver="svd")[0].numpy()


def residuals(matrices: np.ndarray, start: np.ndarray, end: np.ndarray) -> np.ndarray:
    """``[M, N]``: how far each of ``matrices`` ``[M, 3, 3]`` leaves each start point from its end; inf where undefined."""
    with np.errstate(all="ignore"):
        distance = np.linalg.norm(transform(matrices, start) - end, axis=-1)
    return np.nan_to_num(distance, nan=np.inf)


def transform(matrices: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Points ``[..., N, 2]`` under homographies ``[..., 3, 3]``."""
    mapped = _homogeneous(points) @ np.swapaxes(matrices, -1, -2)
    return mapped[..., :2] / mapped[..., 2:]


def _homogeneous(points: np.ndarray) -> np.ndarray:
    return np.concatenate([points, np.ones((*points.shape[:-1], 1))], -1)


def _basis(points: np.ndarray) -> np.ndarray:
    """``[M, 3, 3]`` that maps the unit vectors to the first three of four points, and (1, 1, 1) to the fourth."""
    frame = np.swapaxes(_homogeneous(points[:, :3]), 1, 2)
    return frame * (_adjugate(frame) @ _homogeneous(points[:, 3:]).swapaxes(1, 2)).swapaxes(1, 2)


def _adjugate(matrices: np.ndarray) -> np.ndarray:
    a, b, c = np.moveaxis(matrices, 2, 0)
    return np.stack([np.cross(b, c), np.cross(c, a), np.cross(a, b)], 1)
