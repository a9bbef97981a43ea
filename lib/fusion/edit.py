"""Registers an edit of a photograph to the photograph, whatever the edit did to size, frame, colors and faces.

Features (SIFT, Lowe 2004) that hold together under one homography (MAGSAC, Barath et al. 2020) give the frame; a portrait before a plain
wall has few, and is brought over by the landmarks of a face, then by its correlation (ECC, Evangelidis and Psarakis 2008). What is
bent besides is a smooth flow: first the mean of what the homography leaves of the features, then dense inverse search (Kroeger et al. 2016)
on local contrast. Faces count little in it, because an editor may have drawn others there, and their features must not pull.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import cv2
import numpy as np
from torch import Tensor

from ..faces.align import least_squares_similarity
from ..faces.detection import Detection
from ..faces.homography import transform
from ..pictures.color import luma
from ..vocabulary import Face, Size, UserError, enlargement

# The longer side of the pictures where they are compared, in pixels, at most the photograph's own: what is enlarged is noise.
# Lengths below are shares of it, unless they say pixels.
SIDE, LEAST_SIDE = 800, 256
FEATURES, CONTRAST, RATIO = 2500, 0.008, 0.85
# Features may lie this far from the homography: an edit may be bent.
TOLERANCE = 0.03
FEWEST, LEAST_SHARE = 16, 0.2
# How far from its neighbors' mean a feature may lie, and over how far neighbors reach.
LEAST_NEIGHBORS, NEIGHBORHOOD, ODD = 3, 0.08, 0.01
# Of the flow: how far beyond the features it may go, how smooth it is, how much a face counts in it, and how far one reaches in the
# width and height of its box: an editor draws forehead and chin anew, too.
FURTHEST, SMOOTHNESS, IN_A_FACE = 0.04, (0.015, 0.04, 0.12), 0.02
# The same where nothing but a face gave the first guess: what is around it says little.
IN_THE_ONLY_FACE = 0.3
REACH = 0.65, 0.8
DENSE = 0.25
# Standard deviations of the bands that are compared: pixels, and shares; the finest for a first guess.
FINE, FIRST, COARSE = 1.5, 0.008, 0.03
FAINT = 6.0  # levels of 255
# Sides of a homography beyond which the pictures are not versions of each other.
LARGEST_STRETCH = 2.0
# How many faces of each picture are tried where features fail.
LARGEST_FACES = 3
# The correlation of what both show, outside of faces where there is enough.
LEAST_AGREEMENT = 0.4


@dataclass(frozen=True)
class Registration:
    """Where an edit shows each place of a photograph.

    homography: float64 ``[3, 3]``, photograph to edit pixels, applied after flow: float32 ``[h, w, 2]`` (x, y) in pixels of the
    photograph, on a grid that covers it. size: (H, W) of the photograph. features: how many agree; agreement: the correlation
    of local contrast, -1..1. reason: why the edit cannot be registered, or empty.
    """

    homography: np.ndarray
    flow: np.ndarray
    size: Size
    features: int
    agreement: float
    reason: str = ""

    def to_edit(self, points: np.ndarray) -> np.ndarray:
        """Points ``[..., 2]`` of the photograph in the edit."""
        points = np.asarray(points, np.float64)
        return transform(self.homography, points + self._flow_at(points))

    def to_photograph(self, points: np.ndarray) -> np.ndarray:
        """The inverse. The flow is smooth, so that a few steps of a fixed-point iteration are exact to a hundredth of a pixel."""
        straight = transform(np.linalg.inv(self.homography), np.asarray(points, np.float64))
        found = straight
        for _ in range(8):
            found = straight - self._flow_at(found)
        return found

    def scale_at(self, points: np.ndarray) -> float:
        """Edit pixels per pixel of the photograph, around points ``[N, 2]`` of it that are not all the same."""
        there = self.to_edit(points)
        return float(np.linalg.norm(there - there.mean(0)) / np.linalg.norm(points - points.mean(0)))

    def _flow_at(self, points: np.ndarray) -> np.ndarray:
        height, width = self.flow.shape[:2]
        place = (points + 0.5) * [width / self.size[1], height / self.size[0]] - 0.5
        flat = place.reshape(1, -1, 2).astype(np.float32)
        # OpenCV's maps are limited to 32767 columns.
        parts = [
            cv2.remap(self.flow, part[..., 0], part[..., 1], cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
            for part in np.array_split(flat, flat.shape[1] // 30000 + 1, 1)
        ]
        return np.concatenate(parts, 1).reshape(points.shape).astype(np.float64)


Found = Face | Detection


@dataclass(frozen=True)
class Guess:
    """matrix: ``[3, 3]``, photograph to edit in the compared pictures; start, end: ``[N, 2]``, the features that agree with it."""

    matrix: np.ndarray
    start: np.ndarray
    end: np.ndarray


def register(
    photo: Tensor, edit: Tensor, faces: Sequence[Found] = (), edit_faces: Sequence[Found] = ()
) -> Registration:
    """Where ``edit`` ``[3, h, w]`` shows the places of ``photo`` ``[3, H, W]``; both in 0..1. faces: those found in each of them.

    A result with a ``reason`` must not be used: the edit shows something else, or nothing can be recognized.
    """
    size = (photo.shape[-2], photo.shape[-1])
    side = min(max(*size, LEAST_SIDE), SIDE)
    here, there = (_gray(picture, side) for picture in (photo, edit))
    to_photo, to_edit = (_frame(gray.shape, picture.shape) for gray, picture in ((here, photo), (there, edit)))
    outside = _outside(faces, here.shape, to_photo)
    found = [_by_features(here, there, outside)]
    if found[0] is None:
        found = [_by_faces(here, there, pair, to_photo, to_edit) for pair in _pairs(faces, edit_faces)]
        outside = outside.clip(min=IN_THE_ONLY_FACE)
    tried = [_bent(here, there, guess, outside) for guess in found if guess is not None]
    if not tried:
        still = np.zeros((1, 1, 2), np.float32)
        return Registration(np.eye(3), still, size, 0, 0.0, "too little of the photograph is recognized in it")
    best = max(tried, key=lambda one: one.agreement)
    whole = to_edit @ best.homography @ np.linalg.inv(to_photo)
    scale = np.array([to_photo[0, 0], to_photo[1, 1]], np.float32)
    reason = "" if best.agreement >= LEAST_AGREEMENT else "it does not show the same content"
    return replace(best, homography=whole / whole[2, 2], flow=best.flow * scale, size=size, reason=reason)


def _by_features(here: np.ndarray, there: np.ndarray, outside: np.ndarray) -> Guess | None:
    """From the features of both, those outside of faces if there are enough; None if too few agree."""
    start, end = _matches(here, there)
    free = outside[start[:, 1].astype(int), start[:, 0].astype(int)] == 1
    for chosen in (free, np.ones(len(start), bool)):
        matrix, inliers = _homography(start[chosen], end[chosen], max(here.shape))
        count = int(inliers.sum())
        if count >= FEWEST and count >= LEAST_SHARE * chosen.sum() and _plausible(matrix, here.shape):
            return Guess(matrix, start[chosen][inliers], end[chosen][inliers])
    return None


def _pairs(faces: Sequence[Found], others: Sequence[Found]) -> list[tuple[Found, Found]]:
    """Faces of the photograph with faces of the edit, the largest ones of each."""
    ours, theirs = (
        sorted(some, key=lambda face: face.box[0] - face.box[2])[:LARGEST_FACES] for some in (faces, others)
    )
    return [(one, other) for one in ours for other in theirs]


def _by_faces(
    here: np.ndarray, there: np.ndarray, pair: tuple[Found, Found], to_photo: np.ndarray, to_edit: np.ndarray
) -> Guess | None:
    """From the landmarks of a face in both, then from the correlation of the pictures; None where that cannot be."""
    ours, theirs = (
        transform(np.linalg.inv(frame), face.landmarks) for frame, face in zip((to_photo, to_edit), pair, strict=True)
    )
    try:
        matrix = np.vstack([least_squares_similarity(ours, theirs), [0, 0, 1]])
    except UserError:
        return None
    steps = cv2.TERM_CRITERIA_EPS | cv2.TERM_CRITERIA_COUNT, 50, 1e-4
    fixed, moving = (_contrast(gray, FIRST * max(gray.shape)) for gray in (here, there))
    everywhere = np.ones(moving.shape, np.uint8)
    try:
        start = matrix[:2].astype(np.float32)
        matrix[:2] = cv2.findTransformECC(fixed, moving, start, cv2.MOTION_AFFINE, steps, everywhere, 5)[1]
    except cv2.error:  # it does not converge: the landmarks stay the guess
        matrix[:2] = least_squares_similarity(ours, theirs)
    nothing = np.zeros((0, 2))
    return Guess(matrix, nothing, nothing) if _plausible(matrix, here.shape) else None


def _bent(here: np.ndarray, there: np.ndarray, guess: Guess, outside: np.ndarray) -> Registration:
    """The guess with its flow and its agreement, in the frame of the compared pictures."""
    matrix = guess.matrix
    moved = transform(np.linalg.inv(matrix), guess.end)
    flow = _from_features(guess.start, moved, here.shape)
    flow = flow + _residual_flow(here, there, matrix, flow, outside)
    agreement = _agreement(here, there, matrix, flow, outside)
    return Registration(matrix, flow, here.shape, len(guess.start), agreement)


def _gray(picture: Tensor, side: int) -> np.ndarray:
    """uint8 luma, its longer side that many pixels."""
    light = luma(picture)[0].clamp(0, 1).cpu().numpy()
    factor = side / max(light.shape)
    size = (max(1, round(light.shape[1] * factor)), max(1, round(light.shape[0] * factor)))
    resized = cv2.resize(light, size, interpolation=cv2.INTER_AREA if factor < 1 else cv2.INTER_CUBIC)
    return (resized.clip(0, 1) * 255).astype(np.uint8)


def _even(gray: np.ndarray) -> np.ndarray:
    """The same contrast everywhere, so that a faded picture shows its features too."""
    return cv2.createCLAHE(3.0, (8, 8)).apply(gray)


def _frame(small: Size, shape: Size) -> np.ndarray:
    """``[3, 3]``, pixels of the compared picture to those of the whole one."""
    return enlargement(shape[-1] / small[1], shape[-2] / small[0])


def _matches(here: np.ndarray, there: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Features of both that are each other's best and clearly so, ``[N, 2]`` each."""
    detector = cv2.SIFT.create(nfeatures=FEATURES, contrastThreshold=CONTRAST)
    (first, ours), (second, theirs) = (detector.detectAndCompute(_even(gray), None) for gray in (here, there))
    if ours is None or theirs is None or min(len(ours), len(theirs)) < 2:
        return np.zeros((0, 2)), np.zeros((0, 2))
    # Hellinger's kernel (Arandjelovic and Zisserman 2012).
    ours, theirs = (np.sqrt(one / (one.sum(1, keepdims=True) + 1e-7)) for one in (ours, theirs))
    likeness = ours @ theirs.T
    best, back = likeness.argmax(1), likeness.argmax(0)
    second_best = np.partition(likeness, -2, 1)[:, -2]
    nearest, next_one = (np.sqrt(np.maximum(2 - 2 * one, 0)) for one in (likeness.max(1), second_best))
    chosen = np.flatnonzero((back[best] == np.arange(len(ours))) & (nearest < RATIO * next_one))
    start = np.array([first[int(index)].pt for index in chosen]).reshape(-1, 2)
    end = np.array([second[int(best[index])].pt for index in chosen]).reshape(-1, 2)
    return start, end


