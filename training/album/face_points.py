"""The 189 points of the Face Research Lab London Set: reading them, what they mean, carrying them to another expression.

DeBruine and Jones (2017), doi 10.6084/m9.figshare.5047666, CC BY 4.0; WebMorph's ``.tem`` format. The public repository
has points for the neutral photographs only, so those of the smiling ones follow a dense mesh of the face.
Left and right are of the picture.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ...lib.faces.align import least_squares_similarity, moved
from ...lib.vocabulary import UserError

COUNT = 189
LEFT_EYE = [18, 19, 20, 21, 22, 28, 29, 30]  # outline of the lids; 0 and 1 are the pupils
RIGHT_EYE = [23, 24, 25, 26, 27, 31, 32, 33]
# The template's tip lies between the sides of its bulb (54, 60) and its foot (55): agrees with MTCNN to .01 of the eye distance.
NOSE = [54, 60, 55]
MOUTH_CORNERS = [87, 93]
UPPER_LIP = list(range(88, 93)) + list(range(94, 99))  # upper edge, then the edge at the opening
LOWER_LIP = list(range(99, 104)) + list(range(104, 109))
# The outline of the face: hairline, then the right side, jaw and left side, in the order of a closed line.
HAIRLINE = list(range(134, 145))
JAW = [133, 132, 131, 130, 129, 128, 127, 126, 125]
FOREHEAD = [*HAIRLINE, 82, 81, 80, 79, 78, 77, 76, 75, 74, 73, 72, 71]  # between the hairline and the brows' upper edge
# Rows of the mesh of 468 points (MediaPipe) that belong to one lip.
MESH_UPPER = [185, 40, 39, 37, 0, 267, 269, 270, 409, 184, 74, 73, 72, 11, 302, 303, 304, 408]
MESH_UPPER += [183, 42, 41, 38, 12, 268, 271, 272, 407, 191, 80, 81, 82, 13, 312, 311, 310, 415]
MESH_LOWER = [146, 91, 181, 84, 17, 314, 405, 321, 375, 77, 90, 180, 85, 16, 315, 404, 320, 307]
MESH_LOWER += [96, 89, 179, 86, 15, 316, 403, 319, 325, 95, 88, 178, 87, 14, 317, 402, 318, 324]
# What a smile does not move: forehead, bridge of the nose, corners of the eyes.
MESH_STILL = [10, 67, 297, 109, 338, 151, 9, 8, 168, 6, 197, 33, 133, 362, 263, 21, 251]
NEAR = 0.04  # of the eye distance: how locally a point follows the mesh
FADE = 0.5  # of the eye distance beyond the mesh: from there on only the head's own motion counts


def read_tem(path: Path) -> np.ndarray:
    """The points of a ``.tem`` file, float64 ``[189, 2]`` in pixels of its photograph."""
    lines = path.read_text().split("\n")
    if not lines[0].strip().isdigit() or int(lines[0]) != COUNT:
        raise UserError(f"{path} does not begin with {COUNT}: it is not a template of the London set.")
    return np.array([[float(value) for value in line.split()] for line in lines[1 : COUNT + 1]])


def five_of_189(points: np.ndarray) -> np.ndarray:
    """The template's landmarks ``[5, 2]`` (eyes' centers, tip of the nose, corners of the mouth) of ``[189, 2]``."""
    eyes_and_nose = [points[rows].mean(0) for rows in (LEFT_EYE, RIGHT_EYE, NOSE)]
    return np.stack([*eyes_and_nose, *points[MOUTH_CORNERS]])


def face_oval(points: np.ndarray, shrink: float = 0.0) -> np.ndarray:
    """The closed outline of the face ``[20, 2]``; ``shrink``: share of the way to its center."""
    outline = points[HAIRLINE + JAW]
    return outline + shrink * (outline.mean(0) - outline)


def carried(points: np.ndarray, mesh: np.ndarray, other_mesh: np.ndarray) -> np.ndarray:
    """``points`` ``[189, 2]`` of one photograph in another one of the same person.

    mesh, other_mesh: the dense mesh ``[468, 2]`` in both photographs, pixels. The head's motion is the similarity of what
    a smile leaves still; every point adds what the mesh near it does beyond that (inverse distances to the fourth power),
    the lips only from their own lip, because closed lips touch. Only differences of the mesh count, so its bias cancels.
    """
    head = least_squares_similarity(mesh[MESH_STILL], other_mesh[MESH_STILL])
    beyond = other_mesh - moved(mesh, head)
    unit = np.hypot(*np.diff(five_of_189(points)[:2], axis=0)[0])
    result = moved(points, head)
    for row, point in enumerate(points):
        squared = ((mesh - point) ** 2).sum(1) / unit**2
        weight = 1 / (squared + NEAR**2) ** 2
        if row in UPPER_LIP:
            weight[MESH_LOWER] = 0
        elif row in LOWER_LIP:
            weight[MESH_UPPER] = 0
        fade = np.exp(-squared.min() / FADE**2)
        result[row] += fade * weight @ beyond / weight.sum()
    return result
