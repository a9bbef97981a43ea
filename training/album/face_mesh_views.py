"""What the face mesh is trained on: a picture and its points, turned in space, bent, lit, hidden in part and damaged.

Everything happens in a frame that shows 1.25 times the five-point template, as uint8 RGB; points are in its pixels.
"""

from __future__ import annotations

import cv2
import numpy as np
import torch
from scipy.interpolate import RBFInterpolator

from ...lib.degradation.families import FAMILIES
from ...lib.faces.align import least_squares_similarity, moved, template
from ...models.album.face_mesh import (
    FACE_OVAL,
    LEFT_BROW,
    LEFT_EYE,
    LIPS_INNER,
    RIGHT_BROW,
    RIGHT_EYE,
    SIDE,
    five_of_mesh,
)

FRAME, LOOSE = 256, 1.25
DAMAGE = {"trial": 0.24, "codeformer": 0.14, "diffbir": 0.16, "s3diff_x4": 0.18, "light": 0.08, "clean": 0.2}
FACE_OF_TEMPLATE = 274 / 512
WIDTH = (16.0, 200.0)
LOWER_LIP = (146, 91, 181, 84, 17, 314, 405, 321, 375, 95, 88, 178, 87, 14, 317, 402, 318, 324, 77, 90, 180, 85, 16)
LOWER_LIP += (315, 404, 320, 307, 96, 89, 179, 86, 15, 316, 403, 319, 325)
LIDS = ((246, 161, 160, 159, 158, 157, 173, 7, 163, 144, 145, 153, 154, 155),)
LIDS += ((466, 388, 387, 386, 385, 384, 398, 249, 390, 373, 374, 380, 381, 382),)

View = tuple[np.ndarray, np.ndarray]
"""A picture uint8 ``[H, W, 3]`` and its points float ``[468, 3]``."""


def framed(picture: np.ndarray, points: np.ndarray) -> View:
    """The loose frame, uint8 ``[256, 256, 3]``, of a picture and the points in it."""
    target = (template(FRAME) - (FRAME - 1) / 2) / LOOSE + (FRAME - 1) / 2
    matrix = least_squares_similarity(five_of_mesh(points.astype(np.float64)), target)
    return _warped(picture, matrix, FRAME), _moved(points, matrix)


