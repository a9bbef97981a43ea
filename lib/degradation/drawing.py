"""Lines, noise and paint of which drawn damage is made. Lengths are in pixels here, points are (x, y), opacities in 0..1.

Everything draws from the generator that it is given, so that the same seed gives the same damage.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

Plane = NDArray[np.float32]

SUBPIXEL = 4  # bits of a coordinate behind the point
MOST_POINTS = 160  # of one line


@dataclass(frozen=True)
class Layer:
    """What lies over a picture of H x W.

    opacity: ``[H, W]``, how far a pixel is replaced; paint: ``[H, W, 3]`` in 0..1, by what; shade: ``[H, W, 1 or 3]``, a factor on
    the light of what remains, or None.
    """

    opacity: Plane
    paint: Plane
    shade: Plane | None = None


def smooth_noise(rng: np.random.Generator, height: int, width: int, cell: float) -> Plane:
    """A smooth field ``[height, width]`` around 0, mostly within -1..1, that changes over about ``cell`` pixels."""
    cell = max(cell, 1.0)
    rows, columns = (min(int(side / cell) + 2, side + 1) for side in (height, width))
    lattice = rng.uniform(-1.4, 1.4, (rows, columns)).astype(np.float32)
    return np.asarray(cv2.resize(lattice, (width, height), interpolation=cv2.INTER_CUBIC), np.float32).reshape(
        height, width
    )


def rough_noise(rng: np.random.Generator, height: int, width: int, cell: float, octaves: int = 3) -> Plane:
    """The sum of ``octaves`` noises, each of half the cell and .6 of the weight of the one before, scaled like one of them."""
    total = np.zeros((height, width), np.float32)
    for octave in range(octaves):
        total += 0.6**octave * smooth_noise(rng, height, width, cell / 2**octave)
    return total / np.float32(np.sqrt(sum(0.36**octave for octave in range(octaves))))


def wander(rng: np.random.Generator, points: int, knots: int) -> NDArray[np.float32]:
    """``[points]`` values around 0, mostly within -1..1, that change smoothly between ``knots`` places."""
    return smooth_noise(rng, 1, points, points / max(knots, 1))[0]


def line(
    rng: np.random.Generator, start: NDArray[np.float64], angle: float, length: float, bend: float, jag: float = 0.0
) -> NDArray[np.float64]:
    """Points ``[n, 2]`` of a line from ``start``, ``length`` pixels long.

    bend: radians by which its heading wanders slowly; jag: radians by which it does so from point to point, three pixels apart.
    """
    count = int(np.clip(length / 3, 4, MOST_POINTS))
    heading = angle + bend * wander(rng, count, 3) + jag * rng.normal(size=count)
    steps = np.stack([np.cos(heading), np.sin(heading)], 1) * (length / (count - 1))
    steps[0] = 0
    return np.asarray(start + np.cumsum(steps, 0))


def stroke(canvas: NDArray[np.uint8], points: NDArray[np.float64], widths: Plane, opacity: float) -> None:
    """Fills a band along ``points`` into ``canvas``, ``widths`` ``[n, 2]`` pixels to its left and right, with soft edges.

    A band thinner than a pixel is drawn a pixel wide and fainter.
    """
    if len(points) < 2:
        return
    tangent = np.gradient(points, axis=0)
    normal = np.stack([-tangent[:, 1], tangent[:, 0]], 1) / np.maximum(np.hypot(*tangent.T), 1e-9)[:, None]
    fine = min(1.0, float(widths.sum(1).mean()))
    half = np.maximum(widths - 0.5, 0.02)  # the soft outline adds half a pixel
    outline = np.concatenate([points + normal * half[:, :1], (points - normal * half[:, 1:])[::-1]])
    fixed = np.round(outline * 2**SUBPIXEL).astype(np.int32)
    cv2.fillPoly(canvas, [fixed], int(round(255 * fine * opacity)), cv2.LINE_AA, SUBPIXEL)


def broken_stroke(
    rng: np.random.Generator,
    canvas: NDArray[np.uint8],
    points: NDArray[np.float64],
    thickness: float,
    opacity: float,
    breaks: float,
    ragged: float = 0.3,
) -> None:
    """A stroke that swells, thins, tapers at its ends and is interrupted over about the share ``breaks`` of its length."""
    count = len(points)
    swell = 1 + 0.5 * wander(rng, count, count // 10 + 2)
    taper = np.minimum(1, np.minimum(np.arange(count) + 0.6, np.arange(count)[::-1] + 0.6) / (1 + count / 8))
    coarse, fine = (wander(rng, count, knots) for knots in (count // 18 + 2, count // 4 + 2))
    present = np.clip(2.5 * (coarse + 0.6 * fine - 2 * breaks + 1.2), 0, 1)
    fray = np.stack([wander(rng, count, count // 2 + 2) for _ in range(2)], 1) + 0.4 * rng.normal(size=(count, 2))
    widths = thickness / 2 * (swell * np.sqrt(taper) * present)[:, None] * np.clip(1 + ragged * fray, 0.1, 3)
    bounds = np.flatnonzero(np.diff(np.concatenate([[False], present > 0, [False]]).astype(np.int8)))
    for first, last in zip(bounds[::2], bounds[1::2], strict=True):
        stroke(canvas, points[first:last], widths[first:last].astype(np.float32), opacity * rng.uniform(0.6, 1))


def plane_of(canvas: NDArray[np.uint8]) -> Plane:
    """A canvas of 0..255 as opacities."""
    return np.divide(canvas, 255, dtype=np.float32)


def paper(rng: np.random.Generator, height: int, width: int, tone: float, warmth: float) -> Plane:
    """``[H, W, 3]``: the bare material, of lightness ``tone``, the yellower the greater ``warmth``, a little uneven."""
    tint = np.array([1.0, 1 - 0.07 * warmth, 1 - 0.22 * warmth], np.float32)
    texture = (
        1
        + 0.05 * smooth_noise(rng, height, width, 2)
        + 0.04 * smooth_noise(rng, height, width, max(height, width) / 12)
    )
    return np.clip(tone * texture[..., None] * tint, 0, 1).astype(np.float32)


def halo_of(opacity: Plane, reach: float, strength: float) -> Plane:
    """``[H, W, 1]``: the shade beside a mark, as pushed-up emulsion and a scanner's lamp give it."""
    beside = cv2.GaussianBlur(opacity, (0, 0), max(reach, 0.5)) - opacity
    return np.asarray(1 - strength * np.clip(1.6 * beside, 0, 0.8), np.float32)[..., None]
