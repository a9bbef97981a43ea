"""Faded photographs: how far, and the fading undone.

Fading is modeled as light does it: of every dye a share is left, and the paper has yellowed, so that each channel's density
(-log10 of its light) is scaled and shifted; and a veil of light lies over some regions, slowly varying. Both are estimated from the
distribution of the picture's densities by linear regressions that learned from drawn fading (`training/old_photo/colors.py`).
A correction is one rising curve per channel and one slow field: equal colors at a place stay equal, and no color is added by content.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ...lib.pictures.color import luma, luma_of
from ...lib.storage.tensors import opened_tensors, write_tensors
from ...lib.vocabulary import UserError

WEIGHTS = Path(__file__).parents[1] / "embedded" / "faded_colors.safetensors"
Array = NDArray[np.float32]

SIDE = 192  # longer side in pixels at which a picture is looked at
CELLS = 6  # of the field, along either side
DARKEST = 0.004
LEAST_LEFT = 0.35  # of a dye: what is fainter cannot be brought back without its noise
MOST_VEIL = 0.6
VEIL_LEVEL = 0.82  # lightness of the veil, the middle of those drawn
# Below the first, nothing is changed, and from the second on everything, so that undamaged photographs stay as they are.
FADED, VEILED = (0.17, 0.27), (0.15, 0.25)
BLACK = 0.9  # density of the darkest places that nine of ten undamaged photographs reach
# Levels of 255 by which colors of equal lightness differ in a gray or sepia picture. In a strongly toned one, dirt and uneven toning
# differ more, but still by little beside the tone itself.
MONOCHROME, MONOCHROME_TONED, OF_THE_TONE = 3.0, 6.0, 0.2


@dataclass(frozen=True)
class Regression:
    """Standardizes features and maps them linearly. mean, scale: ``[n]``; weights: ``[n + 1, m]``, the last row constant."""

    mean: Array
    scale: Array
    weights: Array

    def __call__(self, features: Array) -> Array:
        """``[..., n]`` to ``[..., m]``."""
        return np.asarray((features - self.mean) / self.scale @ self.weights[:-1] + self.weights[-1], np.float32)


@dataclass(frozen=True)
class Fading:
    """left: share of each channel's density that is left; base: density of the yellowed paper; veil: ``[CELLS, CELLS]`` share of
    the light that lies over the picture; monochrome: whether the picture is gray or sepia."""

    left: tuple[float, float, float]
    base: tuple[float, float, float]
    veil: Array
    monochrome: bool

    @property
    def nothing(self) -> bool:
        return self.left == (1, 1, 1) and self.base == (0, 0, 0) and not self.veil.any()


@dataclass(frozen=True)
class Estimator:
    curves: Regression
    field: Regression


@cache
def estimator() -> Estimator:
    """The one that ships with the pack. Raises UserError with the file's name."""
    try:
        with opened_tensors(WEIGHTS) as file:
            parts = [
                Regression(*(file.get(f"{part}.{name}").numpy() for name in ("mean", "scale", "weights")))
                for part in ("curves", "field")
            ]
    except (LookupError, ValueError, RuntimeError) as error:
        raise UserError(
            f"{WEIGHTS.name}: not readable ({error}). It belongs in models/embedded/ of the pack; install the pack again."
        ) from error
    return Estimator(*parts)


def save_colors(made: Estimator, provenance: str, path: Path = WEIGHTS) -> None:
    """Writes an estimator with where it comes from."""
    tensors = {
        f"{part}.{name}": torch.from_numpy(np.ascontiguousarray(getattr(getattr(made, part), name), np.float32))
        for part in ("curves", "field")
        for name in ("mean", "scale", "weights")
    }
    write_tensors(path, tensors, {"kind": "faded_colors", "provenance": provenance})


