"""Light and colors of one picture for another that shows the same place: curves fitted to both, then what is left, smoothly.

A color fix that exchanges low frequencies alone would also bring over the shading by which a face is told from another. Here the
colors are changed as the whole region says, and only the broadest light and the chroma are taken as they lie.
"""

from __future__ import annotations

import cv2
import numpy as np
import torch
from torch import Tensor

# Standard deviations in widths of an aligned crop: what the fit sees, and what of chroma and of light is taken as it lies.
SEEN, CHROMA, LIGHT = 0.012, 0.03, 0.15
# How much the fit is held to leave colors alone, per pixel, and the error in 0..1 from which a pixel counts less.
RIDGE, TOLERATED = 1e-3, 0.06
LUMA = np.array([0.299, 0.587, 0.114], np.float32)


def relit(picture: Tensor, below: Tensor, valid: Tensor, crop: float) -> Tensor:
    """``picture`` ``[3, h, w]`` in the light and the colors of ``below`` ``[3, h, w]``, which shows the same place; clamped to 0..1.

    valid: ``[1, h, w]`` in 0..1, where the picture shows something; crop: the width of an aligned face crop in these pixels.
    """
    ours, theirs = (np.ascontiguousarray(one.permute(1, 2, 0).cpu().numpy(), np.float32) for one in (picture, below))
    known = valid[0].cpu().numpy().astype(np.float32)
    if known.sum() < 16:
        return picture
    matched = _basis(ours) @ _fitted(_mean(ours, known, SEEN * crop), _mean(theirs, known, SEEN * crop), known)
    left = theirs - matched
    light = (left @ LUMA)[..., None]
    matched += _mean(left - light, known, CHROMA * crop) + _mean(light, known, LIGHT * crop)
    return torch.from_numpy(matched.astype(np.float32)).permute(2, 0, 1).to(picture).clamp(0, 1)


def _basis(colors: np.ndarray) -> np.ndarray:
    """``[..., 8]``: the colors, their squares, the product of luma and its cube, and one."""
    luma = (colors @ LUMA)[..., None]
    return np.concatenate([colors, colors**2, luma**3, np.ones_like(luma)], -1)


def _fitted(ours: np.ndarray, theirs: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """``[8, 3]``: the basis of our colors to theirs, with the least error, where outliers count little."""
    step = max(1, int(np.sqrt(weight.size / 20_000)))
    x, y = (one[::step, ::step].reshape(-1, 3).astype(np.float64) for one in (ours, theirs))
    basis, known = _basis(x), weight[::step, ::step].reshape(-1).astype(np.float64)
    least = np.eye(8, 3)
    for _ in range(4):
        error = np.abs(y - basis @ least).mean(1)
        share = known / (1 + (error / TOLERATED) ** 2) if _ else known
        held = RIDGE * share.sum()
        normal = (basis * share[:, None]).T @ basis + held * np.eye(8)
        least = np.linalg.solve(normal, (basis * share[:, None]).T @ y + held * np.eye(8, 3))
    return least


def _mean(field: np.ndarray, weight: np.ndarray, sigma: float) -> np.ndarray:
    """``[h, w, C]`` averaged in a Gaussian window over where there is weight."""
    part = max(1, int(sigma / 4))
    height, width = weight.shape
    size = -(-width // part), -(-height // part)
    weighted = np.dstack([field * weight[..., None], weight])
    small = weighted if part == 1 else cv2.resize(weighted, size, interpolation=cv2.INTER_AREA)
    blurred = cv2.GaussianBlur(small, (0, 0), max(sigma / part, 0.3), borderType=cv2.BORDER_REPLICATE)
    mean = blurred[..., :-1] / (blurred[..., -1:] + 1e-6)
    return mean if part == 1 else cv2.resize(mean, (width, height), interpolation=cv2.INTER_LINEAR).reshape(field.shape)
