"""Checks which pictures are good enough as references, and which show someone else."""

from __future__ import annotations

import numpy as np
import torch.nn.functional as F
from torch import Tensor

from ..vocabulary import Face

# Side of the aligned crop in pixels of the photograph; below it, a 512 px reference contains only interpolation.
LEAST_SIDE = 64
# Photographs in focus measure .13 to .42, the same ones blurred by 8 of 512 pixels .04 to .08.
LEAST_SHARPNESS = 0.06


def objection(face: Face) -> str | None:
    """Why a face cannot be a reference, or None if it can."""
    side = face.similarity.size / face.similarity.scale
    if side < LEAST_SIDE:
        return f"the face is too small: its crop is {side:.0f} pixels wide, but {LEAST_SIDE} are needed."
    if crop_sharpness(face.crop) < LEAST_SHARPNESS:
        return "the face is blurred."
    return None


def crop_sharpness(crop: Tensor) -> float:
    """Mean absolute Laplacian of the inner face of ``[3, 512, 512]`` divided by its contrast; 0 without contrast.

    Measured at a quarter of the size, so that it tells blur from smallness.
    """
    inner = F.avg_pool2d(crop[:, 96:448, 96:416].mean(0, keepdim=True), 4)[0]
    return fine_detail(inner) / float(inner.std().clamp(min=1e-3))


def fine_detail(grey: Tensor) -> float:
    """Mean absolute Laplacian of ``[H, W]``."""
    laplacian = 4 * grey[1:-1, 1:-1] - grey[:-2, 1:-1] - grey[2:, 1:-1] - grey[1:-1, :-2] - grey[1:-1, 2:]
    return float(laplacian.abs().mean())


def outliers(similarity: np.ndarray, threshold: float) -> list[int] | None:
    """Which of N pictures show someone else than most of them do; None if no majority agrees.

    similarity: ``[N, N]`` in 0..1; threshold: lowest similarity of the same person. The picture least like the median of
    the others goes first, so that an outlier does not make the others look unlike each other.
    """
    kept, removed = list(range(len(similarity))), []
    while len(kept) > 1:
        among = similarity[np.ix_(kept, kept)]
        typical = [np.median(np.delete(row, index)) for index, row in enumerate(among)]
        if min(typical) >= threshold:
            break
        removed.append(kept.pop(int(np.argmin(typical))))
    return removed if len(kept) > len(removed) else None
