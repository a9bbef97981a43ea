"""Faces in photographs that lie on their side or stand on their head: detectors know faces that are upright give or take 30 degrees."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ..vocabulary import enlargement, inverted
from .align import PUBLISHED_BORDER, align, warp
from .detection import Detection, merge_detections
from .paste import face_region

# Degrees counterclockwise. The second are for faces that lie between two of the first.
QUARTERS, EIGHTHS = (90, 180, 270), (45, 135, 225, 315)
# By how much more evidence a turned photograph has to show than an upright one: detectors see a few faces in anything.
MARGIN = 1.5
LEANING = 25  # degrees from which a face is looked at again
CEILING = 1e-4
# Longest side in pixels, of photographs that are resampled to be turned.
RESAMPLED_SIDE = 1600


def search(
    scan: Callable[[Tensor], list[Detection]], looks: Sequence[Tensor], threshold: float, sure: float
) -> list[Detection]:
    """The faces in several versions ``[3, H, W]`` of one photograph, in the position in which they show most.

    scan: finds upright faces; threshold, sure: the score from which it reports faces, and from which there is no need to turn the
    photograph. The landmarks are those of the upright face: left is the left of the face as somebody sees it who is upright to it.
    """
    best = merge_detections([face for look in looks for face in scan(look)])
    if any(face.score >= sure for face in best):
        return [_straightened(face, 0, scan, looks) for face in best]
    most, position = face_evidence(best, threshold) + MARGIN, 0
    for angles in (QUARTERS, EIGHTHS):
        for angle in angles:
            found = merge_detections([face for look in looks for face in _scan_turned(scan, look, angle)])
            if (weight := face_evidence(found, threshold)) > most:
                best, most, position = found, weight, angle
        if any(face.score >= sure for face in best) or (position == 0 and face_evidence(best, threshold) > MARGIN):
            break  # what is found uncertainly may lie between two of the positions
    return [_straightened(face, position, scan, looks) for face in best]


def search_upright(scan: Callable[[Tensor], list[Detection]], looks: Sequence[Tensor]) -> list[Detection]:
    """As `search`, of the photograph as it stands."""
    return [
        _straightened(face, 0, scan, looks) for face in merge_detections([one for look in looks for one in scan(look)])
    ]


def face_evidence(found: Sequence[Detection], threshold: float) -> float:
    """By how much faces exceed the threshold together, in natural logarithms of the odds."""
    return sum(max(_logit(face.score) - _logit(threshold), 0.0) for face in found)


def _straightened(
    face: Detection, position: int, scan: Callable[[Tensor], list[Detection]], looks: Sequence[Tensor]
) -> Detection:
    """The face, seen again by itself and upright if it leaned in the position in which it was found: its landmarks become exact."""
    turn = align(face.landmarks).turn
    if abs((turn - position + 180) % 360 - 180) < LEANING:
        return face
    x0, y0, x1, y1 = face_region(face.box, 0.5, looks[0].shape[-2:])
    shift = np.array([[1.0, 0, x0], [0, 1, y0]])
    seen = [one.placed(shift) for look in looks for one in _scan_turned(scan, look[:, y0:y1, x0:x1], round(turn))]
    same = [one for one in seen if np.abs(one.landmarks - face.landmarks).max() < (face.box[2] - face.box[0]) / 4]
    return max([face, *same], key=lambda one: one.score)


def _logit(score: float) -> float:
    score = min(max(score, CEILING), 1 - CEILING)
    return math.log(score / (1 - score))


def _scan_turned(scan: Callable[[Tensor], list[Detection]], photo: Tensor, angle: int) -> list[Detection]:
    """The detections in a photograph turned by ``angle`` degrees counterclockwise, in its own pixels."""
    picture, matrix = turned(photo, angle)
    return [face.placed(inverted(matrix)) for face in scan(picture)]


def turned(photo: Tensor, angle: int) -> tuple[Tensor, np.ndarray]:
    """``[3, H, W]`` turned counterclockwise, as large as needed, and the map ``[2, 3]`` to its pixels.

    By quarters it is exact; otherwise it is resampled, and reduced where it is large.
    """
    height, width = photo.shape[-2:]
    scale = 1.0 if angle % 90 == 0 else min(1.0, RESAMPLED_SIDE / max(height, width))
    cos, sin = math.cos(math.radians(angle)), math.sin(math.radians(angle))
    linear = scale * np.array([[cos, sin], [-sin, cos]])
    size = [math.ceil(side - 1e-6) for side in np.abs(linear[::-1, ::-1]) @ [height, width]]
    middle, centre = (np.array([(one[1] - 1) / 2, (one[0] - 1) / 2]) for one in (size, (height, width)))
    matrix = np.column_stack([linear, middle - linear @ centre])
    if angle % 90 == 0:
        return torch.rot90(photo, angle // 90, (1, 2)), matrix
    reduced = int(1 / scale)  # by averages, which takes a fraction of the time
    smaller = F.avg_pool2d(photo, reduced)
    return warp(smaller, matrix @ enlargement(reduced, reduced), tuple(size), PUBLISHED_BORDER), matrix