def _homography(start: np.ndarray, end: np.ndarray, side: int) -> tuple[np.ndarray, np.ndarray]:
    """The homography of most matches, and which of them agree with it and with their neighbors."""
    none = np.eye(3), np.zeros(len(start), bool)
    if len(start) < FEWEST:
        return none
    matrix, found = cv2.findHomography(
        start, end, cv2.USAC_MAGSAC, TOLERANCE * side, maxIters=10_000, confidence=0.9999
    )
    if matrix is None or abs(np.linalg.det(matrix)) < 1e-9:
        return none
    inliers = found[:, 0] > 0
    left = transform(np.linalg.inv(matrix), end) - start
    near = np.exp(-0.5 * ((start[:, None] - start[None]) ** 2).sum(-1) / (NEIGHBORHOOD * side) ** 2) * inliers
    np.fill_diagonal(near, 0)
    mean = near @ left / (near.sum(1, keepdims=True) + 1e-9)
    fits = np.linalg.norm(left - mean, axis=1) < ODD * side
    return matrix, inliers & fits & (near.sum(1) > LEAST_NEIGHBORS / 10)


def _plausible(matrix: np.ndarray, shape: Size) -> bool:
    """Whether the frame of a picture of ``shape`` stays a convex quadrangle of about its proportions, not mirrored."""
    height, width = shape
    corners = np.array([[0, 0], [width, 0], [width, height], [0, height]], float)
    depth = corners @ matrix[2, :2] + matrix[2, 2]
    if (depth * depth[0] <= 0).any():
        return False
    sides = np.roll(quad := transform(matrix, corners), -1, 0) - quad
    turns = sides[:, 0] * np.roll(sides[:, 1], -1) - sides[:, 1] * np.roll(sides[:, 0], -1)
    stretch = np.linalg.norm(sides, axis=1) / [width, height, width, height]
    return bool((turns > 0).all() and stretch.max() < LARGEST_STRETCH * stretch.min())


