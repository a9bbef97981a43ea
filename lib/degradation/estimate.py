"""Estimates the degradation code of a photograph from a restored face and the damaged one (Face2Scene, 3.2-3.3)."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from ..faces.paste import unwarp
from ..vocabulary import Face

SMALLEST = 16  # pixels: the finest grid of tokens is 4x4 at a quarter of the resolution
LARGEST = 384  # pixels: more adds no information about a homogeneous degradation


def face_pair(photo: torch.Tensor, face: Face) -> torch.Tensor | None:
    """Restored and damaged face at the photograph's own scale, ``[6, h, w]`` in 0..1, or None if the face is too small.

    photo: ``[3, H, W]``.
    """
    if face.restored is None:
        return None
    region, _, (x0, y0, x1, y1) = unwarp(face.restored, face.similarity, photo.shape[-2:])
    left, top, right, bottom = (round(v) for v in face.box)
    # The corners of a box may be outside a rotated crop; its middle nine tenths are inside.
    inset_x, inset_y = (right - left) // 20, (bottom - top) // 20
    left, right = max(left + inset_x, x0), min(right - inset_x, x1)
    top, bottom = max(top + inset_y, y0), min(bottom - inset_y, y1)
    middle_x, middle_y = (left + right) // 2, (top + bottom) // 2
    left, right = max(left, middle_x - LARGEST // 2), min(right, middle_x + LARGEST // 2)
    top, bottom = max(top, middle_y - LARGEST // 2), min(bottom, middle_y + LARGEST // 2)
    if min(right - left, bottom - top) < SMALLEST:
        return None
    restored = region[:, top - y0 : bottom - y0, left - x0 : right - x0]
    return torch.cat([restored, photo[:, top:bottom, left:right]])


def largest_pair(photo: torch.Tensor, faces: Sequence[Face]) -> torch.Tensor | None:
    """The `face_pair` of the largest restored face of a photograph."""
    pairs = (pair for face in faces if (pair := face_pair(photo, face)) is not None)
    return max(pairs, key=area, default=None)


def area(pair: torch.Tensor) -> int:
    """Of a pair ``[6, h, w]``, in pixels."""
    return pair.shape[-1] * pair.shape[-2]


def describe_damage(scalars: dict[str, float]) -> str:
    """Scalars in plain words, worst first within each kind: ``clear blur (about 2.1 px), ...``."""
    blur, noise = scalars["blur_sigma"], scalars["noise_sigma"]
    quality, factor = scalars["jpeg_quality"], scalars["downscale"]
    words = []
    if blur >= 0.6:
        words.append(f"{_grade(blur, 1.3, 2.4)} blur (sigma about {blur:.1f} px)")
    if noise >= 2:
        words.append(f"{_grade(noise, 8, 18)} noise (about {noise:.0f} of 255)")
    if quality < 90:
        words.append(f"{_grade(100 - quality, 30, 50)} JPEG compression (quality about {quality:.0f})")
    if factor >= 1.3:
        words.append(f"enlarged from a smaller picture (about {factor:.1f} times)")
    return ", ".join(words) or "hardly any damage"


def _grade(value: float, clear: float, strong: float) -> str:
    return "strong" if value >= strong else "clear" if value >= clear else "slight"
