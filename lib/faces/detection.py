"""What detectors give, brought together: one detection per face, in reading order."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import torch

from ..vocabulary import Box, Size
from . import mtcnn
from .align import moved

MERGE_OVERLAP = 0.6


@dataclass(frozen=True)
class Detection:
    """box: in the photograph; landmarks: float64 ``[5, 2]``; score: 0..1; points: dlib's ``[68, 2]``, if asked for and found."""

    box: Box
    landmarks: np.ndarray
    score: float
    points: np.ndarray | None = None

    def placed(self, matrix: np.ndarray) -> Detection:
        """The detection after its picture is moved by a similarity ``[2, 3]``; the box stays upright and keeps its area."""
        x0, y0, x1, y1 = self.box
        # Boxes count from the pixels' edges, landmarks from their centers.
        x, y = moved(np.array([[(x0 + x1) / 2 - 0.5, (y0 + y1) / 2 - 0.5]]), matrix)[0] + 0.5
        width, height = np.sqrt(np.square(matrix[:, :2]) @ np.square([x1 - x0, y1 - y0])) / 2
        box = float(x - width), float(y - height), float(x + width), float(y + height)
        points = None if self.points is None else moved(self.points, matrix)
        return replace(self, box=box, landmarks=moved(self.landmarks, matrix), points=points)


def overlap(one: Box, other: Box) -> float:
    """Intersection over union, 0..1; 0 for boxes without an area."""
    width = max(min(one[2], other[2]) - max(one[0], other[0]), 0.0)
    height = max(min(one[3], other[3]) - max(one[1], other[1]), 0.0)
    both = sum((box[2] - box[0]) * (box[3] - box[1]) for box in (one, other)) - width * height
    return width * height / both if both > 0 else 0.0


@dataclass(frozen=True)
class FaceLandmarks:
    """PR_LANDMARKS: the faces of a batch of photographs before they are cropped.

    frames: the detections of each photograph; size: (height, width) of the photographs; used: as in ``Faces``.
    """

    frames: tuple[tuple[Detection, ...], ...]
    size: tuple[int, int]
    used: dict[str, str] = field(default_factory=dict)


def merge_detections(detections: Sequence[Detection]) -> list[Detection]:
    """One detection per face: the most confident one, if several passes found the same face."""
    if not detections:
        return []
    boxes = torch.tensor([detection.box for detection in detections])
    scores = torch.tensor([detection.score for detection in detections])
    return [detections[index] for index in mtcnn.suppress(boxes, scores, MERGE_OVERLAP).tolist()]


def main_face(detections: Sequence[Detection], size: Size) -> Detection:
    """The largest and most central face of a picture of ``size`` (H, W): area, halved toward a corner."""

    def weight(detection: Detection) -> float:
        x0, y0, x1, y1 = detection.box
        off = ((x0 + x1) / size[1] - 1) ** 2 + ((y0 + y1) / size[0] - 1) ** 2
        return (x1 - x0) * (y1 - y0) * (1 - off / 4)

    return max(detections, key=weight)


def reading_order(detections: Sequence[Detection]) -> list[Detection]:
    """Rows from top to bottom, each from left to right; a row holds centers within half a face of its topmost one."""

    def centre(detection: Detection) -> tuple[float, float]:
        x0, y0, x1, y1 = detection.box
        return (y0 + y1) / 2, (x0 + x1) / 2

    rows: list[list[Detection]] = []
    for detection in sorted(detections, key=centre):
        top = rows[-1][0] if rows else None
        if top is not None and centre(detection)[0] - centre(top)[0] < (top.box[3] - top.box[1]) / 2:
            rows[-1].append(detection)
        else:
            rows.append([detection])
    return [detection for row in rows for detection in sorted(row, key=lambda face: centre(face)[1])]
