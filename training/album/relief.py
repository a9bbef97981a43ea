"""A generic head as a relief over an aligned picture: turns it, and says where its surface faces.

Lengths are in eye distances ``e``; the frame has its origin between the eyes, x to the right, y down to the mouth, z toward
the camera, 0 in the plane of the ears. Proportions of an average head (semi-axes, nose) after Farkas, "Anthropometry of
the Head and Face" (1994), rounded.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

HEAD_CENTER, HEAD_AXES, HEAD_DEPTH = (0.0, 0.35), (1.55, 2.1), 1.25
STEPS = 24  # of the inversion; its error shrinks by the relief's slope times the sine, at most .7 a step


@dataclass(frozen=True)
class FaceFrame:
    """origin ``[2]``: between the eyes, pixels; right ``[2]``: unit vector; unit: eye distance in pixels."""

    origin: np.ndarray
    right: np.ndarray
    unit: float
    nose: np.ndarray  # [2], in the frame
    mouth: np.ndarray

    def to_frame(self, points: np.ndarray) -> np.ndarray:
        """Pixels ``[..., 2]`` to eye distances."""
        offset = points - self.origin.astype(points.dtype)
        down = np.array([-self.right[1], self.right[0]], points.dtype)
        return np.stack([offset @ self.right.astype(points.dtype), offset @ down], -1) / self.unit

    def to_pixels(self, vectors: np.ndarray) -> np.ndarray:
        """Vectors ``[..., 2]`` in eye distances to pixels, without the origin."""
        basis = np.stack([self.right, [-self.right[1], self.right[0]]]).astype(vectors.dtype)
        return vectors @ basis * self.unit


def face_frame(landmarks: np.ndarray) -> FaceFrame:
    """The frame of five landmarks ``[5, 2]``."""
    across = landmarks[1] - landmarks[0]
    unit = max(float(np.hypot(*across)), 1e-3)
    bare = FaceFrame((landmarks[0] + landmarks[1]) / 2, across / unit, unit, np.zeros(2), np.zeros(2))
    nose, mouth = bare.to_frame(np.stack([landmarks[2], landmarks[3:].mean(0)]))
    return FaceFrame(bare.origin, bare.right, unit, nose, mouth)


def bump(place: np.ndarray, center: tuple[float, float] | np.ndarray, sigma: tuple[float, float]) -> np.ndarray:
    """A Gaussian of height 1 over places ``[..., 2]``: ``[...]``."""
    x = (place[..., 0] - float(center[0])) * (1 / float(sigma[0]))
    y = (place[..., 1] - float(center[1])) * (1 / float(sigma[1]))
    return np.exp(-0.5 * (x * x + y * y))


def head_share(place: np.ndarray, wider: float = 1.0) -> np.ndarray:
    """1 - squared elliptic radius of the head with its hair, clipped to 0..1: 1 in its middle, 0 outside."""
    x = (place[..., 0] - HEAD_CENTER[0]) * (1 / (HEAD_AXES[0] * wider))
    y = (place[..., 1] - HEAD_CENTER[1]) * (1 / (HEAD_AXES[1] * wider))
    return (1 - x * x - y * y).clip(0, 1)


def depth(place: np.ndarray, frame: FaceFrame) -> np.ndarray:
    """z of the relief in eye distances at places ``[..., 2]`` of the frame."""
    z = HEAD_DEPTH * head_share(place) ** 0.8
    tip = frame.nose
    z += 0.30 * bump(place, tip, (0.18, 0.2))
    z += 0.13 * bump(place, tip * 0.55, (0.14, 0.26))
    for side in (-0.5, 0.5):
        z -= 0.08 * bump(place, (side, 0.02), (0.25, 0.16))
    z += 0.08 * bump(place, frame.mouth, (0.35, 0.22))
    return z + 0.1 * bump(place, (frame.mouth[0], frame.mouth[1] + 0.55), (0.4, 0.25))


def head_turn(place: np.ndarray, z: np.ndarray, yaw: float, pitch: float, near: float) -> np.ndarray:
    """How far the places move, ``[..., 2]`` in eye distances, when the head turns; the scene behind it stays.

    yaw, pitch: radians, positive to the right of the picture and upward; near: enlargement per eye distance toward the
    camera, as with a short lens.
    """
    head = (head_share(place, 1.15) * 1.6).clip(0, 1)[..., None]
    squeeze = np.array([np.cos(yaw) - 1, np.cos(pitch) - 1], place.dtype)
    toward = np.array([np.sin(yaw), -np.sin(pitch)], place.dtype)
    middle = np.array([0, 0.6], place.dtype)
    return head * squeeze * (place - middle) + z[..., None] * (toward + near * (place - middle))


def inverted_flow(forward: np.ndarray, target: np.ndarray) -> np.ndarray:
    """For every target pixel the source pixel that moves there, ``[H, W, 2]`` float32.

    forward: ``[H, W, 2]``, displacement of each source pixel; target: positions ``[H, W, 2]``. Fixed-point iteration; where
    the surface folds it stops on one of the layers.
    """
    source = target.copy()
    for _ in range(STEPS):
        source = target - cv2.remap(forward, source, None, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    return source


def follow(points: np.ndarray, backward: np.ndarray) -> np.ndarray:
    """Where the ``points`` ``[N, 2]`` of the source lie in the picture that ``backward`` ``[H, W, 2]`` samples.

    Starts at the pixel whose source is nearest, then Newton steps on the map around it.
    """
    result = np.empty_like(points, np.float64)
    height, width = backward.shape[:2]
    for row, point in enumerate(points):
        dx, dy = backward[..., 0] - np.float32(point[0]), backward[..., 1] - np.float32(point[1])
        nearest = (dx * dx + dy * dy).argmin()
        y, x = divmod(int(nearest), width)
        # Central differences of the map, one-sided at the edge.
        ahead, left = min(x + 1, width - 1), max(x - 1, 0)
        below, above = min(y + 1, height - 1), max(y - 1, 0)
        along_x = (backward[y, ahead] - backward[y, left]) / (ahead - left)
        along_y = (backward[below, x] - backward[above, x]) / (below - above)
        jacobian = np.stack([along_x, along_y], 1).astype(np.float64)
        rest = point - backward[y, x]
        step = np.linalg.lstsq(jacobian, rest, rcond=1e-2)[0]
        # A point whose place is not in the picture any more is extrapolated.
        inside = 0 < y < height - 1 and 0 < x < width - 1
        result[row] = [x, y] + (step.clip(-1, 1) if inside else step)
    return result
