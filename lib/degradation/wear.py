"""What water, mold and use do to a print: stains, lost emulsion, torn and worn edges. Each gives a `Layer`.

seed determines where everything lies; lengths are shares of the picture's longer side.
"""

from __future__ import annotations

import numpy as np

from .drawing import Layer, Plane, paper, rough_noise, smooth_noise


def stains(
    height: int, width: int, *, seed: int, count: int, length: float, opacity: float, rim: float, warmth: float
) -> Layer:
    """Dried drops and floods about ``length`` across: inside only tinted, along the edge darker by ``rim``.

    opacity: of the tint; warmth 1 is brown, 0 gray water. What counts as covered is the rim, and the inside where it hides half.
    """
    rng = np.random.default_rng(seed)
    longer = max(height, width)
    body, edge = np.zeros((2, height, width), np.float32)
    for _ in range(count):
        center = rng.uniform((-0.1 * width, -0.1 * height), (1.1 * width, 1.1 * height))
        size = length * longer / 2 * float(np.clip(rng.lognormal(-0.3, 0.6), 0.15, 2.5))
        rows, columns = _window(center, 2.2 * size, height, width)
        if rows.stop <= rows.start or columns.stop <= columns.start:
            continue
        distance = _drop(rng, center, size, rows, columns)
        inside = np.clip((1 - distance) * size / 2 + 0.5, 0, 1)
        strength, softness = rng.uniform(0.5, 1), rng.uniform(0.1, 0.8)
        soft = np.clip(0.25 + (1 - distance) / softness, 0, 1)
        body[rows, columns] = np.maximum(body[rows, columns], strength * inside * soft)
        # The rim is sharp to the outside, where the water stopped, and soft to the inside.
        band = inside * np.exp(-np.clip((1 - distance) * size, 0, None) / max(0.06 * size, 0.8))
        uneven = np.clip(0.6 + 0.7 * smooth_noise(rng, band.shape[0], band.shape[1], max(size / 3, 2)), 0, 1)
        edge[rows, columns] = np.maximum(edge[rows, columns], strength * band * uneven)
    cloudy = np.clip(0.8 + 0.35 * rough_noise(rng, height, width, longer / 8), 0, 1)
    tint = np.array([0.62, 0.62 - 0.16 * warmth, 0.62 - 0.36 * warmth], np.float32)
    veil = (body * cloudy * opacity)[..., None]
    covered = np.clip(rim * edge, 0, 1) + np.clip(veil[..., 0] - 0.5, 0, 1)
    dark = np.array([0.3, 0.3 - 0.1 * warmth, 0.3 - 0.2 * warmth], np.float32)
    return Layer(np.clip(covered, 0, 1), np.broadcast_to(dark, (height, width, 3)), 1 - veil * (1 - tint))


def _window(center: np.ndarray, reach: float, height: int, width: int) -> tuple[slice, slice]:
    """Rows and columns of the picture within ``reach`` of ``center``."""
    low = np.maximum(np.floor(center - reach), 0).astype(int)
    high = np.minimum(np.ceil(center + reach) + 1, (width, height)).astype(int)
    return slice(int(low[1]), int(high[1])), slice(int(low[0]), int(high[0]))


def _drop(rng: np.random.Generator, center: np.ndarray, size: float, rows: slice, columns: slice) -> Plane:
    """Distance from a drop's center, 1 on its irregular edge, over a window."""
    y = (np.arange(rows.start, rows.stop, dtype=np.float32)[:, None] - np.float32(center[1])) / np.float32(size)
    x = (np.arange(columns.start, columns.stop, dtype=np.float32)[None] - np.float32(center[0])) / np.float32(size)
    stretch = np.float32(rng.uniform(0.6, 1.6))
    shape = np.hypot(x * stretch, y / stretch)
    return shape + 0.22 * rough_noise(rng, shape.shape[0], shape.shape[1], max(size * 0.8, 2), 4)


def flaking(
    height: int, width: int, *, seed: int, share: float, length: float, tone: float, opacity: float, warmth: float
) -> Layer:
    """Emulsion that came off in patches ``length`` wide, over about ``share`` of the picture, in some regions of it."""
    rng = np.random.default_rng(seed)
    longer = max(height, width)
    region = smooth_noise(rng, height, width, longer / 4)
    grain = rough_noise(rng, height, width, max(length * longer, 2), 4) + 1.1 * region
    # Of the pixels, those with the greatest values are lost; the slope of the edge is about a pixel.
    limit = np.quantile(grain, 1 - share)
    slope = max(length * longer, 2) / 2
    cover = np.clip((grain - limit) * slope, 0, 1) if share > 0 else np.zeros((height, width), np.float32)
    return Layer((opacity * cover).astype(np.float32), paper(rng, height, width, tone, warmth))


def torn(
    height: int,
    width: int,
    *,
    seed: int,
    corners: int,
    length: float,
    margin: float,
    rounding: float,
    edge: float,
    tone: float,
    warmth: float,
) -> Layer:
    """Worn edges and missing corners, with the white of the torn paper along them.

    corners: how many are torn off, ``length`` long; margin: how far the edges are worn, rounding: the corners' radius, edge: width of
    the bare paper; tone: lightness of what lies behind the print.
    """
    rng = np.random.default_rng(seed)
    longer = max(height, width)
    x = np.arange(width, dtype=np.float32)[None]
    y = np.arange(height, dtype=np.float32)[:, None]
    radius = min(rounding * longer, min(height, width) / 2)
    from_x = np.abs(x - (width - 1) / 2) - (width / 2 - margin * longer - radius)
    from_y = np.abs(y - (height - 1) / 2) - (height / 2 - margin * longer - radius)
    outside = (
        np.hypot(np.maximum(from_x, 0), np.maximum(from_y, 0)) + np.minimum(np.maximum(from_x, from_y), 0) - radius
    )
    outside += margin * longer * 0.6 * rough_noise(rng, height, width, longer / 14, 4)
    for corner in rng.permutation(4)[:corners]:
        legs = length * longer * rng.uniform(0.4, 1.3, 2)
        px, py = (x if corner % 2 == 0 else width - 1 - x), (y if corner < 2 else height - 1 - y)
        cut = (1 - px / max(legs[0], 1e-3) - py / max(legs[1], 1e-3)) * (legs.prod() / max(np.hypot(*legs), 1e-3))
        outside = np.maximum(
            outside, cut + 0.06 * length * longer * rough_noise(rng, height, width, length * longer, 5)
        )
    bare = edge * longer * np.clip(0.55 + 0.9 * rough_noise(rng, height, width, longer / 25, 4), 0, 3) ** 1.5
    missing = np.clip(outside + 0.5, 0, 1)[..., None]
    sheet = paper(rng, height, width, 0.93, warmth)
    paint = missing * np.float32(tone) + (1 - missing) * sheet
    return Layer(np.clip(outside + bare + 0.5, 0, 1).astype(np.float32), paint.astype(np.float32))