def turned_face(view: View, triangles: np.ndarray, rng: np.random.Generator) -> View:
    """The face bent into another expression and turned in space: the picture follows its visible points smoothly."""
    picture, points = view
    points = points.astype(np.float64)
    bent, opened = _bent(points, rng)
    centre = points.mean(0)
    yaw, pitch = np.radians(rng.uniform(-40, 40)), np.radians(rng.uniform(-20, 20))
    cos, sin = np.cos([yaw, pitch]), np.sin([yaw, pitch])
    across = np.array([[cos[0], 0, sin[0]], [0, 1, 0], [-sin[0], 0, cos[0]]])
    turn = across @ np.array([[1, 0, 0], [0, cos[1], -sin[1]], [0, sin[1], cos[1]]])
    result = (bent - centre) @ turn.T + centre
    # The head beyond the mesh: its outline once more, wider and farther back.
    outline = points[list(FACE_OVAL)]
    ring = (outline - centre) * [1.25, 1.25, 1] + centre + [0, 0, 0.2 * np.ptp(points[:, 0])]
    turned_ring = (ring - centre) @ turn.T + centre
    seen = _visible(result, triangles)
    hull = cv2.convexHull(result[seen, :2].astype(np.float32))
    free = np.array([cv2.pointPolygonTest(hull, tuple(map(float, at)), True) < -3 for at in turned_ring[:, :2]])
    edge = np.linspace(0, FRAME - 1, 6)
    border = np.array([(x, y) for x in edge for y in edge if x in edge[[0, -1]] or y in edge[[0, -1]]])
    target = np.vstack([result[seen, :2], turned_ring[free, :2], border])
    source = np.vstack([points[seen, :2], ring[free, :2], border])
    shown = cv2.remap(picture, *_field(target, source), cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    if opened:
        shown = _mouth_painted(shown, result, rng)
    return shown, result


def _field(target: np.ndarray, source: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Where each pixel of the frame comes from: thin plates through the points, on every eighth pixel."""
    steps = np.arange(0, FRAME, 8, dtype=np.float64) + 3.5
    grid = np.stack(np.meshgrid(steps, steps), -1).reshape(-1, 2)
    at = RBFInterpolator(target, source - target, smoothing=2.0)(grid) + grid
    at = cv2.resize(at.reshape(len(steps), len(steps), 2), (FRAME, FRAME), interpolation=cv2.INTER_LINEAR)
    return at[..., 0].astype(np.float32), at[..., 1].astype(np.float32)


def _visible(points: np.ndarray, triangles: np.ndarray) -> np.ndarray:
    """bool ``[468]``: the points all of whose triangles still face the viewer."""
    a, b, c = (points[triangles[:, corner], :2] for corner in range(3))
    facing = (b - a)[:, 0] * (c - a)[:, 1] - (b - a)[:, 1] * (c - a)[:, 0]
    hidden = facing * np.sign(np.median(facing)) < 0
    seen = np.ones(len(points), bool)
    seen[triangles[hidden]] = False
    return seen


def _bent(points: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, bool]:
    """Sometimes the jaw drops, the lids fall, the brows rise. ``[468, 3]``, and whether the mouth has opened."""
    bent = points.copy()
    unit = np.linalg.norm(points[list(LEFT_EYE)].mean(0) - points[list(RIGHT_EYE)].mean(0))
    lips = points[list(LIPS_INNER)]
    opened = rng.random() < 0.3
    if opened:
        drop = unit * rng.uniform(0.05, 0.4) * np.array([0, 1, 0.2])
        below = np.clip((points[:, 1] - lips[:, 1].mean()) / (0.5 * unit), 0, 1)
        weight = below**2 * (3 - 2 * below)
        half = np.ptp(lips[:, 0]) / 2
        lower = list(LOWER_LIP)
        weight[lower] = np.clip(1.15 - ((points[lower, 0] - lips[:, 0].mean()) / half) ** 2, 0, 1) ** 0.7
        bent += weight[:, None] * drop
    if rng.random() < 0.25:
        shut = rng.uniform(0.2, 0.9)
        for lids in LIDS:
            upper, lower = list(lids[:7]), list(lids[7:])
            bent[upper] += shut * (bent[lower] - bent[upper])
    if rng.random() < 0.3:
        lift = unit * rng.uniform(-0.06, 0.1)
        for brow in (LEFT_BROW, RIGHT_BROW):
            away = np.linalg.norm(points[:, :2] - points[list(brow), :2].mean(0), axis=1) / (0.35 * unit)
            bent[:, 1] -= lift * np.exp(-(away**2))
    if rng.random() < 0.3:
        wide = rng.uniform(-0.12, 0.12)
        away = np.linalg.norm(points[:, :2] - lips[:, :2].mean(0), axis=1) / (0.6 * unit)
        bent[:, 0] += wide * (points[:, 0] - lips[:, 0].mean()) * np.exp(-(away**2))
    return bent, opened


def _mouth_painted(picture: np.ndarray, points: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """An opened mouth is dark, with or without teeth at its upper edge."""
    lips = points[list(LIPS_INNER), :2]
    mask = np.zeros(picture.shape[:2], np.float32)
    cv2.fillPoly(mask, [np.round(lips).astype(np.int32)], 1.0)
    mask = cv2.GaussianBlur(mask, (0, 0), 1.2)[..., None] * rng.uniform(0.6, 1)
    inside = np.broadcast_to(np.float32(rng.uniform(20, 90) * np.array([1.1, 0.7, 0.65])), picture.shape).copy()
    if rng.random() < 0.6:
        teeth = np.zeros(picture.shape[:2], np.float32)
        upper = lips[:11]
        height = rng.uniform(0.3, 0.7) * np.ptp(lips[:, 1])
        cv2.fillPoly(teeth, [np.round(np.vstack([upper, upper[::-1] + [0, height]])).astype(np.int32)], 1.0)
        inside += cv2.GaussianBlur(teeth, (0, 0), 1.5)[..., None] * rng.uniform(60, 130)
    return (picture * (1 - mask) + inside * mask).clip(0, 255).astype(np.uint8)


def batch(views: list[View], rng: np.random.Generator) -> tuple[torch.Tensor, torch.Tensor]:
    """Views damaged alike, as a detector would crop them: uint8 ``[B, 3, 128, 128]``, points ``[B, 468, 3]`` in -1..1."""
    width = np.exp(rng.uniform(*np.log(WIDTH)))
    if width > 90 and rng.random() < 0.5:  # larger ones cost most and differ least
        width = np.exp(rng.uniform(np.log(WIDTH[0]), np.log(90)))
    side = max(24, round(width / FACE_OF_TEMPLATE * LOOSE))
    pictures, points = zip(*(_placed(view, side, rng) for view in views), strict=True)
    family = str(rng.choice(list(DAMAGE), p=list(DAMAGE.values())))
    whole = torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2)
    damaged = FAMILIES[family](int(rng.integers(2**31))).apply(whole).permute(0, 2, 3, 1).numpy()
    crops, targets = zip(*(_cropped(p, q, rng) for p, q in zip(damaged, points, strict=True)), strict=True)
    crops = torch.from_numpy(np.stack(crops)).permute(0, 3, 1, 2).mul(255).round().byte()
    return crops, torch.from_numpy(np.stack(targets)).float()


def _placed(view: View, side: int, rng: np.random.Generator) -> View:
    """A view at the photograph's scale, askew, lit otherwise, and now and then with something before the face."""
    picture, points = view
    angle, scale = np.radians(rng.normal(0, 8)), side / FRAME
    turn = scale * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    shift = (side - 1) / 2 + rng.uniform(-0.5, 0.5, 2) - turn @ np.full(2, (FRAME - 1) / 2)
    matrix = np.column_stack([turn, shift])
    placed = _lit(_warped(picture, matrix, side).astype(np.float32) / 255, rng)
    points = _moved(points, matrix)
    if rng.random() < 0.15:
        _occlude(placed, points, rng)
    return placed, points


def _lit(picture: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Exposure, contrast, color, grey, and light from one side."""
    side = len(picture)
    picture = picture ** np.exp(rng.normal(0, 0.25)) * np.exp(rng.normal(0, 0.15))
    if rng.random() < 0.5:
        picture = picture * np.exp(rng.normal(0, 0.08, 3))
    if rng.random() < 0.2:
        picture = np.repeat(picture.mean(-1, keepdims=True), 3, -1)
    if rng.random() < 0.4:
        angle, steep = rng.uniform(0, 2 * np.pi), rng.uniform(0.2, 1.5)
        y, x = np.mgrid[:side, :side] / side - 0.5
        picture = picture * np.exp(steep * (np.cos(angle) * x + np.sin(angle) * y))[..., None]
    if rng.random() < 0.3:
        picture = (picture - 0.5) * rng.uniform(0.4, 1.1) + 0.5
    return picture.clip(0, 1).astype(np.float32)


def _occlude(picture: np.ndarray, points: np.ndarray, rng: np.random.Generator) -> None:
    """Paints an ellipse or a bar of one color over a part of the face."""
    low, high = points[:, :2].min(0), points[:, :2].max(0)
    at = rng.uniform(low, high)
    size = rng.uniform(0.08, 0.35, 2) * (high - low)
    color = tuple(float(value) for value in (rng.uniform(0, 1) * rng.uniform(0.6, 1, 3)))
    box = (tuple(map(float, at)), tuple(map(float, size * 2)), float(rng.uniform(0, 180)))
    if rng.random() < 0.5:
        cv2.ellipse(picture, box, color, -1, cv2.LINE_AA)
    else:
        cv2.fillPoly(picture, [np.round(cv2.boxPoints(box)).astype(np.int32)], color, cv2.LINE_AA)


def _cropped(picture: np.ndarray, points: np.ndarray, rng: np.random.Generator) -> View:
    """The template's crop, off by as much as detectors err, and the points in -1..1 of it."""
    matrix = least_squares_similarity(five_of_mesh(points), template(SIDE))
    if rng.random() < 0.3:  # anything a detector may do
        scale, angle, off = rng.uniform(0.86, 1.16), rng.uniform(-15, 15), rng.uniform(-0.08, 0.08, 2)
    else:  # what it mostly does
        scale, angle, off = np.exp(rng.normal(0, 0.05)), rng.normal(0, 5), rng.normal(0, 0.03, 2)
    angle = np.radians(angle)
    turn = scale * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    middle = (SIDE - 1) / 2
    shift = middle + off * SIDE - turn @ np.full(2, middle)
    matrix = np.column_stack([turn @ matrix[:, :2], turn @ matrix[:, 2] + shift])
    crop = _warped(np.ascontiguousarray(picture), matrix, SIDE).clip(0, 1)
    if rng.random() < 0.15:  # what a restorer or a resampling leaves
        crop = cv2.GaussianBlur(crop, (0, 0), np.exp(rng.uniform(np.log(0.5), np.log(5))))
    return crop, (_moved(points, matrix) - [middle, middle, 0]) / (SIDE / 2)


def _moved(points: np.ndarray, matrix: np.ndarray) -> np.ndarray:
    """Points ``[468, 3]`` after a similarity ``[2, 3]``; z is scaled with it."""
    scale = np.sqrt(np.linalg.det(matrix[:, :2]))
    return np.column_stack([moved(points[:, :2], matrix), points[:, 2] * scale])


def _warped(picture: np.ndarray, matrix: np.ndarray, side: int) -> np.ndarray:
    """``[side, side, 3]`` after a similarity; where it shrinks, the picture is halved first as often as needed."""
    scale = np.sqrt(np.linalg.det(matrix[:, :2]))
    while scale < 0.6 and min(picture.shape[:2]) > 4:
        height, width = picture.shape[:2]
        picture = cv2.resize(
            picture[: height // 2 * 2, : width // 2 * 2], (width // 2, height // 2), interpolation=cv2.INTER_AREA
        )
        # A pixel x of the half lies at 2 x + 1/2 of the whole.
        matrix = np.column_stack([matrix[:, :2] * 2, matrix[:, 2] + matrix[:, :2] @ [0.5, 0.5]])
        scale *= 2
    return cv2.warpAffine(picture, matrix, (side, side), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
