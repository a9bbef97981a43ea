"""What is drawn over a second photograph: glasses, a mark on the skin, a hand or microphone, another background.

Pictures are float32 ``[S, S, 3]`` in 0..1; shapes are drawn with antialiasing at sixteen positions per pixel.
"""

from __future__ import annotations

import cv2
import numpy as np

from ..procedural import _fractal
from .relief import FaceFrame, head_share

SHIFT = 4


def _pixels(frame: FaceFrame, places: np.ndarray) -> np.ndarray:
    """Frame coordinates ``[N, 2]`` as fixed-point pixels for OpenCV."""
    return np.round((frame.origin + frame.to_pixels(np.asarray(places, float))) * 2**SHIFT).astype(np.int32)


def _mixed(picture: np.ndarray, mask: np.ndarray, color: np.ndarray, opacity: float = 1.0) -> np.ndarray:
    return picture + (opacity * mask.clip(0, 1))[..., None] * (np.asarray(color, np.float32) - picture)


def _lines(size: int, lines: list[np.ndarray], width: float, closed: bool) -> np.ndarray:
    """Antialiased lines of any width: drawn at three times the size, then averaged."""
    mask = np.zeros((size * 3, size * 3), np.uint8)
    for line in lines:
        cv2.polylines(mask, [line * 3], closed, 255, max(1, round(width * 3)), cv2.LINE_AA, SHIFT)
    return cv2.resize(mask, (size, size), interpolation=cv2.INTER_AREA).astype(np.float32) / 255


def _superellipse(center: tuple[float, float], radius: tuple[float, float], power: float) -> np.ndarray:
    angle = np.linspace(0, 2 * np.pi, 48, endpoint=False)
    cosine, sine = np.cos(angle), np.sin(angle)
    x = center[0] + radius[0] * np.sign(cosine) * np.abs(cosine) ** (2 / power)
    return np.stack([x, center[1] + radius[1] * np.sign(sine) * np.abs(sine) ** (2 / power)], 1)


def with_glasses(picture: np.ndarray, frame: FaceFrame, rng: np.random.Generator) -> np.ndarray:
    """Frames of a random shape around the eyes, with bridge and temples; sometimes tinted or with a reflection."""
    size = len(picture)
    radius = rng.uniform(0.3, 0.38), rng.uniform(0.19, 0.3)
    power, low, drop = rng.uniform(1.8, 4), rng.uniform(0.02, 0.09), rng.uniform(-0.03, 0.03)
    color = (
        rng.uniform(0, 0.2) + rng.uniform(0, 0.12, 3)
        if rng.random() < 0.8
        else rng.uniform(0.3, 0.6) + rng.uniform(0, 0.2, 3)
    )
    width = float(frame.unit * rng.choice([0.02, 0.035, 0.06]))
    rims = [_superellipse((side, low), radius, power) for side in (-0.52, 0.52)]
    inner, outer = 0.52 - radius[0], 0.52 + radius[0]
    bridge = [[-inner, low + drop], [0, low + drop - 0.05], [inner, low + drop]]
    temples = [[[side * outer, low - 0.03], [side * 1.2, low - 0.08]] for side in (-1, 1)]
    rim_mask = _lines(size, [_pixels(frame, rim) for rim in rims], width, True)
    bars = _lines(size, [_pixels(frame, line) for line in (bridge, *temples)], width, False)
    glass = np.zeros((size, size), np.float32)
    for rim in rims:
        cv2.fillPoly(glass, [_pixels(frame, rim)], 1.0, cv2.LINE_AA, SHIFT)
    # A thin shadow on the skin under the rim.
    shadow = cv2.GaussianBlur(np.roll(rim_mask, max(1, round(0.04 * frame.unit)), 0), (0, 0), 0.03 * frame.unit)
    picture = picture * (1 - 0.22 * shadow[..., None])
    tint = rng.uniform(0, 0.08) if rng.random() < 0.85 else rng.uniform(0.5, 0.85)
    picture = _mixed(picture, glass, color * 0.5, float(tint))
    if rng.random() < 0.3:
        y, x = np.mgrid[:size, :size].astype(np.float32) / frame.unit
        streak = np.exp(-(((x + y * rng.uniform(-0.6, 0.6) + rng.uniform(0, 1)) % 1.04 - 0.5) ** 2) / 0.01)
        picture = _mixed(picture, glass * streak, np.ones(3), float(rng.uniform(0.1, 0.35)))
    return _mixed(picture, np.maximum(rim_mask, bars), color, 0.95)


