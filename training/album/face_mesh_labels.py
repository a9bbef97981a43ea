"""Labels for the face mesh: MediaPipe's face landmark model (Apache-2.0), run on undamaged pictures, teaches ours.

Only for whoever trains again. The teacher's file, face_landmark.tflite, lies in the mediapipe wheel under
mediapipe/modules/face_landmark; neither it nor the interpreter (pip install ai-edge-litert) is part of the pack.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np

from ...lib.extras import require
from ...lib.faces.align import align, moved
from ...lib.vocabulary import UserError, inverted

POINTS = 468
TEACHER_SIDE = 192
# Of the 512 px template: where the first look at a face is, as large as MediaPipe's own region (1.5 times the mesh).
FIRST_CENTRE, FIRST_SIDE = (256.0, 295.0), 490.0
ROI_SCALE = 1.5
OUTER_EYE_CORNERS = (33, 263)
# The labels of a face are averaged over slightly different regions: shift (shares of the side), scale, degrees.
VIEWS = ((0, 0, 1, 0), (0.03, 0.02, 1.06, 4), (-0.03, 0.02, 0.95, -4), (0.02, -0.03, 0.97, 3), (-0.02, -0.02, 1.04, -3))

Teacher = Callable[[np.ndarray], tuple[np.ndarray, float]]


def load_teacher(path: Path) -> Teacher:
    """teacher(uint8 RGB ``[192, 192, 3]``) -> points float64 ``[468, 3]`` in its pixels and the presence in 0..1.

    Raises UserError where the interpreter or the file is missing.
    """
    require("run.py train album-people", "mesh-labels")
    from ai_edge_litert.interpreter import Interpreter

    if not Path(path).is_file():
        raise UserError(
            f"{path}: no such file. face_landmark.tflite lies in the mediapipe wheel, modules/face_landmark."
        )
    network = Interpreter(str(path), num_threads=1)
    network.allocate_tensors()
    entry = network.get_input_details()[0]["index"]
    outputs = sorted(network.get_output_details(), key=lambda detail: -int(np.prod(detail["shape"])))

    def teacher(picture: np.ndarray) -> tuple[np.ndarray, float]:
        network.set_tensor(entry, picture[None].astype(np.float32) / 255)
        network.invoke()
        points, presence = (network.get_tensor(detail["index"]).ravel() for detail in outputs)
        return points.reshape(POINTS, 3).astype(np.float64), float(1 / (1 + np.exp(-presence[0])))

    return teacher


def label_face(teacher: Teacher, picture: np.ndarray, landmarks: np.ndarray) -> tuple[np.ndarray, float]:
    """float32 ``[468, 3]`` in pixels of ``picture`` (uint8 RGB ``[H, W, 3]``) and the presence in 0..1.

    landmarks: five points ``[5, 2]`` of a detector, which only say where to look first. The region then follows the
    points twice, as in MediaPipe's tracking, and the result is the mean of several regions. z is in the same unit,
    smaller is nearer. Pixels are counted as in ``faces.align``: the middle of the first one is 0.
    """
    roi = _first_roi(landmarks)
    for _ in range(2):
        points, _ = _look(teacher, picture, roi)
        roi = _roi_of(points)
    looks = []
    centre, side, angle = roi
    for x, y, scale, degrees in VIEWS:
        looks.append(
            _look(teacher, picture, (centre + side * np.array([x, y]), side * scale, angle + np.radians(degrees)))
        )
    points = np.mean([points for points, _ in looks], 0)
    return points.astype(np.float32), float(np.mean([presence for _, presence in looks]))


Roi = tuple[np.ndarray, float, float]
"""Centre ``[2]`` and side in pixels, angle of the eye line in radians."""


def _first_roi(landmarks: np.ndarray) -> Roi:
    back = inverted(align(landmarks, 512).matrix)
    centre = moved(np.array([FIRST_CENTRE]), back)[0]
    return centre, FIRST_SIDE * float(np.hypot(*back[:, 0])), float(np.arctan2(back[1, 0], back[0, 0]))


def _roi_of(points: np.ndarray) -> Roi:
    """MediaPipe's region of the next picture: the box of the points along the eye line, squared, 1.5 times as large."""
    across = points[OUTER_EYE_CORNERS[1], :2] - points[OUTER_EYE_CORNERS[0], :2]
    angle = float(np.arctan2(across[1], across[0]))
    turn = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    upright = points[:, :2] @ turn.T
    low, high = upright.min(0), upright.max(0)
    return (low + high) / 2 @ turn, ROI_SCALE * float((high - low).max()), angle


def _look(teacher: Teacher, picture: np.ndarray, roi: Roi) -> tuple[np.ndarray, float]:
    """The teacher's points ``[468, 3]`` in pixels of the picture, and the presence."""
    centre, side, angle = roi
    factor = side / TEACHER_SIDE
    axes = factor * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    # The teacher counts from the corner of its square: its pixel x has its middle at x + 0.5.
    matrix = np.column_stack([axes, centre + axes @ np.full(2, 0.5 - TEACHER_SIDE / 2)])
    shrunk = picture
    if factor > 1.5:  # remap does not average; a blur of half the step does
        shrunk = cv2.GaussianBlur(picture, (0, 0), factor / 3)
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    square = cv2.warpAffine(shrunk, matrix, (TEACHER_SIDE, TEACHER_SIDE), flags=flags, borderMode=cv2.BORDER_REPLICATE)
    points, presence = teacher(square)
    # and a point of the teacher at u lies at u - 0.5 in the counting of pixel middles
    flat = moved(points[:, :2] - 0.5, matrix)
    return np.column_stack([flat, points[:, 2] * factor]), presence
