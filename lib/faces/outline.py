"""The outline of a face (jaw and brows), from dlib's predictor if available, otherwise estimated from the five
landmarks."""

from __future__ import annotations

from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from ..vocabulary import Face, inverted
from .align import TEMPLATE_512, moved
from .broken import attempt
from .detect import dlib_file, five_of_68, to_uint8

# Half of it: jaw from the ear to the chin, then the brow from its outer end, for a crop of 512 px. Medians of dlib's points
# over 49 aligned faces, made symmetric about the template's middle.
MIDDLE = 256.0
JAW: list[list[float]] = [
    [119.5, 248],
    [121, 283],
    [126.5, 320],
    [132, 356],
    [145, 389],
    [165, 418],
    [191, 442],
    [222, 459.5],
    [256, 465],
]
BROW: list[list[float]] = [[144.5, 225], [163, 208.5], [186, 203], [211, 206], [236, 214.5]]
# The box that dlib's detector would find in such a crop (medians).
BOX = (118, 160, 394, 436)
# Pixels of a 512 px crop by which the predictor's eyes and mouth may miss the landmarks.
FURTHEST_MISS = 25.0


def outline(face: Face) -> np.ndarray:
    """``[27, 2]`` points (x, y) in pixels of the face's crop: 17 of the jaw, from left to right, and 10 of the brows."""
    seen = predicted(face)
    return typical_outline(face) if seen is None else seen[:27]


def typical_outline(face: Face) -> np.ndarray:
    """The median outline ``[27, 2]``, brought to the face's five landmarks by the affine map that fits them best."""
    size = face.similarity.size
    landmarks = moved(face.landmarks, face.similarity.matrix)
    points = np.concatenate([_mirrored(JAW), _mirrored([*BROW, [MIDDLE, 0]])]) * (size / 512)
    points = np.delete(points, 17 + 5, axis=0)
    # The eyes and the corners of the mouth lie in one plane; the nose, which does not, tells nothing about the outline.
    plane = [0, 1, 3, 4]
    start = np.column_stack([TEMPLATE_512[plane] * (size / 512), np.ones(4)])
    affine = np.linalg.lstsq(start, landmarks[plane], rcond=None)[0]
    return np.column_stack([points, np.ones(len(points))]) @ affine


def _mirrored(half: list[list[float]]) -> np.ndarray:
    """Points of the left half and, in reverse, their mirror images; the last one lies in the middle."""
    left = np.array(half, np.float64)
    return np.concatenate([left, left[-2::-1] * [-1, 1] + [2 * MIDDLE, 0]])


def predicted(face: Face) -> np.ndarray | None:
    """dlib's points ``[68, 2]`` in the crop, or None if its predictor is missing or does not find the detected face."""
    path = dlib_file("shape_predictor_68_face_landmarks.dat")
    predictor = None if path is None else attempt("dlib's predictor of face points", partial(_predictor, path), path)
    if predictor is None:
        return None
    import dlib

    scale = face.similarity.size / 512
    corners = np.reshape(BOX, (2, 2)) * scale
    if face.template is not None:
        corners = moved(corners, inverted(face.template))
    box = dlib.rectangle(*(round(side) for side in corners.flatten().tolist()))
    found = predictor(to_uint8(face.best), box)
    points = np.array([(point.x, point.y) for point in found.parts()], np.float64)
    miss = np.abs(five_of_68(points) - moved(face.landmarks, face.similarity.matrix))[[0, 1, 3, 4]].max()
    return points if miss < FURTHEST_MISS * scale else None


@lru_cache(maxsize=1)
def _predictor(path: Path) -> Any:
    import dlib

    return dlib.shape_predictor(str(path))


def covering(points: np.ndarray, size: int) -> np.ndarray:
    """float32 ``[size, size]``, 1 inside the convex hull of points ``[N, 2]`` and 0 outside, to a sixteenth of a pixel."""
    canvas = np.zeros((size, size), np.uint8)
    hull = cv2.convexHull(points.astype(np.float32))[:, 0]
    cv2.fillConvexPoly(canvas, np.round(hull * 16).astype(np.int32), 255, cv2.LINE_AA, shift=4)
    return canvas.astype(np.float32) / 255