def with_mark(picture: np.ndarray, frame: FaceFrame, rng: np.random.Generator) -> np.ndarray:
    """A star, spot, line or cross painted on cheek, forehead or chin; or a plaster."""
    size = len(picture)
    centers = [(-0.62, 0.6), (0.62, 0.6), (-0.2, -0.6), (0.3, -0.55), (0.1, 1.6)]
    center = np.array(centers[rng.integers(len(centers))]) + rng.normal(0, 0.06, 2)
    reach, turn = rng.uniform(0.07, 0.2), rng.uniform(0, np.pi)
    match rng.integers(4):
        case 0:
            angle = turn + np.arange(10) * np.pi / 5
            shape = np.stack([np.cos(angle), np.sin(angle)], 1) * np.where(np.arange(10) % 2, 0.42, 1)[:, None] * reach
        case 1:
            shape = _superellipse((0, 0), (reach * 0.5, reach * rng.uniform(0.3, 0.6)), 2)
        case 2:
            shape = np.array([[-1, -0.07], [1, -0.1], [1, 0.1], [-1, 0.07]]) * reach
        case _:
            shape = np.array([[-1, -0.35], [1, -0.35], [1, 0.35], [-1, 0.35]]) * reach
    rotation = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    mask = np.zeros((size, size), np.float32)
    cv2.fillPoly(mask, [_pixels(frame, center + shape @ rotation.T)], 1.0, cv2.LINE_AA, SHIFT)
    mask = cv2.GaussianBlur(mask, (0, 0), max(0.3, 0.012 * frame.unit))
    light = picture.mean(2, keepdims=True) * 0.7 + 0.3
    return _mixed(picture, mask, rng.uniform(0, 1, 3) * light, float(rng.uniform(0.5, 0.95)))