def _outside(faces: Sequence[Found], shape: Size, frame: np.ndarray) -> np.ndarray:
    """float32 of ``shape``: 1 outside of faces, ``IN_A_FACE`` inside. frame: ``[3, 3]``, its pixels to the faces'."""
    weight = np.ones(shape, np.float32)
    for face in faces:
        (x0, y0), (x1, y1) = transform(np.linalg.inv(frame), np.reshape(face.box, (2, 2)))
        middle = round((x0 + x1) / 2), round((y0 + y1) / 2)
        axes = max(round((x1 - x0) * REACH[0]), 1), max(round((y1 - y0) * REACH[1]), 1)
        cv2.ellipse(weight, middle, axes, 0, 0, 360, IN_A_FACE, -1)
    return weight


def _from_features(start: np.ndarray, moved: np.ndarray, shape: Size) -> np.ndarray:
    """``[h, w, 2]``: a smooth displacement through what the homography leaves between features."""
    scattered = np.zeros((*shape, 3), np.float32)
    columns, rows = (start.round().astype(int).clip(0) for start in (start[:, 0], start[:, 1]))
    np.add.at(
        scattered,
        (rows.clip(max=shape[0] - 1), columns.clip(max=shape[1] - 1)),
        np.column_stack([moved - start, np.ones(len(start))]).astype(np.float32),
    )
    return _smooth(scattered[..., :2], scattered[..., 2])