def estimate_fading(picture: Tensor) -> Fading:
    """The fading of a photograph ``[3, H, W]`` in 0..1, with the weights that ship."""
    small = looked_at(picture)
    monochrome = is_monochrome(small)
    if monochrome:
        small = np.repeat(luma_of(small)[..., None], 3, -1)
    made = estimator()
    # The gates are on the strongest place, and on all dyes together.
    veil = np.clip(made.field(field_features(small))[..., 0], 0, MOST_VEIL)
    veil *= _gate(float(veil.max()), *VEILED)
    cleared = unveiled(small.transpose(2, 0, 1), _enlarged(veil, *small.shape[:2])).transpose(1, 2, 0)
    if monochrome:
        share = _left_of_gray(cleared)
        return Fading((share, share, share), (0.0, 0.0, 0.0), veil, monochrome)
    found = made.curves(curve_features(np.ascontiguousarray(cleared)))
    left, base = np.minimum(found[:3], 0), np.maximum(found[3:], 0)
    gate = _gate(float(np.sqrt((left**2).mean() + 2 * (base**2).sum())), *FADED)
    shares = np.clip(np.exp(gate * left), LEAST_LEFT, 1)
    red, green, blue = shares.tolist()
    return Fading((red, green, blue), tuple((gate * base).tolist()), veil, monochrome)


def _left_of_gray(picture: Array) -> float:
    """What is left of a gray picture's density ``[h, w, 3]``. The regression compares channels, of which there is but one here."""
    darkest = -np.log10(max(float(np.quantile(picture[..., 0], 0.002)), DARKEST))
    return min(max(darkest / BLACK, LEAST_LEFT), 1.0)


def undo_fading(picture: Tensor, fading: Fading, strength: float = 1.0, neutral: bool = False) -> Tensor:
    """A photograph ``[3, H, W]`` in 0..1 without its fading; the very same where there is nothing to undo.

    strength: 0..1, what share of the fading is undone. neutral: a sepia picture becomes gray; otherwise a monochrome picture keeps
    its tone.
    """
    toned = fading.monochrome and neutral
    if strength == 0 or (fading.nothing and not toned):
        return picture
    array = picture.float().cpu().numpy()
    veil = _enlarged(fading.veil, *array.shape[1:])
    done = torch.from_numpy(unveiled(array, strength * veil))
    if fading.monochrome:
        gray = luma(done)
        lightened = _curve(gray, fading.left[0], fading.base[0], strength)
        done = (lightened if neutral else done * (lightened / gray.clamp(min=DARKEST))).expand(3, -1, -1)
        done = torch.lerp(torch.from_numpy(array), done, strength) if toned else done
    else:
        channels = zip(done, fading.left, fading.base, strict=True)
        done = torch.stack([_curve(channel, left, base, strength) for channel, left, base in channels])
    return done.clamp(0, 1).to(picture)


def _curve(light: Tensor, left: float, base: float, strength: float) -> Tensor:
    """The light before a dye faded to the share ``left`` and the paper got the density ``base``."""
    density = -torch.log10(light.clamp(DARKEST, 1))
    return torch.pow(10, -(density - strength * base).clamp(min=0) / left**strength)


def unveiled(picture: Array, veil: Array) -> Array:
    """``[3, H, W]`` without a veil ``[H, W]`` of light."""
    return np.clip((picture - veil * np.float32(VEIL_LEVEL)) / (1 - veil), 0, 1)


def _enlarged(veil: Array, height: int, width: int) -> Array:
    """A field ``[CELLS, CELLS]`` at a picture's size, smooth."""
    smooth = cv2.GaussianBlur(veil, (0, 0), 0.5, borderType=cv2.BORDER_REPLICATE)
    field = cv2.resize(smooth, (width, height), interpolation=cv2.INTER_CUBIC).reshape(height, width)
    return np.clip(field, 0, MOST_VEIL).astype(np.float32)


def _gate(value: float, low: float, high: float) -> float:
    """0 up to ``low``, 1 from ``high`` on, smooth between."""
    share = min(max((value - low) / (high - low), 0.0), 1.0)
    return share * share * (3 - 2 * share)