def with_occluder(picture: np.ndarray, frame: FaceFrame, skin: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A hand at the cheek or chin, or a microphone before the mouth. skin ``[3]``: the person's."""
    if rng.random() < 0.5:
        return _microphone(picture, frame, rng)
    side = rng.choice([-1.0, 1.0])
    tip = np.array([side * rng.uniform(0.55, 0.95), rng.uniform(0.7, 1.5)])
    along = np.array([side * rng.uniform(0.2, 0.9), 1.0])
    along /= np.linalg.norm(along)
    across = np.array([-along[1], along[0]])
    for number in range(4):
        start = tip + across * 0.24 * (number - 1.5) + along * 0.1 * (number - 1.3) ** 2
        picture = _tube(picture, frame, start, start + along * 1.1, 0.125, skin * rng.uniform(0.9, 1.02))
    palm = tip + along * 1.35
    return _tube(picture, frame, palm, palm + along * 2, 0.5, skin * 0.93)


def _microphone(picture: np.ndarray, frame: FaceFrame, rng: np.random.Generator) -> np.ndarray:
    head = frame.mouth + [rng.uniform(-0.4, 0.4), rng.uniform(0.25, 0.7)]
    along = np.array([rng.uniform(-0.5, 0.5), 1.0])
    shade = np.full(3, rng.uniform(0.03, 0.4))
    picture = _tube(picture, frame, head + along * 0.2, head + along * 3, 0.13, shade * 0.7)
    return _tube(picture, frame, head, head + along * 0.12, rng.uniform(0.2, 0.3), shade)


def _tube(
    picture: np.ndarray, frame: FaceFrame, start: np.ndarray, end: np.ndarray, radius: float, color: np.ndarray
) -> np.ndarray:
    """A rounded bar, shaded as a cylinder, with a soft shadow before it."""
    size = len(picture)
    y, x = np.mgrid[:size, :size].astype(np.float32)
    place = frame.to_frame(np.stack([x, y], -1))
    axis = np.asarray(end - start, np.float32)
    along = (((place - start.astype(np.float32)) @ axis) / (axis @ axis)).clip(0, 1)
    distance = np.linalg.norm(place - start.astype(np.float32) - along[..., None] * axis, axis=-1) / radius
    mask = ((1 - distance) * radius * frame.unit + 0.5).clip(0, 1)
    shadow = np.exp(-((distance.clip(1, None) - 1) ** 2) * 4) * (1 - mask) * 0.3
    light = 0.6 + 0.4 * np.sqrt((1 - distance**2).clip(0, 1))
    picture = picture * (1 - shadow[..., None])
    return picture + mask[..., None] * (light[..., None] * color.astype(np.float32) - picture)


def person_matte(picture: np.ndarray, frame: FaceFrame) -> np.ndarray:
    """``[S, S]``, 1 on head, hair and shoulders: what differs from the background along the upper edges, and the head's oval.

    The background is a color that changes linearly, fitted to the upper left and right edges. Where they are busy, only a
    soft oval with neck and shoulders is known.
    """
    size = len(picture)
    small = cv2.resize(picture, (64, 64), interpolation=cv2.INTER_AREA)
    y, x = np.mgrid[:64, :64] / 64 - 0.5
    design = np.stack([np.ones_like(x), x, y, x * x], -1)
    edge = ((np.abs(x) > 0.43) & (y < 0.12)) | ((np.abs(x) > 0.36) & (y < -0.42))
    fit = np.linalg.lstsq(design[edge], small[edge], rcond=None)[0]
    spread = np.abs(small[edge] - design[edge] @ fit).mean()
    y, x = np.mgrid[:size, :size].astype(np.float32)
    place = frame.to_frame(np.stack([x, y], -1))
    share = head_share(place)
    body = ((place[..., 1] - 2.1 - 0.35 * np.abs(place[..., 0])) * 3).clip(0, 1) * (
        1.3 - np.abs(place[..., 0]) / 3
    ).clip(0, 1)
    oval = np.maximum((share * 4).clip(0, 1), body)
    if spread > 0.035:
        return cv2.GaussianBlur(oval.astype(np.float32), (0, 0), 0.04 * size)
    y, x = y / size - 0.5, x / size - 0.5
    background = np.stack([np.ones_like(x), x, y, x * x], -1) @ fit.astype(np.float32)
    differs = (np.linalg.norm(picture - background, axis=-1) / (0.05 + 2.5 * spread) - 0.6).clip(0, 1)
    # Face, neck and chest are the person's however much their color is the wall's.
    across, down = np.abs(place[..., 0]), place[..., 1]
    face = ((1 - (across / 1.08) ** 2 - ((down - 0.42) / 1.45) ** 2) * 4).clip(0, 1)
    neck = ((0.75 - across) * 4).clip(0, 1) * ((down - 1.2) * 4).clip(0, 1)
    core = np.maximum(np.maximum(face, neck), ((down - 2.2 - 0.3 * across) * 4).clip(0, 1))
    differs = cv2.medianBlur(differs.astype(np.float32), 5)
    return cv2.GaussianBlur(np.maximum(differs, core).astype(np.float32), (0, 0), 0.6 * size / 256)


def background(size: int, rng: np.random.Generator) -> np.ndarray:
    """A plain wall, a gradient, or a blurred scene: ``[S, S, 3]``."""
    first, second = (rng.beta(1.3, 1.3, 3) * 0.5 + rng.uniform(0, 0.5) for _ in range(2))
    y, x = np.mgrid[:size, :size].astype(np.float32) / size
    angle = rng.uniform(0, 2 * np.pi)
    blend = x * np.cos(angle) + y * np.sin(angle)
    if rng.random() < 0.6:
        field = _fractal(rng, size, size, rng.uniform(1, 1.8))
        blend = blend + 0.5 * cv2.GaussianBlur(field, (0, 0), float(rng.uniform(0.5, 6)) * size / 256)
    return (first + blend.clip(-0.3, 1.3)[..., None] * (second - first)).clip(0, 1).astype(np.float32)
