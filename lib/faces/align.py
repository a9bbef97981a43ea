"""From five landmarks to a square, upright crop: the similarity, and the resampling that applies it.

Two frames are used. The 512 px five-point template is the one that published face restorers were trained on. PerFuSe's
frame (supplement, "face extraction") only turns the eye line horizontal and bounds how loose the square may be.
"""

from __future__ import annotations

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ..vocabulary import Box, Face, Similarity, Size, UserError, enlargement, inverted

TEMPLATE_512 = np.array(
    [
        [192.98138, 239.94708],
        [318.90277, 240.1936],
        [256.63416, 314.01935],
        [201.26117, 371.41043],
        [313.08905, 371.15118],
    ]
)
# The fill beyond the edge of the photograph that published restorers expect: a neutral gray, RGB in 0..1.
PUBLISHED_BORDER = (132 / 255, 133 / 255, 135 / 255)
SMALLEST_TRIANGLE = 0.02
# Along a side, that are averaged for a pixel of the result; of what shrinks more, a smaller copy is sampled.
MOST_SAMPLES = 8
# In pixels of the photograph: how far off a landmark may lie, and how small and large the square of a face may be.
FARTHEST, SQUARES = 1e6, (1.0, 1e6)


def template(size: int) -> np.ndarray:
    """The five-point template for a crop of ``size`` pixels, ``[5, 2]``."""
    return TEMPLATE_512 * (size / 512)


def least_squares_similarity(source: np.ndarray, target: np.ndarray) -> np.ndarray:
    """``[2, 3]`` that maps ``source`` to ``target`` (``[N, 2]``) with the least squared error, never mirrored.

    Umeyama (1991) for two dimensions, where rotation and scale are one complex factor. Raises UserError if all
    source points coincide.
    """
    z, w = source @ [1, 1j], target @ [1, 1j]
    centred = z - z.mean()
    spread = np.vdot(centred, centred).real
    if spread == 0:
        raise UserError(
            "All landmarks of a face are at the same point. Detect the face again, or draw its box by hand."
        )
    factor = np.vdot(centred, w) / spread
    shift = w.mean() - factor * z.mean()
    return np.array([[factor.real, -factor.imag, shift.real], [factor.imag, factor.real, shift.imag]])


def robust_similarity(source: np.ndarray, target: np.ndarray) -> np.ndarray:
    """As ``least_squares_similarity``, but a misplaced landmark is ignored (least median of squares, as published)."""
    matrix, _ = cv2.estimateAffinePartial2D(source, target, method=cv2.LMEDS)
    return least_squares_similarity(source, target) if matrix is None else matrix


def align(landmarks: np.ndarray, size: int = 512) -> Similarity:
    """The similarity that brings five landmarks ``[5, 2]`` onto the template of a ``size`` px crop.

    Raises UserError for landmarks that are no numbers or nothing like a face's.
    """
    return _checked(Similarity(robust_similarity(_numbers(landmarks), template(size)), size))


def _numbers(landmarks: np.ndarray) -> np.ndarray:
    """As float64. Raises UserError for what cannot be the places of a face's points."""
    points = np.asarray(landmarks, np.float64)
    if not (np.abs(points) <= FARTHEST).all():  # also for NaN
        raise UserError("The landmarks of a face are not numbers, or lie far outside. Detect the face again.")
    return points


def _checked(similarity: Similarity) -> Similarity:
    """Raises UserError where the landmarks were (nearly) at one point, or have nothing of a face, so that the crop would be nothing."""
    scale = similarity.scale
    if not (np.isfinite(similarity.matrix).all() and scale and SQUARES[0] <= similarity.size / scale <= SQUARES[1]):
        raise UserError(
            "The landmarks of a face are nearly at the same point, or not arranged as in a face. Detect the face again, or draw "
            "its box by hand."
        )
    return similarity


def moved(points: np.ndarray, matrix: np.ndarray) -> np.ndarray:
    """Points ``[N, 2]`` after the affine map ``[2, 3]``."""
    return points @ matrix[:, :2].T + matrix[:, 2]


def tighten(side: float, area: float) -> float:
    """PerFuSe's rule: the side of the square in which a triangle of ``area`` fills at least 2 % (closed form)."""
    return min(side, float(np.sqrt(area / SMALLEST_TRIANGLE)))


def align_perfuse(landmarks: np.ndarray, size: int = 512, box: Box | None = None) -> Similarity:
    """PerFuSe's crop: eye line exactly horizontal, eyes-mouth triangle at least 2 % of the square.

    landmarks: five points, or dlib's 68; box: the detector's, which bounds how loose the square may start.
    Raises UserError for landmarks that are no numbers.
    """
    left, right, mouth = _triangle(_numbers(landmarks))
    eyes, across, down = (left + right) / 2, right - left, mouth - (left + right) / 2
    eye_distance, mouth_distance = np.hypot(*across), np.hypot(*down)
    side = 6 * eye_distance
    if box is not None:
        side = min(side, 1.8 * max(box[2] - box[0], box[3] - box[1]))
    side = tighten(side, abs(across[0] * down[1] - across[1] * down[0]) / 2)
    # In profile the triangle, and with it the square, would shrink to nothing.
    side = max(side, 2 * eye_distance, 1.2 * mouth_distance, 1.0)
    angle = np.arctan2(across[1], across[0])
    centre = eyes + 0.1 * down
    linear = size / side * np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    return Similarity(np.column_stack([linear, (size - 1) / 2 - linear @ centre]), size)


