"""An album photograph laid over a damaged face: by the meshes of both, then by the flow of what survives.

The two meshes have the same points, so their displacement turns the head, moves the eyes and opens or closes the mouth at
once. A thin-plate spline carries it to every pixel. Dense inverse search (Kroeger et al. 2016) then removes what is left,
in the frequencies that survived the damage. Every pixel gets a confidence: seen by both, and with the same expression.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache, partial

import cv2
import numpy as np
import torch
from torch import Tensor

from ...lib.pictures.color import luma_of
from .face_mesh import FACE_OVAL, NOSE_TIP, mean_shape, mesh_triangles, mirror_index

# The spline is evaluated on a grid of this many points each way and enlarged from there; the mesh holds nothing finer.
GRID = 33
# Pixels of a standard deviation from which a blur counts as wide.
WIDE = 8
# How far the spline may miss the points: their own error. In squared units of the crop's side.
STIFFNESS = 1e-4
# Flow, in shares of the crop's side: its smoothness, and how far it may correct the meshes.
FLOW_SMOOTHING, FURTHEST_FLOW = 6 / 128, 0.04
FLOW_SIDE = 256
# How much of it is believed: it follows noise, too, and bends the features of the person.
FLOW_BELIEVED = 0.5
# The share of the disagreement that the flow has to remove to be believed.
LEAST_GAIN = 0.02
# Shares of the crop's side: an expression that differs by this much is no longer the same.
EXPRESSION = 0.02
# Of the unit normal towards the camera, where a surface begins to be seen and is seen well.
GRAZING, FACING = -0.05, 0.25
# Window of local contrast and of local agreement, shares of the crop's side.
LIGHTING, WINDOW = 1 / 8, 1 / 16
# Of the face's outline: standard deviation of the blur that makes it fade, a share of the crop's side.
FADE = 0.025


@dataclass(frozen=True)
class Registered:
    """One album photograph in the frame of a damaged face.

    picture: ``[3, S, S]`` in 0..1; confidence: ``[1, S, S]`` in 0..1, seen by both with the same expression;
    agreement: ``[1, S, S]`` in -1..1, local correlation in the frequencies that survived; likeness: its mean over the face.
    """

    picture: Tensor
    confidence: Tensor
    agreement: Tensor
    likeness: float


class Frame:
    """The damaged face's side of the registration, made once and used for every album photograph.

    face: ``[3, S, S]`` in 0..1, after the scene restoration; mesh: float64 ``[468, 3]`` in its pixels; survives: the blur,
    standard deviation in pixels of the crop, below which nothing of the face survived.
    """

    def __init__(self, face: Tensor, mesh: np.ndarray, survives: float):
        self.side = face.shape[-1]
        self.mesh = mesh
        self.survives = max(survives, 0.5)
        self.contrast = local_contrast(luma_array(face), self.survives)
        self._spline = ThinPlate((mesh[:, :2] + 0.5) / self.side, _grid(GRID))
        self.seen = self.spread(facing(mesh)).clip(0, 1)
        self.inside = skin(mesh, self.side)

    def spread(self, values: np.ndarray) -> np.ndarray:
        """Values at the mesh's points, ``[468]`` or ``[468, C]``, carried to every pixel: float32 ``[S, S]`` or ``[S, S, C]``."""
        coarse = self._spline(values).astype(np.float32).reshape(GRID, GRID, *values.shape[1:])
        return cv2.resize(coarse, (self.side, self.side), interpolation=cv2.INTER_CUBIC)

    def register(self, reference: Tensor, mesh: np.ndarray) -> Registered:
        """An album crop ``[3, R, R]`` in 0..1 with its mesh ``[468, 3]`` in its own pixels, laid over the face."""
        size = reference.shape[-1]
        reference, mesh = nearer_in_pose(reference, mesh, self.mesh)
        # Pixel centres are integers.
        mesh = (mesh + [0.5, 0.5, 0]) * (self.side / size) - [0.5, 0.5, 0]
        place = np.dstack(np.meshgrid(np.arange(self.side), np.arange(self.side))).astype(np.float32)
        place += self.spread(mesh[:, :2] - self.mesh[:, :2])
        picture = _shrunk(reference, self.side)
        place, warped, contrast = self._follow(picture, place)
        agreement = correlation(self.contrast, contrast, WINDOW * self.side)
        same = np.exp(-((expression(mesh, self.mesh) / (EXPRESSION * self.side)) ** 2))
        confidence = np.clip(self.spread(same * facing(mesh)), 0, 1) * self.seen * _folded(place)
        likeness = float((agreement * self.inside).sum() / self.inside.sum().clip(1))
        return Registered(
            torch.from_numpy(warped).permute(2, 0, 1).clamp(0, 1),
            torch.from_numpy(confidence.astype(np.float32))[None],
            torch.from_numpy(agreement)[None],
            likeness,
        )

    def _follow(self, picture: np.ndarray, place: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """``place`` corrected by the flow of the surviving frequencies, if that makes the face and the picture agree better.

        Returns the place, the picture read there ``[S, S, 3]``, and the local contrast of that.
        """
        warped, before = self._seen(picture, place)
        flow = dense_flow(self.contrast, before, self.side)
        y, x = np.mgrid[: self.side, : self.side].astype(np.float32)
        corrected = sampled_at(place, np.dstack([x, y]) + flow)
        rewarped, after = self._seen(picture, corrected)
        old, new = (float((self.contrast * one * self.inside).mean()) for one in (before, after))
        return (corrected, rewarped, after) if new > old * (1 + LEAST_GAIN) else (place, warped, before)

    def _seen(self, picture: np.ndarray, place: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        warped = sampled_at(picture, place)
        return warped, local_contrast(luma_of(warped), self.survives)


def skin(mesh: np.ndarray, side: int) -> np.ndarray:
    """float32 ``[S, S]`` in 0..1: the face from hairline to chin, fading out within its outline, so that hair stays out."""
    outline = np.round(mesh[list(FACE_OVAL), :2] * 16).astype(np.int32)
    filled = cv2.fillPoly(np.zeros((side, side), np.float32), [outline], 1.0, shift=4)
    return (2 * gaussian_blur(filled, FADE * side) - 1).clip(0, 1)


class ThinPlate:
    """Carries values at ``points`` ``[N, 2]`` to ``places`` ``[Q, 2]``, both in 0..1.

    Smoothing thin-plate spline (Duchon 1977, Wahba 1990): affine where nothing else is known.
    """

    def __init__(self, points: np.ndarray, places: np.ndarray, stiffness: float = STIFFNESS):
        from scipy.linalg import lu_factor, lu_solve  # takes a while to import

        count = len(points)
        affine = np.column_stack([np.ones(count), points])
        kernel = _bending(points, points) + stiffness * np.eye(count)
        system = lu_factor(np.block([[kernel, affine], [affine.T, np.zeros((3, 3))]]))
        self._solved = partial(lu_solve, system)
        self._basis = np.column_stack([_bending(places, points), np.ones(len(places)), places])

    def __call__(self, values: np.ndarray) -> np.ndarray:
        """``[N]`` or ``[N, C]`` to ``[Q]`` or ``[Q, C]``."""
        padded = np.concatenate([values, np.zeros((3, *values.shape[1:]))])
        return self._basis @ self._solved(padded)


def _bending(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    squared = sum(np.subtract.outer(a[:, axis], b[:, axis]) ** 2 for axis in (0, 1))
    return 0.5 * squared * np.log(squared + 1e-12)


def facing(mesh: np.ndarray) -> np.ndarray:
    """``[468]`` in 0..1: how well the surface at each point of a mesh ``[468, 3]`` is seen; 0 where it is turned away."""
    faces = mesh_triangles()
    a, b, c = (mesh[faces[:, corner]] for corner in range(3))
    normals = np.cross(b - a, c - a)
    # Delaunay's triangles have no common sense of rotation; the mean shape seen from the front has none turned away.
    normals *= _orientation()[:, None]
    total = np.zeros_like(mesh)
    for corner in range(3):
        np.add.at(total, faces[:, corner], normals)
    towards = -total[:, 2] / (np.linalg.norm(total, axis=1) + 1e-9)
    return np.clip((towards - GRAZING) / (FACING - GRAZING), 0, 1)


@lru_cache(maxsize=1)
def _orientation() -> np.ndarray:
    flat, faces = mean_shape()[:, :2], mesh_triangles()
    (a, b, c) = (flat[faces[:, corner]] for corner in range(3))
    return -np.sign(np.cross(b - a, c - a))


def pose(mesh: np.ndarray) -> float:
    """How far the head is turned to the side: where the nose lies between the sides of the face, -1..1, 0 straight on."""
    left, right = mesh[234], mesh[454]
    across = right - left
    return float(2 * np.dot(mesh[NOSE_TIP, :2] - left[:2], across[:2]) / (np.dot(across[:2], across[:2]) + 1e-9) - 1)


def nearer_in_pose(reference: Tensor, mesh: np.ndarray, target: np.ndarray) -> tuple[Tensor, np.ndarray]:
    """The album picture or its mirror image, whichever head is clearly turned more as the target's."""
    own, wanted = pose(mesh), pose(target)
    if abs(-own - wanted) + 0.25 >= abs(own - wanted):
        return reference, mesh
    mirrored = mesh[mirror_index()] * [-1, 1, 1] + [reference.shape[-1] - 1, 0, 0]
    return reference.flip(-1), mirrored


def expression(mesh: np.ndarray, target: np.ndarray) -> np.ndarray:
    """``[468]`` in pixels: how far each point of one mesh lies from that of the other, once the heads are laid over each other.

    Similarity in three dimensions (Umeyama 1991); what is left is expression, and the error of the meshes.
    """
    a, b = mesh - mesh.mean(0), target - target.mean(0)
    u, scale, vt = np.linalg.svd(b.T @ a)
    sign = np.array([1, 1, np.sign(np.linalg.det(u @ vt))])
    turned = a @ (u * sign @ vt).T * ((scale * sign).sum() / (a * a).sum())
    return np.linalg.norm((turned - b)[:, :2], axis=1)


def luma_array(picture: Tensor) -> np.ndarray:
    """``[3, S, S]`` to float32 ``[S, S]`` (BT.601)."""
    return luma_of(_array(picture))


def gaussian_blur(picture: np.ndarray, sigma: float) -> np.ndarray:
    """A Gaussian blur, reflected at the border; a wide one at a quarter of the size, to save time."""
    if sigma < WIDE:
        return cv2.GaussianBlur(picture, (0, 0), sigma, borderType=cv2.BORDER_REFLECT_101)
    height, width = picture.shape[:2]
    small = cv2.resize(picture, (width // 4, height // 4), interpolation=cv2.INTER_AREA)
    small = cv2.GaussianBlur(small, (0, 0), sigma / 4, borderType=cv2.BORDER_REFLECT_101)
    return cv2.resize(small, (width, height), interpolation=cv2.INTER_LINEAR)


def local_contrast(light: np.ndarray, survives: float) -> np.ndarray:
    """``[S, S]``: luma without lighting and without what did not survive, divided by its local amplitude."""
    side = light.shape[0]
    detail = gaussian_blur(light, survives) - gaussian_blur(light, max(LIGHTING * side, 2 * survives))
    return detail / (np.sqrt(gaussian_blur(detail * detail, WINDOW * side)) + 0.01)


def correlation(a: np.ndarray, b: np.ndarray, window: float) -> np.ndarray:
    """Local correlation ``[S, S]`` in -1..1, in a Gaussian window."""
    aa, bb, ab = gaussian_blur(a * a, window), gaussian_blur(b * b, window), gaussian_blur(a * b, window)
    return ab / np.sqrt(aa * bb + 1e-6)


def dense_flow(fixed: np.ndarray, moving: np.ndarray, side: int) -> np.ndarray:
    """``[S, S, 2]`` in pixels, fixed to moving: smooth, and short."""
    factor = FLOW_SIDE / side
    pictures = (
        cv2.resize(np.clip(one * 40 + 128, 0, 255).astype(np.uint8), (FLOW_SIDE,) * 2, interpolation=cv2.INTER_LINEAR)
        for one in (fixed, moving)
    )
    flow = cv2.DISOpticalFlow_create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM).calc(*pictures, None)
    flow = gaussian_blur(cv2.resize(flow, (side, side), interpolation=cv2.INTER_LINEAR) / factor, FLOW_SMOOTHING * side)
    return (FLOW_BELIEVED * flow).clip(-FURTHEST_FLOW * side, FURTHEST_FLOW * side)


def sampled_at(picture: np.ndarray, place: np.ndarray) -> np.ndarray:
    """``[H, W, C]`` read at ``place`` ``[S, S, 2]`` (x, y) in its pixels; the border repeats."""
    return cv2.remap(picture, np.ascontiguousarray(place), None, cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE)


def _folded(place: np.ndarray) -> np.ndarray:
    """``[S, S]`` in 0..1: 0 where the map folds over or squeezes much of the picture into little."""
    dx, dy = np.gradient(place, axis=1), np.gradient(place, axis=0)
    area = dx[..., 0] * dy[..., 1] - dx[..., 1] * dy[..., 0]
    return np.clip((area - 0.2) / 0.3, 0, 1).astype(np.float32)


def _shrunk(reference: Tensor, side: int) -> np.ndarray:
    """The album crop ``[S, S, 3]`` at the face's own size, averaged where it is larger."""
    picture = _array(reference)
    mode = cv2.INTER_AREA if picture.shape[0] > side else cv2.INTER_CUBIC
    return cv2.resize(picture, (side, side), interpolation=mode)


def _grid(count: int) -> np.ndarray:
    # The corners of the enlarged grid lie where cv2.resize puts them: at the middles of cells.
    at = (np.arange(count) + 0.5) / count
    x, y = np.meshgrid(at, at)
    return np.column_stack([x.ravel(), y.ravel()])


def _array(picture: Tensor) -> np.ndarray:
    """``[C, S, S]`` to float32 ``[S, S, C]``."""
    return picture.permute(1, 2, 0).float().cpu().numpy()