def looked_at(picture: Tensor) -> Array:
    """``[3, H, W]`` as ``[h, w, 3]`` of at most ``SIDE`` pixels along the longer side, at least ``CELLS`` along the other."""
    array = picture.float().cpu().numpy().transpose(1, 2, 0)
    height, width = array.shape[:2]
    scale = min(1.0, SIDE / max(height, width))
    size = max(CELLS, round(width * scale)), max(CELLS, round(height * scale))
    return np.asarray(cv2.resize(array, size, interpolation=cv2.INTER_AREA), np.float32).clip(0, 1)


def is_monochrome(picture: Array) -> bool:
    """Whether the colors of ``[h, w, 3]`` depend on nothing but their lightness."""
    steps = np.clip(luma_of(picture) * 16, 0, 15).astype(int).ravel()
    casts = (picture[..., [0, 2]] - picture[..., 1:2]).reshape(-1, 2) * 255
    rest = np.concatenate([casts[steps == step] - np.median(casts[steps == step], 0) for step in np.unique(steps)])
    spread, tone = float(np.sqrt((rest**2).mean())), float(np.abs(casts).mean())
    return spread < MONOCHROME or spread < min(MONOCHROME_TONED, OF_THE_TONE * tone)


def curve_features(picture: Array) -> Array:
    """Of ``[h, w, 3]``: spans and quantiles of the three densities, ``[27]``."""
    density = -np.log10(np.clip(picture, DARKEST, 1)).reshape(-1, 3)
    one, ten, low, middle, high, ninety, most, last = np.quantile(
        density, [0.01, 0.1, 0.25, 0.5, 0.75, 0.9, 0.99, 0.998], axis=0
    )
    spans = [np.log(span + 0.02) for span in (most - one, ninety - ten, high - low)]
    return np.concatenate([*spans, one, ten, middle, ninety, most, last]).astype(np.float32)


def field_features(picture: Array) -> Array:
    """Of ``[h, w, 3]``: of every cell, its surroundings and the whole, ``[CELLS, CELLS, n]``."""
    own = _cells(picture)
    around = cv2.blur(own, (3, 3), borderType=cv2.BORDER_REPLICATE)
    whole = np.concatenate([own.min((0, 1)), own.mean((0, 1)), own.max((0, 1))])
    place = np.linspace(-1, 1, CELLS, dtype=np.float32)
    slopes = [(own * axis).mean((0, 1)) * axis for axis in (place[None, :, None], place[:, None, None])]
    dark, spread, detail = own[..., 0:1], own[..., 3:4], own[..., 4:5]
    products = [dark * dark, spread * spread, detail * detail, dark * spread, dark * detail, dark * around[..., 0:1]]
    parts = [own, around, np.broadcast_to(whole, (CELLS, CELLS, len(whole))), slopes[0] + slopes[1], *products]
    return np.concatenate(parts, -1).astype(np.float32)


def _cells(picture: Array) -> Array:
    """``[CELLS, CELLS, 6]``: darkest, mean and brightest light, logarithms of contrast and detail, and colorfulness."""
    height, width = picture.shape[:2]
    light = picture.mean(2)
    dark = cv2.blur(picture, (3, 3)).min(2)
    detail = np.abs(light - cv2.blur(light, (5, 5)))
    color = picture.max(2) - picture.min(2)
    cells = np.empty((CELLS, CELLS, 6), np.float32)
    for row, column in np.ndindex(CELLS, CELLS):
        cell = (
            slice(row * height // CELLS, (row + 1) * height // CELLS),
            slice(column * width // CELLS, (column + 1) * width // CELLS),
        )
        part = light[cell]
        contrast = np.log(part.std() + 0.01), np.log(detail[cell].mean() + 0.003)
        quantiles = np.quantile(dark[cell], 0.05), part.mean(), np.quantile(part, 0.95)
        cells[row, column] = (*quantiles, *contrast, color[cell].mean())
    return cells
