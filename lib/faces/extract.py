"""PerFuSe's face extraction (supplement): dlib's 68 points, the eye line exactly level, with a bounded margin."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from torch import Tensor

from ..vocabulary import Face
from .align import align_perfuse, moved, take_crop
from .detect import make_face
from .detection import Detection
from .outline import predicted

# The five-point template of the published restorers, or PerFuSe's frame.
ALIGNMENTS = ("ffhq", "perfuse")


def located(photo: Tensor, detection: Detection) -> Detection:
    """The detection in ``[3, H, W]`` with dlib's 68 points, if its predictor is available and finds the face."""
    face = make_face(photo, detection)
    points = predicted(face)
    return replace(detection, points=None if points is None else moved(points, face.similarity.inverse))


def extract_face(photo: Tensor, detection: Detection, alignment: str = ALIGNMENTS[0]) -> Face:
    """The Face of a detection in ``[3, H, W]``, its crop cut in one of `ALIGNMENTS`.

    PerFuSe's frame uses dlib's 68 points if the detection has them (`located`), otherwise the five detected ones.
    """
    face = make_face(photo, detection)
    if alignment == ALIGNMENTS[0]:
        return face
    size = face.similarity.size
    points = detection.landmarks if detection.points is None else detection.points
    similarity = align_perfuse(points, size, detection.box)
    crop, valid = take_crop(photo, similarity)
    template = face.similarity.matrix @ np.vstack([similarity.inverse, [0, 0, 1]])
    return replace(face, similarity=similarity, crop=crop, valid=valid, template=template)
