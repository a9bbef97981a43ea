"""Light, color and age of a second photograph, and what a small camera and its file do to it. Pictures: ``[S, S, 3]``, 0..1."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from ...lib.pictures.color import luma_of

SEPIA = np.array([1.08, 0.98, 0.82], np.float32)


@dataclass(frozen=True)
class Look:
    """direction ``[3]``: unit vector to the light, its strength 0..1; gradient ``[2]``: log gain across the picture;
    gamma, contrast, saturation: factors; balance ``[3]``: gains; tone: "color", "gray" or "sepia"; detail: factor on the
    fine band of the skin; blur: sigma in pixels of a 256 px picture; noise: standard deviation, 0..1; quality: of the JPEG."""

    direction: np.ndarray
    strength: float
    gradient: np.ndarray
    gamma: float
    contrast: float
    saturation: float
    balance: np.ndarray
    tone: str
    detail: float
    blur: float
    noise: float
    quality: int
    seed: int


def draw_look(rng: np.random.Generator) -> Look:
    """A look like those of family albums: mostly mild, sometimes hard side light, gray or sepia."""
    direction = np.array([rng.uniform(-1, 1), rng.uniform(-1, 0.4), rng.uniform(0.35, 1)])
    balance = np.exp(np.array([rng.normal(0, 0.07), 0, rng.normal(0, 0.07)]))
    return Look(
        direction=direction / np.linalg.norm(direction),
        strength=float(rng.uniform(0, 0.75) ** 1.2),
        gradient=rng.normal(0, 0.18, 2),
        gamma=float(np.exp(rng.normal(0, 0.16))),
        contrast=float(np.exp(rng.normal(0, 0.12)).clip(0.75, 1.25)),
        saturation=float(np.exp(rng.normal(-0.05, 0.2)).clip(0.5, 1.3)),
        balance=balance / luma_of(balance),
        tone=str(rng.choice(["color", "gray", "sepia"], p=[0.87, 0.09, 0.04])),
        detail=float(np.exp(rng.normal(0, 0.35)).clip(0.4, 1.9)),
        blur=float(rng.uniform(0, 0.9)),
        noise=float(rng.choice([0, rng.uniform(0, 0.02)])),
        quality=int(rng.integers(60, 96)),
        seed=int(rng.integers(2**31)),
    )


def aged(picture: np.ndarray, head: np.ndarray, unit: float, detail: float) -> np.ndarray:
    """Skin with more or fewer lines: the band between .012 and .08 eye distances times ``detail`` inside ``head`` ``[S, S]``."""
    luma = luma_of(picture)
    fine = cv2.GaussianBlur(luma, (0, 0), max(0.3, 0.012 * unit)) - cv2.GaussianBlur(luma, (0, 0), 0.08 * unit)
    # Strong edges (lids, lips, teeth) are features, not age.
    skin = np.exp(-((fine / 0.05) ** 2)) * head
    return picture + ((detail - 1) * skin * fine)[..., None]


def shading(z: np.ndarray, unit: float, look: Look) -> np.ndarray:
    """Gain of the luminance ``[S, S]`` that another light makes on the relief ``z`` (eye distances, per pixel)."""
    smooth = cv2.GaussianBlur(z.astype(np.float32), (0, 0), 0.09 * unit) * unit
    dy, dx = np.gradient(smooth)
    normal = np.stack([-dx, -dy, np.ones_like(dx)], -1)
    normal /= np.linalg.norm(normal, axis=-1, keepdims=True)
    light = (normal @ look.direction.astype(np.float32)).clip(0, None)
    face = z > 0.5
    middle = light[face].mean() if face.any() else light.mean()
    size = len(z)
    y, x = np.mgrid[:size, :size].astype(np.float32) / size - 0.5
    # Only the head is lit anew: what stands behind it has no relief.
    log_gain = (
        look.strength * 1.1 * (light - middle) * (z / 0.6).clip(0, 1) + x * look.gradient[0] + y * look.gradient[1]
    )
    return np.exp(log_gain).astype(np.float32)


def developed(picture: np.ndarray, gain: np.ndarray, look: Look) -> np.ndarray:
    """The picture under the gain, then tone curve, white balance, saturation and print."""
    lit = (picture.clip(0, 1) ** 2.2 * gain[..., None] * look.balance.astype(np.float32)).clip(0, None)
    lit = lit / (1 + 0.12 * np.maximum(lit - 0.6, 0))  # a shoulder instead of burnt-out skin
    picture = lit.clip(0, 1) ** (look.gamma / 2.2)
    picture = 0.5 + look.contrast * (picture - 0.5)
    luma = luma_of(picture)[..., None]
    if look.tone == "color":
        return (luma + look.saturation * (picture - luma)).clip(0, 1)
    return (luma * (SEPIA if look.tone == "sepia" else 1)).clip(0, 1) * np.ones(3, np.float32)


def filed(picture: np.ndarray, look: Look) -> np.ndarray:
    """Slightly blurred, with grain, through a JPEG."""
    size = len(picture)
    sigma = look.blur * size / 256
    if sigma > 0.2:
        picture = cv2.GaussianBlur(picture, (0, 0), sigma)
    if look.noise:
        grain = np.random.default_rng(look.seed).standard_normal((size, size, 1)).astype(np.float32)
        picture = picture + look.noise * grain
    encoded = cv2.imencode(
        ".jpg", (picture.clip(0, 1)[..., ::-1] * 255).round().astype(np.uint8), [cv2.IMWRITE_JPEG_QUALITY, look.quality]
    )[1]
    return cv2.imdecode(encoded, cv2.IMREAD_COLOR)[..., ::-1].astype(np.float32) / 255