def _triangle(landmarks: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Both eyes' centers and the mouth's center."""
    if len(landmarks) == 68:
        return landmarks[36:42].mean(0), landmarks[42:48].mean(0), landmarks[[48, 54]].mean(0)
    return landmarks[0], landmarks[1], landmarks[3:5].mean(0)


def crop_face(
    photo: Tensor,
    landmarks: np.ndarray,
    size: int = 512,
    border: tuple[float, float, float] | None = None,
    antialias: bool = True,
) -> tuple[Tensor, Tensor, Similarity]:
    """The aligned crop ``[3, S, S]`` of a face in ``[3, H, W]``, its validity ``[1, S, S]`` and the similarity.

    border, antialias: see ``warp``.
    """
    similarity = align(landmarks, size)
    crop, valid = take_crop(photo, similarity, border, antialias)
    return crop, valid, similarity


def take_crop(
    photo: Tensor, similarity: Similarity, border: tuple[float, float, float] | None = None, antialias: bool = True
) -> tuple[Tensor, Tensor]:
    """The crop ``[3, S, S]`` that a similarity describes, and its validity ``[1, S, S]``, 0 beyond the photograph."""
    size = (similarity.size, similarity.size)
    crop = warp(photo, similarity.matrix, size, border, antialias)
    return crop, coverage(photo.shape[-2:], similarity.matrix, size)


def onto_template(face: Face, picture: Tensor) -> Tensor:
    """A picture ``[C, S, S]`` in a face's own frame, as the five-point template shows it: the same size, closer."""
    return picture if face.template is None else warp(picture, face.template, picture.shape[-2:])


def from_template(face: Face, picture: Tensor) -> Tensor:
    """The inverse: ``[C, S, S]`` on the template to the face's own frame, 0 outside the template."""
    if face.template is None:
        return picture
    return warp(picture, inverted(face.template), picture.shape[-2:], border=(0.0,) * len(picture))


def template_pixel(face: Face, side: int) -> float:
    """Pixels of a face on the five-point template of ``side`` px, per pixel of the photograph."""
    closer = 1.0 if face.template is None else float(np.sqrt(abs(np.linalg.det(face.template[:, :2]))))
    return face.similarity.scale * closer * side / face.similarity.size


def warp(
    image: Tensor,
    matrix: np.ndarray,
    size: Size,
    border: tuple[float, ...] | None = None,
    antialias: bool = True,
) -> Tensor:
    """``[C, H, W]`` resampled to ``[C, *size]``; ``matrix`` ``[2, 3]`` maps its pixels to the result's.

    border: None repeats the edge, so that no foreign color enters a network or a blend; otherwise, a fill color of C
    values, as in the training of the published restorers. antialias: bicubic, and where the picture shrinks to less than two
    thirds every result pixel averages as many samples as needed, so that a face comes back as sharp as it left; without,
    bilinear and aliasing, as published. Memory is bounded: that of ``MOST_SAMPLES`` squared results.
    """
    shrink = 1 / np.sqrt(abs(np.linalg.det(matrix[:, :2])))
    if antialias and shrink > MOST_SAMPLES:
        reduced = int(shrink // (MOST_SAMPLES / 2))
        matrix = matrix @ enlargement(reduced, reduced)
        image = F.avg_pool2d(image[None], reduced, ceil_mode=True)[0]
        shrink /= reduced
    samples = max(1, round(shrink)) if antialias else 1
    matrix = matrix * samples
    matrix[:, 2] += (samples - 1) / 2
    height, width = size[0] * samples, size[1] * samples
    theta = _normalised(matrix, image.shape[-2:], (height, width))
    grid = F.affine_grid(theta, [1, 1, height, width], align_corners=False).to(image)
    mode = "bicubic" if antialias else "bilinear"
    if border is None:
        result = F.grid_sample(image[None], grid, mode, padding_mode="border", align_corners=False)
    else:
        fill = image.new_tensor(border)[:, None, None]
        result = F.grid_sample((image - fill)[None], grid, mode, padding_mode="zeros", align_corners=False) + fill
    if antialias:  # bicubic overshoots
        low, high = torch.aminmax(image)
        if border is not None:
            low, high = torch.minimum(low, fill.min()), torch.maximum(high, fill.max())
        result = result.clamp(low, high)
    return F.avg_pool2d(result, samples)[0] if samples > 1 else result[0]


def coverage(shape: Size, matrix: np.ndarray, size: Size) -> Tensor:
    """``[1, *size]`` in 0..1: how much of each result pixel's support lies on a picture of ``shape`` (H, W)."""
    x, y = np.arange(size[1])[None], np.arange(size[0])[:, None]
    inverse = np.linalg.inv(np.vstack([matrix, [0, 0, 1]]))
    inside = np.ones(size)
    for row, length in zip(inverse[:2], (shape[1], shape[0]), strict=True):
        position = row[0] * x + row[1] * y + row[2]
        inside *= np.clip(position + 1, 0, 1) * np.clip(length - position, 0, 1)
    return torch.from_numpy(inside)[None].float()


def _normalised(matrix: np.ndarray, source: Size, target: Size) -> Tensor:
    """The inverse of ``matrix`` in the -1..1 coordinates of ``affine_grid``, composed in float64."""

    def to_unit(height: int, width: int) -> np.ndarray:
        return np.array([[2 / width, 0, 1 / width - 1], [0, 2 / height, 1 / height - 1], [0, 0, 1]])

    forward = np.vstack([matrix, [0, 0, 1]])
    unit = to_unit(*source) @ np.linalg.inv(forward) @ np.linalg.inv(to_unit(*target))
    return torch.from_numpy(unit[:2]).float()[None]