def _smooth(weighted: np.ndarray, weight: np.ndarray, density: float = 0.0) -> np.ndarray:
    """The mean of ``weighted / weight`` in a Gaussian window, a wider one where a narrow one holds too little.

    A window counts fully from a mean weight of ``density`` on; 0 stands for single features, of which it takes a few.
    """
    result = None
    for share in reversed(SMOOTHNESS):
        sigma = share * max(weight.shape)
        sums = _blurred(np.dstack([weighted, weight]), sigma)
        mean = sums[..., :2] / (sums[..., 2:] + 1e-9)
        full = density or LEAST_NEIGHBORS / (2 * np.pi * sigma**2)
        trust = (sums[..., 2:] / full).clip(0, 1)
        result = mean if result is None else result + trust * (mean - result)
    assert result is not None
    return result


def _blurred(field: np.ndarray, sigma: float) -> np.ndarray:
    """A Gaussian blur with zeros beyond the border; wide ones at a part of the size."""
    part = max(1, int(sigma / 4))
    height, width = field.shape[:2]
    small = cv2.resize(field, (-(-width // part), -(-height // part)), interpolation=cv2.INTER_AREA)
    blurred = cv2.GaussianBlur(small, (0, 0), sigma / part, borderType=cv2.BORDER_CONSTANT)
    return cv2.resize(blurred, (width, height), interpolation=cv2.INTER_LINEAR)


def _residual_flow(
    here: np.ndarray, there: np.ndarray, matrix: np.ndarray, flow: np.ndarray, outside: np.ndarray
) -> np.ndarray:
    """What dense inverse search adds to the flow, as far as it is the same both ways."""
    brought, known = _brought(there, matrix, flow)
    fixed, moving = (_contrast(gray) for gray in (here, brought))
    search = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    forth, back = (
        search.calc(*pair, np.zeros((*here.shape, 2), np.float32)) for pair in ((fixed, moving), (moving, fixed))
    )
    y, x = np.mgrid[: here.shape[0], : here.shape[1]].astype(np.float32)
    returned = forth + cv2.remap(back, x + forth[..., 0], y + forth[..., 1], cv2.INTER_LINEAR)
    length = np.linalg.norm(forth, axis=2)
    limit = FURTHEST * max(here.shape)
    trusted = (np.linalg.norm(returned, axis=2) < 1) & (length < limit) & (known > 0.99)
    weight = trusted * outside
    added = _smooth(forth * weight[..., None], weight, DENSE)
    return added.clip(-limit, limit)


def _brought(there: np.ndarray, matrix: np.ndarray, flow: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The edit in the photograph's frame, and float32 in 0..1 where it shows something."""
    y, x = np.mgrid[: flow.shape[0], : flow.shape[1]]
    at = transform(matrix, np.dstack([x, y]) + flow).astype(np.float32)
    picture = cv2.remap(there, at[..., 0], at[..., 1], cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    inside = np.ones(there.shape, np.float32)
    return picture, cv2.remap(inside, at[..., 0], at[..., 1], cv2.INTER_LINEAR, borderValue=0)


def _contrast(gray: np.ndarray, fine: float = FINE) -> np.ndarray:
    """uint8 without lighting, and with the same contrast everywhere but where there is hardly any. fine: in pixels."""
    light, coarse = gray.astype(np.float32), COARSE * max(gray.shape)
    detail = cv2.GaussianBlur(light, (0, 0), fine) - cv2.GaussianBlur(light, (0, 0), coarse)
    spread = np.sqrt(cv2.GaussianBlur(detail**2, (0, 0), coarse)) + FAINT
    return np.clip(detail / spread * 40 + 128, 0, 255).astype(np.uint8)


def _agreement(here: np.ndarray, there: np.ndarray, matrix: np.ndarray, flow: np.ndarray, outside: np.ndarray) -> float:
    """The correlation of local contrast where both show something."""
    brought, known = _brought(there, matrix, flow)
    first, second = (_contrast(gray).astype(np.float32) - 128 for gray in (here, brought))
    weight = known * outside
    covariance, one, other = ((weight * product).sum() for product in (first * second, first**2, second**2))
    return float(covariance / max(float(np.sqrt(one * other)), 1e-6))
