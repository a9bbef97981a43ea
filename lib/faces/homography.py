"""The homography between two sets of matched points, many of them wrong: OpenCV's MAGSAC++, then a refit.

RANSAC-Flow's coarse stage (Shen et al. 2020, section 3.1) with MAGSAC++ (Barath et al. 2020) in place of its plain RANSAC; the
refit is the normalized direct linear transform (Hartley 1997). Points are float64 ``[N, 2]`` in any unit, the tolerance is in
the same.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import torch

POINTS = 4
ITERATIONS = 10_000  # at most
CONFIDENCE = 0.9999  # that no better hypothesis was missed, from which on the search ends early
# Of a homography of unit length; below it the plane is folded onto a line, or mirrored.
SMALLEST_DETERMINANT = 1e-6


@dataclass(frozen=True)
class Homography:
    """matrix: float64 ``[3, 3]``, last entry 1, start to end; inliers: bool ``[N]``; found: False means the identity."""

    matrix: np.ndarray
    inliers: np.ndarray
    found: bool


def ransac_homography(start: np.ndarray, end: np.ndarray, tolerance: float, seed: int = 0) -> Homography:
    """The homography that brings most of ``start`` to within ``tolerance`` of ``end``, refitted to all of those.

    The same seed gives the same result. Fewer than four matches, or none that fit together, give the identity.
    """
    hypothesis = _magsac(start, end, tolerance, seed)
    while hypothesis.found:
        matrix = refit(start[hypothesis.inliers], end[hypothesis.inliers])
        inliers = residuals(matrix[None], start, end)[0] < tolerance
        better = inliers.sum() > hypothesis.inliers.sum()
        if inliers.sum() >= hypothesis.inliers.sum():
            hypothesis = Homography(matrix, inliers, True)
        if not better:
            break
    return hypothesis


def _magsac(start: np.ndarray, end: np.ndarray, tolerance: float, seed: int) -> Homography:
    """Not refitted."""
    settings = cv2.UsacParams()
    settings.threshold, settings.confidence, settings.maxIterations = tolerance, CONFIDENCE, ITERATIONS
    settings.score, settings.loMethod = cv2.SCORE_METHOD_MAGSAC, cv2.LOCAL_OPTIM_SIGMA
    settings.randomGeneratorState = seed
    none = Homography(np.eye(3), np.zeros(len(start), bool), False)
    matrix = cv2.findHomography(start, end, settings)[0] if len(start) >= POINTS else None
    if matrix is None or np.linalg.det(matrix / np.linalg.norm(matrix)) <= SMALLEST_DETERMINANT:
        return none
    inliers = residuals(matrix[None], start, end)[0] < tolerance
    return Homography(matrix, inliers, True) if inliers.sum() >= POINTS else none


def refit(start: np.ndarray, end: np.ndarray) -> np.ndarray:
    """The least-squares homography ``[3, 3]``, last entry 1, of four or more matches (normalized DLT)."""
    from kornia.geometry.homography import find_homography_dlt  # takes a while to import

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
