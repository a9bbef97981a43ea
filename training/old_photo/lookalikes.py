"""What looks like damage of a print and is part of the scene: hair, wires, rigging, branches, text, grids, stripes, wrinkles, highlights.

It is drawn finer than the picture and reduced, as a lens would show it, before the picture gets its sharpness and grain.
"""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np

FINER = 3  # pixels drawn for one of the picture
SHIFT = 4  # fractional bits of the coordinates that are drawn at
FONTS = (
    cv2.FONT_HERSHEY_SIMPLEX,
    cv2.FONT_HERSHEY_TRIPLEX,
    cv2.FONT_HERSHEY_COMPLEX,
    cv2.FONT_HERSHEY_SCRIPT_COMPLEX,
    cv2.FONT_HERSHEY_DUPLEX,
)

Plane = np.ndarray  # uint8 [H * FINER, W * FINER]


def draw_lookalikes(picture: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """One to three kinds of them over a picture ``[H, W, 3]`` in 0..1."""
    height, width = picture.shape[:2]
    for draw in rng.choice(np.array(KINDS, object), int(rng.integers(1, 4)), replace=False):
        plane = np.zeros((height * FINER, width * FINER), np.uint8)
        draw(plane, rng)
        mask = cv2.resize(plane, (width, height), interpolation=cv2.INTER_AREA).astype(np.float32)[..., None] / 255
        mask = mask * rng.uniform(0.3, 1)
        light = rng.choice([rng.uniform(0, 0.25), rng.uniform(0.25, 0.75), rng.uniform(0.75, 1)])
        body = light + rng.normal(0, 0.05, 3).astype(np.float32)
        if rng.random() < 0.4:  # lit as the scene is, not of one color
            body = picture * rng.uniform(0.2, 0.7) if light < 0.5 else picture + (1 - picture) * rng.uniform(0.3, 0.8)
        picture = picture + mask * (body - picture)
    return picture.clip(0, 1).astype(np.float32)


def _line(plane: Plane, points: np.ndarray, width: float) -> None:
    """A line through ``[N, 2]`` points, in pixels of the plane."""
    fixed = np.round(points * (1 << SHIFT)).astype(np.int32)
    cv2.polylines(plane, [fixed], False, 255, max(1, round(width)), cv2.LINE_AA, SHIFT)


def _curve(start: np.ndarray, turn: float, length: float, bend: float, rng: np.random.Generator) -> np.ndarray:
    """A smooth line ``[24, 2]``; bend: radians over its length."""
    headings = turn + np.linspace(0, bend, 24) + rng.normal(0, 0.02, 24).cumsum()
    steps = length / 24 * np.stack([np.cos(headings), np.sin(headings)], 1)
    return start + np.cumsum(steps, 0)


def hair(plane: Plane, rng: np.random.Generator) -> None:
    """A lock of nearly parallel strands: what a single one is can't be told from a scratch."""
    size = np.array(plane.shape[::-1])
    start, turn, bend = rng.uniform(0, 1, 2) * size, rng.uniform(0, 6.3), rng.normal(0, 1)
    length, spread = rng.uniform(0.1, 0.6) * size[0], rng.uniform(0.02, 0.12) * size[0]
    for _ in range(int(np.exp(rng.uniform(np.log(12), np.log(90))))):
        own = start + rng.normal(0, spread, 2)
        _line(plane, _curve(own, turn + rng.normal(0, 0.12), length, bend + rng.normal(0, 0.2), rng), rng.uniform(1, 4))


def wires(plane: Plane, rng: np.random.Generator) -> None:
    """One to six ropes or wires across the picture, straight or sagging."""
    height, width = plane.shape
    thick, sag = rng.uniform(1, 9), rng.uniform(0, 0.15) * height * (rng.random() < 0.6)
    turn = rng.random() < 0.35
    fan = rng.random() < 0.4
    meet = rng.uniform(0, 1)
    for _ in range(int(rng.integers(1, 7))):
        a, b = (meet if fan else rng.uniform(-0.1, 1.1)), rng.uniform(-0.1, 1.1)
        t = np.linspace(-0.05, 1.05, 24)
        line = np.stack([t * width, (a + (b - a) * t) * height + sag * 4 * t * (1 - t)], 1)
        _line(plane, line[:, ::-1] if turn else line, thick)


def branches(plane: Plane, rng: np.random.Generator) -> None:
    """A twig that forks, thinner and thinner."""
    size = np.array(plane.shape[::-1])

    def grow(start: np.ndarray, turn: float, length: float, width: float) -> None:
        points = _curve(start, turn, length, rng.normal(0, 0.5), rng)
        _line(plane, points, width)
        if length < 0.05 * size[0]:
            return
        for _ in range(int(rng.integers(1, 4))):
            at = points[rng.integers(8, 24)]
            grow(at, turn + rng.normal(0, 0.6), length * rng.uniform(0.45, 0.75), width * 0.65)

    for _ in range(int(rng.integers(1, 3))):
        grow(rng.uniform(0, 1, 2) * size, rng.uniform(0, 6.3), rng.uniform(0.15, 0.35) * size[0], rng.uniform(3, 14))


def lettering(plane: Plane, rng: np.random.Generator) -> None:
    """Lines of type or handwriting, level or turned."""
    letters = list("ABCDEFGHIJKLMNOPRSTUVWabcdefghijklmnoprstuvw0123456789.,-'/")
    size, font = rng.uniform(0.5, 4.5), int(rng.choice(FONTS))
    own = np.zeros_like(plane)
    left, top = int(rng.uniform(-0.2, 0.6) * plane.shape[1]), int(rng.uniform(0.05, 0.9) * plane.shape[0])
    for number in range(int(rng.integers(1, 6))):
        words = "".join(rng.choice(letters) if rng.random() < 0.85 else " " for _ in range(int(rng.integers(2, 22))))
        cv2.putText(
            own, words, (left, top + int(number * 34 * size)), font, size, 255, int(rng.integers(1, 8)), cv2.LINE_AA
        )
    angle = rng.choice([0, 90, -90, rng.uniform(-20, 20)], p=[0.5, 0.1, 0.1, 0.3])
    turn = cv2.getRotationMatrix2D((plane.shape[1] / 2, plane.shape[0] / 2), float(angle), 1)
    np.maximum(plane, cv2.warpAffine(own, turn, plane.shape[::-1]), out=plane)


def lattice(plane: Plane, rng: np.random.Generator) -> None:
    """A fence, a lattice, panes of a window, lines of a keyboard or of stripes, maybe in perspective."""
    own = np.zeros_like(plane)
    height, width = plane.shape
    thick = rng.uniform(1, 14)
    for axis, used in enumerate((True, rng.random() < 0.6)):
        step = max(3 * thick, np.exp(rng.uniform(np.log(12), np.log(300))))
        for place in np.arange(rng.uniform(0, step), (width, height)[axis], step) if used else ():
            ends = np.array([[place, 0], [place, height]]) if axis == 0 else np.array([[0, place], [width, place]])
            _line(own, ends, thick)
    corners = np.array([[0, 0], [width, 0], [width, height], [0, height]], np.float32)
    moved = corners + rng.normal(0, 0.2, (4, 2)).astype(np.float32) * width
    own = cv2.warpPerspective(own, cv2.getPerspectiveTransform(corners, moved), (width, height))
    if rng.random() < 0.5:  # only in a part of the picture
        y0, y1 = np.sort(rng.integers(0, height, 2))
        x0, x1 = np.sort(rng.integers(0, width, 2))
        own[:y0], own[y1:], own[:, :x0], own[:, x1:] = 0, 0, 0, 0
    np.maximum(plane, own, out=plane)


def wrinkles(plane: Plane, rng: np.random.Generator) -> None:
    """Soft, short, nearly parallel folds of skin or cloth."""
    size = np.array(plane.shape[::-1])
    start, turn = rng.uniform(0, 1, 2) * size, rng.uniform(0, 6.3)
    own = np.zeros_like(plane)
    for number in range(int(rng.integers(2, 9))):
        shift = number * rng.uniform(12, 60) * np.array([-np.sin(turn), np.cos(turn)])
        points = _curve(
            start + shift, turn + rng.normal(0, 0.2), rng.uniform(0.05, 0.4) * size[0], rng.normal(0, 0.7), rng
        )
        _line(own, points, rng.uniform(2, 9))
    np.maximum(plane, cv2.GaussianBlur(own, (0, 0), rng.uniform(1.5, 7)), out=plane)


def highlights(plane: Plane, rng: np.random.Generator) -> None:
    """Rows of specular spots: buttons, beads, glints. Scattered ones can't be told from dust."""
    size = np.array(plane.shape[::-1])
    start, step = rng.uniform(0, 1, 2) * size, rng.normal(0, 40, 2)
    radius = rng.uniform(1.5, 14)
    for number in range(int(rng.integers(4, 20))):
        place = start + number * step
        axes = tuple(int(v) for v in np.ceil(radius * rng.uniform(0.4, 1, 2)))
        cv2.ellipse(plane, tuple(int(v) for v in place), axes, float(rng.uniform(0, 180)), 0, 360, 255, -1, cv2.LINE_AA)


KINDS: tuple[Callable[[Plane, np.random.Generator], None], ...] = (
    hair,
    wires,
    branches,
    lettering,
    lattice,
    wrinkles,
    highlights,
)
