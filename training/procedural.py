"""Procedural pictures: dead leaves with shading, textures and soft or hard edges, in the colors of photographs.

The statistics that matter for restoration (scale-invariant occlusion edges, textures that go on behind them) are those of
the dead-leaves model (Lee, Mumford and Huang, 2001); no photograph is involved.
"""

from __future__ import annotations

import cv2
import numpy as np

SIZE = 384


def _fractal(rng: np.random.Generator, height: int, width: int, roughness: float) -> np.ndarray:
    """Noise with spectrum 1/f^roughness, zero mean, unit variance. ``[height, width]``."""
    fy, fx = np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width)[None]
    amplitude = 1 / np.maximum(np.hypot(fx, fy), 1 / max(height, width)) ** roughness
    field = np.fft.irfft2(amplitude * np.exp(2j * np.pi * rng.random(amplitude.shape)), (height, width))
    return ((field - field.mean()) / (field.std() + 1e-6)).astype(np.float32)


def _texture(rng: np.random.Generator, height: int, width: int) -> np.ndarray:
    """Nothing, waves, stripes, weave, fractal noise, hair-like strokes or foliage-like specks. ``[height, width]``, about unit variance."""
    kind = rng.choice(7, p=(0.3, 0.12, 0.1, 0.08, 0.22, 0.1, 0.08))
    y, x = np.mgrid[:height, :width].astype(np.float32)
    angle, period = rng.uniform(0, np.pi), np.exp(rng.uniform(np.log(2.5), np.log(30)))
    phase = (x * np.cos(angle) + y * np.sin(angle)) * (2 * np.pi / period) + rng.uniform(0, 6.3)
    match kind:
        case 0:
            return np.zeros((height, width), np.float32)
        case 1:
            return np.sin(phase + rng.uniform(0, 2) * _fractal(rng, height, width, 1.8))
        case 2:
            return np.tanh(rng.uniform(1, 6) * np.sin(phase))
        case 3:
            across = (y * np.cos(angle) - x * np.sin(angle)) * (2 * np.pi / period)
            return np.sin(phase) * np.sin(across) + 0.3 * rng.standard_normal((height, width)).astype(np.float32)
        case 4:
            return _fractal(rng, height, width, rng.uniform(0.4, 1.8))
        case 5:
            grain = cv2.GaussianBlur(
                rng.standard_normal((height, width)).astype(np.float32), (0, 0), rng.uniform(0.5, 1.2)
            )
            length = int(rng.integers(7, 31)) | 1
            line = np.zeros((length, length), np.float32)
            middle = length // 2
            reach = np.array([np.cos(angle), np.sin(angle)]) * middle
            cv2.line(
                line,
                tuple(np.round(middle - reach).astype(int).tolist()),
                tuple(np.round(middle + reach).astype(int).tolist()),
                1.0,
            )
            strokes = cv2.filter2D(grain, -1, line / line.sum())
            return strokes / (strokes.std() + 1e-6)
        case _:
            specks = cv2.GaussianBlur(
                rng.standard_normal((height, width)).astype(np.float32), (0, 0), rng.uniform(0.7, 2.5)
            )
            return np.tanh(2 * specks / (specks.std() + 1e-6))


def _palette(rng: np.random.Generator) -> np.ndarray:
    """4 to 24 colors with large differences in lightness and small ones in chroma, as photographs have. ``[n, 3]``."""
    n = int(rng.integers(4, 25))
    light = np.clip(rng.normal(rng.uniform(0.25, 0.65), rng.uniform(0.12, 0.3), n), 0.01, 0.99)
    cast = rng.normal(0, 0.05, 3)
    chroma = rng.normal(0, rng.uniform(0.02, 0.14), (n, 3))
    return np.clip(light[:, None] + (chroma - chroma.mean(1, keepdims=True) + cast) * (0.3 + light[:, None]), 0, 1)


def _outline(rng: np.random.Generator, radius: float) -> np.ndarray:
    """Polygon round the origin: ellipse, convex or star-like shape, stroke. ``[n, 2]``."""
    kind, angle = rng.random(), rng.uniform(0, 2 * np.pi)
    rotation = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    if kind < 0.4:
        t = np.linspace(0, 2 * np.pi, 40, endpoint=False)
        shape = np.stack([np.cos(t), np.sin(t) * rng.uniform(0.25, 1)], 1) * radius
    elif kind < 0.7:
        t = np.sort(rng.uniform(0, 2 * np.pi, int(rng.integers(3, 9))))
        shape = np.stack([np.cos(t), np.sin(t)], 1) * radius * rng.uniform(0.5, 1, (len(t), 1))
    elif kind < 0.85:
        shape = np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]]) * radius * [1, rng.uniform(0.3, 1)]
    else:  # a curved stroke: hair, wires, letters
        t = np.linspace(-1, 1, 16)
        bend = rng.uniform(-1, 1) * t**2 + rng.uniform(-0.6, 0.6) * t**3
        width = rng.uniform(0.6, max(1.0, 0.08 * radius)) / max(radius, 1)
        shape = np.concatenate([np.stack([t, bend + width], 1), np.stack([t, bend - width], 1)[::-1]]) * radius
    return shape @ rotation.T


