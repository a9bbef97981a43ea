"""Soft masks that say how much of a restored crop goes into the photograph."""

from __future__ import annotations

import torch

# In units of the crop's side, for the five-point template of ``faces/align.py``: forehead to chin and cheek to cheek.
CENTRE = (0.500, 0.540)
HALF_AXES = (0.293, 0.367)
FADE = 0.18


def face_mask(size: int = 512) -> torch.Tensor:
    """``[1, size, size]`` in 0..1 for an aligned crop: an oval that holds the face and fades out towards hair and neck.

    It ends well inside the crop, so that a warped crop never shows its border.
    """
    at = (torch.arange(size) + 0.5) / size
    x, y = ((at - centre) / half for centre, half in zip(CENTRE, HALF_AXES, strict=True))
    radius = torch.hypot(x[None, :], y[:, None])[None]
    inside = ((1 + FADE - radius) / FADE).clamp(0, 1)
    return inside * inside * (3 - 2 * inside)


def border_fade(size: int = 512) -> torch.Tensor:
    """``[1, size, size]`` in 0..1: 1 inside an aligned crop, fading to 0 towards its border.

    For masks from elsewhere, which may reach beyond the crop: its border must never show.
    """
    at = (torch.arange(size) + 0.5) / size
    edge = (torch.minimum(at, 1 - at) / FADE).clamp(0, 1)
    edge = edge * edge * (3 - 2 * edge)
    return (edge[None, :] * edge[:, None])[None]
