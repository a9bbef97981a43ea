"""Light and colors of one picture for another that shows the same face: the mean colors and how they vary, then what is left, smoothly.

A color fix that exchanges low frequencies alone would also bring over the shading by which a face is told from another. Here the
colors are moved as a whole (the linear Monge-Kantorovich transport of Pitie and Kokaram 2007, which does not ask that both faces lie on
each other), and only the broadest light is taken as it lies.
"""

from __future__ import annotations

import cv2
import numpy as np
import torch
from torch import Tensor

from ..pictures.color import luma_of

# Standard deviations in widths of an aligned crop: of what is compared, and of what is taken as it lies; of chroma more where the
# picture has none of its own, because nothing in it says that lips are red.
SEEN, LIGHT, CHROMA_OF_GRAY = 0.012, 0.15, 0.03
GRAY = 0.01  # mean difference of the colors from their luma, in 0..1
# Variance that both get: colors that hardly vary are moved, not stretched.
FLOOR = 2e-4


def relit(picture: Tensor, below: Tensor, weight: Tensor, crop: float) -> Tensor:
    """``picture`` ``[3, h, w]`` in the light and the colors of ``below`` ``[3, h, w]``, which shows the same place; clamped to 0..1.

    weight: ``[1, h, w]`` in 0..1, where both show the face; crop: the width of an aligned face crop in these pixels.
    """
    ours, theirs = (np.ascontiguousarray(one.permute(1, 2, 0).cpu().numpy(), np.float32) for one in (picture, below))
    known = weight[0].cpu().numpy().astype(np.float32)
    if known.sum() < 16:
        return picture
    own, wanted = (_mean(one, known, SEEN * crop) for one in (ours, theirs))
    matched = _moved(ours, own, wanted, known)
    left = theirs - matched
    light = luma_of(left)[..., None]
    gray = np.abs(ours - luma_of(ours)[..., None]).mean() < GRAY
    chroma = _mean(left - light, known, (CHROMA_OF_GRAY if gray else LIGHT) * crop)
    matched = matched + _mean(light, known, LIGHT * crop) + chroma
    return torch.from_numpy(matched.astype(np.float32)).permute(2, 0, 1).to(picture).clamp(0, 1)


def _moved(colors: np.ndarray, ours: np.ndarray, theirs: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """``colors`` ``[h, w, 3]`` after the linear map that gives ``ours`` the mean and the covariance of ``theirs``."""
    (mean, own), (wanted, other) = (_moments(one.reshape(-1, 3), weight.reshape(-1)) for one in (ours, theirs))
    root = _root(own)
    inverse = np.linalg.inv(root)
    change = inverse @ _root(root @ other @ root) @ inverse
    return (colors - mean) @ change.T + wanted


def _moments(colors: np.ndarray, weight: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean ``[3]`` and covariance ``[3, 3]`` of colors ``[N, 3]``."""
    share = weight.astype(np.float64) / weight.sum()
    mean = share @ colors
    offset = colors - mean
    return mean, (offset * share[:, None]).T @ offset + FLOOR * np.eye(3)


def _root(matrix: np.ndarray) -> np.ndarray:
    """The symmetric square root."""
    values, vectors = np.linalg.eigh(matrix)
    return (vectors * np.sqrt(values.clip(0))) @ vectors.T


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
