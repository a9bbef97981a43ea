"""Landmarks as text: what a person writes to move a point, to leave out a face, or to add one."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from ..vocabulary import Size, UserError
from .detection import Detection

POINTS = ("left_eye", "right_eye", "nose", "left_mouth", "right_mouth")
COMMANDS = "'0 left_eye 120.5 88', '0 drop' or 'new' and ten numbers"
# A box around five points: by which share of the distance between eyes and mouth it is larger on every side.
AROUND = 1.0


def edit_landmarks(found: list[Detection], text: str, size: Size) -> list[Detection]:
    """The detections of one photograph of ``size`` (H, W) after the edits in ``text``, one a line; faces keep their order, new ones last.

    ``FACE POINT X Y`` moves one of `POINTS`; ``FACE drop`` leaves a face out; ``new`` with five points adds one. A moved face loses
    dlib's 68 points, because they no longer agree. Raises UserError, with the line, for what cannot be read or lies outside.
    """
    edited: list[Detection | None] = list(found)
    for line in filter(None, (line.strip() for line in text.splitlines())):
        first, *rest = line.split()
        if first == "new":
            edited.append(_new(line, rest, size))
        elif not first.isdecimal() or len(first) > 9 or int(first) >= len(found):
            raise _wrong(line, f"there are {len(found)} faces, numbered from 0")
        elif rest == ["drop"]:
            edited[int(first)] = None
        elif (face := edited[int(first)]) is None:
            raise _wrong(line, "this face is left out by an earlier line")
        else:
            edited[int(first)] = _moved(face, line, rest, size)
    return [face for face in edited if face is not None]


def written(found: list[Detection]) -> str:
    """The landmarks of one photograph as lines that `edit_landmarks` reads."""
    lines = []
    for number, face in enumerate(found):
        lines += [f"{number} {name} {x:.1f} {y:.1f}" for name, (x, y) in zip(POINTS, face.landmarks, strict=True)]
    return "\n".join(lines)


def _moved(face: Detection, line: str, rest: list[str], size: Size) -> Detection:
    if len(rest) != 3 or rest[0] not in POINTS:
        raise _wrong(line, f"the points are {', '.join(POINTS)}")
    landmarks = face.landmarks.copy()
    landmarks[POINTS.index(rest[0])] = _numbers(line, rest[1:], 2, size)[0]
    return replace(face, landmarks=landmarks, points=None)


def _new(line: str, rest: list[str], size: Size) -> Detection:
    landmarks = _numbers(line, rest, 10, size)
    margin = AROUND * float(np.hypot(*(landmarks[3:].mean(0) - landmarks[:2].mean(0))))
    (x0, y0), (x1, y1) = landmarks.min(0) - margin, landmarks.max(0) + margin
    box = max(x0, 0.0), max(y0, 0.0), min(x1, float(size[1])), min(y1, float(size[0]))
    return Detection((float(box[0]), float(box[1]), float(box[2]), float(box[3])), landmarks, 1.0)


def _numbers(line: str, words: list[str], count: int, size: Size) -> np.ndarray:
    """``[count / 2, 2]`` pixels inside of the photograph."""
    try:
        values = np.array([float(word) for word in words], np.float64)
    except ValueError:
        values = np.array([])
    if len(values) != count:
        raise _wrong(line, f"it needs {count} numbers")
    points = values.reshape(-1, 2)
    if not ((points >= 0) & (points <= [size[1] - 1, size[0] - 1])).all():  # also for NaN
        raise _wrong(line, f"a point lies outside the {size[1]} x {size[0]} photograph")
    return points


def _wrong(line: str, why: str) -> UserError:
    shown = line if len(line) <= 200 else f"{line[:200]}..."
    return UserError(f"Edit Landmarks: {shown!r} cannot be used: {why}. Write one edit a line, such as {COMMANDS}.")
