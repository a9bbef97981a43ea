"""The regressions that estimate how far a photograph has faded: ridge, on drawn fading of drawn pictures and small portraits."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import torch
from tqdm import tqdm

from ...lib.degradation.aging import dye_fading, uneven_fading
from ...models.old_photo.colors import (
    CELLS,
    Estimator,
    Regression,
    curve_features,
    field_features,
    looked_at,
    save_colors,
)
from ..album.photographs import read_photograph
from ..procedural import draw_picture

DRAWN, DRAWN_SIDE, FIRST_SEED = 240, 128, 50_000
DRAWS = 4  # of fading for each picture, the first of which is none
GRAY = 0.2  # share of the pictures without color
CURVE_RIDGE, FIELD_RIDGE = 30.0, 3000.0


def train_colors(portraits: Sequence[Path], path: Path) -> dict[str, float]:
    """Fits both regressions and writes them to ``path``. portraits: undamaged photographs, small ones suffice.

    The curves learn from drawn pictures, whose colors have no preference; the field from portraits, as only photographs have large
    plain regions that are light without a veil. Returns what was used.
    """
    rng = np.random.default_rng(0)
    drawn = [
        torch.from_numpy(draw_picture(FIRST_SEED + number, DRAWN_SIDE)).permute(2, 0, 1).float() / 255
        for number in tqdm(range(DRAWN), desc="drawn pictures", disable=None)
    ]
    people = [torch.from_numpy(read_photograph(one).copy()).permute(2, 0, 1).float() / 255 for one in portraits]
    curves = fit([faded(picture, rng, draw > 0) for picture in drawn for draw in range(DRAWS)], CURVE_RIDGE)
    field = fit([veiled(picture, rng, draw > 0) for picture in people for draw in range(DRAWS)], FIELD_RIDGE)
    used = {"drawn_pictures": len(drawn), "portraits": len(people), "draws": DRAWS}
    save_colors(Estimator(curves, field), json.dumps(used), path)
    return used


def faded(picture: torch.Tensor, rng: np.random.Generator, damaged: bool) -> tuple[np.ndarray, np.ndarray]:
    """Features ``[1, n]`` of a picture ``[3, H, W]`` whose dyes have faded, and its truth ``[1, 6]``: logarithms of the shares
    left, and the paper's densities."""
    left, yellowing = np.ones(3), 0.0
    gray = rng.random() < GRAY
    if damaged:
        left = np.clip(1 - rng.uniform(0, 0.65 * rng.uniform(0.3, 1), 3) * rng.choice((0.4, 1), 3), 0.1, 1)
        yellowing = 0.0 if gray else float(rng.uniform(0, 1))
    if gray:
        picture, left = picture.mean(0, keepdim=True).expand(3, -1, -1), np.full(3, left[0])
    cyan, magenta, yellow = left.tolist()
    done = dye_fading(picture[None], cyan=cyan, magenta=magenta, yellow=yellow, yellowing=yellowing)[0]
    paper = -np.log10(
        dye_fading(torch.ones(1, 3, 1, 1), cyan=1, magenta=1, yellow=1, yellowing=yellowing).numpy().ravel()
    )
    return curve_features(looked_at(as_stored(done)))[None], np.concatenate([np.log(left), paper])[None]


def veiled(picture: torch.Tensor, rng: np.random.Generator, damaged: bool) -> tuple[np.ndarray, np.ndarray]:
    """Features ``[CELLS ** 2, n]`` of a picture with light on some regions, and its share ``[CELLS ** 2, 1]``."""
    if rng.random() < GRAY:
        picture = picture.mean(0, keepdim=True).expand(3, -1, -1)
    share = np.zeros((CELLS, CELLS))
    if damaged:
        drawn = {"seed": int(rng.integers(2**31)), "strength": float(rng.uniform(0.1, 0.65))}
        light = uneven_fading(torch.zeros_like(picture)[None], **drawn, tone=1.0, warmth=0.0)[0, 0].numpy()
        share = cv2.resize(light, (CELLS, CELLS), interpolation=cv2.INTER_AREA)
        level = {"tone": float(rng.uniform(0.6, 0.95)), "warmth": float(rng.uniform(0, 1))}
        picture = uneven_fading(picture[None], **drawn, **level)[0]
    features = field_features(looked_at(as_stored(picture)))
    return features.reshape(CELLS**2, -1), share.reshape(-1, 1)


def as_stored(picture: torch.Tensor) -> torch.Tensor:
    """On 256 levels, as a file has it."""
    return (picture * 255).round() / 255


def fit(samples: Sequence[tuple[np.ndarray, np.ndarray]], ridge: float) -> Regression:
    """Least squares on standardized features, with a penalty of ``ridge`` on the weights."""
    features, truth = (np.concatenate(part).astype(np.float64) for part in zip(*samples, strict=True))
    mean, scale = features.mean(0), features.std(0) + 1e-6
    known = np.concatenate([(features - mean) / scale, np.ones((len(features), 1))], 1)
    penalty = ridge * np.eye(known.shape[1])
    penalty[-1, -1] = 0
    weights = np.linalg.solve(known.T @ known + penalty, known.T @ truth)
    return Regression(*(part.astype(np.float32) for part in (mean, scale, weights)))
