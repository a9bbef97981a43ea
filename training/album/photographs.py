"""Photographs of people on disk: reading, writing so that nothing half-written stays, and the one face of a portrait."""

from __future__ import annotations

import os
from pathlib import Path

import cv2
import numpy as np
import torch
from torch import Tensor

from ...lib.faces.detect import detect_faces
from ...lib.faces.detection import Detection
from ...lib.vocabulary import UserError

JPEG_QUALITY = 95
LONGEST_SIDE = 512  # of a photograph in the detector; a portrait's face is large anyway
CLEAR_SCORE = 0.9
CLEAR_SHARE = 1 / 6  # least height of a face, as a share of the shorter side


def read_photograph(path: Path) -> np.ndarray:
    """The photograph as uint8 ``[H, W, 3]`` in RGB. Raises UserError where it cannot be read."""
    picture = cv2.imread(str(path), cv2.IMREAD_COLOR)
    if picture is None:
        raise UserError(f"{path} is not a picture that can be read. Delete it, or bring the whole file again.")
    return np.ascontiguousarray(picture[..., ::-1])


def write_jpeg(path: Path, picture: np.ndarray) -> None:
    """Writes uint8 ``[H, W, 3]`` in RGB beside ``path`` first, so that an interruption leaves no half file there."""
    partial = path.with_name(f"{path.stem}.partial.jpg")
    options = [
        cv2.IMWRITE_JPEG_QUALITY,
        JPEG_QUALITY,
        cv2.IMWRITE_JPEG_SAMPLING_FACTOR,
        cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444,
    ]
    if not cv2.imwrite(str(partial), picture[..., ::-1], options):
        raise UserError(f"{path} cannot be written. Is the disk full, or the folder read-only?")
    os.replace(partial, path)


def write_arrays(path: Path, **arrays: np.ndarray) -> None:
    """Writes a compressed .npz in one step."""
    partial = path.with_name(f"{path.stem}.partial.npz")
    np.savez_compressed(partial, **arrays)
    os.replace(partial, path)


def to_tensor(picture: np.ndarray) -> Tensor:
    """uint8 ``[H, W, 3]`` to float32 ``[3, H, W]`` in 0..1."""
    return torch.from_numpy(picture).permute(2, 0, 1).float() / 255


def to_bytes(picture: Tensor) -> np.ndarray:
    """``[3, H, W]`` in 0..1 to uint8 ``[H, W, 3]``."""
    return (picture.clamp(0, 1) * 255).round().byte().permute(1, 2, 0).contiguous().numpy()


def clear_face(picture: np.ndarray, backend: str = "mtcnn") -> Detection | None:
    """The only clear face of uint8 ``[H, W, 3]``, in its pixels, or None where there is none or more than one."""
    height, width = picture.shape[:2]
    scale = min(1.0, LONGEST_SIDE / max(height, width))
    small = picture if scale == 1 else cv2.resize(picture, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    least = CLEAR_SHARE * min(small.shape[:2])
    found = [face for face in detect_faces(to_tensor(small), backend) if face.score >= CLEAR_SCORE]
    found = [face for face in found if face.box[3] - face.box[1] >= least]
    if len(found) != 1:
        return None
    box = tuple(side / scale for side in found[0].box)
    return Detection(box, (found[0].landmarks + 0.5) / scale - 0.5, found[0].score)


def landmark_eye_distance(landmarks: np.ndarray) -> float:
    """Distance in pixels between the eyes of five points ``[5, 2]``."""
    return float(np.hypot(*(landmarks[1] - landmarks[0])))
