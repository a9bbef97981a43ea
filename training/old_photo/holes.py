"""Free-form masks for training the filler: what a person paints or the finder finds: scratches, cracks, spots, corners."""

from __future__ import annotations

import cv2
import numpy as np

SHIFT = 4


def draw_holes(rng: np.random.Generator, side: int, least: float = 0.03, most: float = 0.3) -> np.ndarray:
    """Float32 ``[side, side]``, 1 inside the holes; at least the share ``least`` of the area is, and seldom more than ``most``."""
    mask = np.zeros((side, side), np.uint8)
    wanted = np.exp(rng.uniform(np.log(least), np.log(most)))
    thick = rng.random() < 0.4  # wide holes are the hard ones, thin ones the usual
    for _ in range(400):
        if mask.mean() / 255 >= wanted:
            break
        kind = rng.random()
        if kind < 0.72:
            _scratch(mask, rng, float(np.exp(rng.uniform(0, np.log(22 if thick else 5)))))
        elif kind < 0.95:
            _spot(mask, rng, float(np.exp(rng.uniform(np.log(1.2), np.log(26 if thick else 6)))))
        elif thick:
            _corner(mask, rng)
    return mask.astype(np.float32) / 255


def _scratch(mask: np.ndarray, rng: np.random.Generator, width: float) -> None:
    """A line that wanders, and whose width changes."""
    side = mask.shape[0]
    count = int(rng.integers(6, 40))
    headings = rng.uniform(0, 6.3) + rng.normal(0, rng.choice([0.03, 0.15, 0.5]), count).cumsum()
    step = rng.uniform(2, 12)
    points = rng.uniform(-10, side + 10, 2) + step * np.stack([np.cos(headings), np.sin(headings)], 1).cumsum(0)
    widths = np.maximum(1, width * np.exp(rng.normal(0, 0.25, count)))
    fixed = np.round(points * (1 << SHIFT)).astype(np.int32)
    for a, b, wide in zip(fixed, fixed[1:], widths, strict=False):
        cv2.line(mask, a.tolist(), b.tolist(), 255, round(wide), cv2.LINE_8, SHIFT)


def _spot(mask: np.ndarray, rng: np.random.Generator, radius: float) -> None:
    angles = np.linspace(0, 2 * np.pi, 14, endpoint=False)
    reach = radius * np.exp(rng.normal(0, 0.3, 14))[:, None]
    outline = rng.uniform(0, mask.shape[0], 2) + reach * np.stack([np.cos(angles), np.sin(angles)], 1)
    cv2.fillPoly(mask, [np.round(outline * (1 << SHIFT)).astype(np.int32)], 255, cv2.LINE_8, SHIFT)


def _corner(mask: np.ndarray, rng: np.random.Generator) -> None:
    """A torn edge: everything beyond a line."""
    side = mask.shape[0]
    turn = rng.uniform(0, 2 * np.pi)
    y, x = np.mgrid[:side, :side]
    beyond = (x - side / 2) * np.cos(turn) + (y - side / 2) * np.sin(turn)
    mask[beyond > rng.uniform(0.42, 0.6) * side + rng.normal(0, 1)] = 255