def _paint(canvas: np.ndarray, rng: np.random.Generator, colour: np.ndarray, radius: float) -> None:
    """One leaf with its own gradient, texture and edge softness, over what lies below. In place."""
    size = canvas.shape[0]
    outline = _outline(rng, radius) + rng.uniform(-0.1 * size, 1.1 * size, 2)
    soft = rng.uniform(0.6, 0.12 * radius + 0.7) if rng.random() < 0.25 else 0.0
    low = np.maximum(np.floor(outline.min(0) - 3 * soft - 1), 0).astype(int)
    high = np.minimum(np.ceil(outline.max(0) + 3 * soft + 2), size).astype(int)
    width, height = high - low
    if width < 1 or height < 1:
        return
    mask = np.zeros((height, width), np.float32)
    cv2.fillPoly(mask, [np.round((outline - low) * 16).astype(np.int32)], 1.0, cv2.LINE_8, 4)
    # fillPoly does not anti-alias float masks; photographs have no jagged edges.
    mask = cv2.GaussianBlur(mask, (0, 0), max(soft, 0.45))[..., None]
    y, x = np.mgrid[:height, :width].astype(np.float32)
    slope = rng.normal(0, 0.12, 2) / max(2 * radius, 8)
    shade = 1 + slope[0] * (x - width / 2) + slope[1] * (y - height / 2)
    if rng.random() < 0.3:  # a rounded body: darker toward the edge
        shade *= 1 - rng.uniform(0, 0.5) * np.minimum(((x / width - 0.5) ** 2 + (y / height - 0.5) ** 2) * 3, 1)
    contrast = np.exp(rng.uniform(np.log(0.01), np.log(0.2)))
    tint = 1 + rng.normal(0, 0.25, 3)
    body = colour * shade[..., None] + contrast * _texture(rng, height, width)[..., None] * tint
    region = canvas[low[1] : high[1], low[0] : high[0]]
    region += mask * (body.astype(np.float32) - region)


def _letters(canvas: np.ndarray, rng: np.random.Generator, colour: np.ndarray) -> None:
    """A line of text-like glyphs. In place."""
    text = "".join(
        rng.choice(list("ABCDEFGHKLMNORSTUabcdeghiklmnorstu0123456789")) for _ in range(int(rng.integers(3, 12)))
    )
    font = int(rng.choice([cv2.FONT_HERSHEY_SIMPLEX, cv2.FONT_HERSHEY_TRIPLEX, cv2.FONT_HERSHEY_COMPLEX]))
    where = tuple(int(v) for v in rng.integers(0, canvas.shape[0] - 20, 2))
    mask = np.zeros(canvas.shape[:2], np.uint8)
    cv2.putText(mask, text, where, font, rng.uniform(0.4, 2.2), 255, int(rng.integers(1, 4)), cv2.LINE_AA)
    canvas += mask[..., None].astype(np.float32) / 255 * (colour.astype(np.float32) - canvas)


def draw_picture(seed: int, size: int = SIZE) -> np.ndarray:
    """One picture, uint8 ``[size, size, 3]`` RGB. Same seed, same picture."""
    rng = np.random.default_rng(seed)
    palette = _palette(rng)
    field = _fractal(rng, size, size, rng.uniform(1.0, 2.2))
    canvas = np.clip(palette[0] + 0.1 * field[..., None], 0, 1).astype(np.float32)
    exponent, smallest = rng.uniform(2.2, 3.2), rng.uniform(2, 6)
    largest = min(rng.uniform(60, 200), size / 2)
    count = int(rng.integers(300, 1600) * (size / SIZE) ** 2)
    # Inverse of the cumulative power law r^-exponent between smallest and largest.
    a, b = smallest ** (1 - exponent), largest ** (1 - exponent)
    for u in rng.random(count):
        radius = (a + u * (b - a)) ** (1 / (1 - exponent))
        _paint(canvas, rng, palette[rng.integers(len(palette))], radius)
        if rng.random() < 0.004:
            _letters(canvas, rng, palette[rng.integers(len(palette))])
    canvas = cv2.GaussianBlur(canvas, (0, 0), rng.uniform(0.3, 0.7))
    if rng.random() < 0.1:
        canvas = canvas.mean(-1, keepdims=True).repeat(3, -1)
    return (np.clip(canvas, 0, 1) * 255 + 0.5).astype(np.uint8)


def contact_sheet(seeds: range, columns: int = 4, size: int = SIZE) -> np.ndarray:
    """Pictures side by side, for viewing: uint8 ``[rows * size, columns * size, 3]`` RGB."""
    pictures = [draw_picture(seed, size) for seed in seeds]
    return np.vstack([np.hstack(pictures[i : i + columns]) for i in range(0, len(pictures), columns)])
