"""The sample photograph and its album: NASA's portrait of Eileen Collins (public domain), from the scikit-image wheel."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image

from .vocabulary import UserError

PERSON = "Eileen Collins"
NOTE = (
    "The sample album is made from the sample photograph itself (other crops, mirrored, re-lit, re-scaled): "
    "it shows how detail is carried over, it is no test of identity restoration."
)


def photograph() -> torch.Tensor:
    """float32 ``[1, 3, 512, 512]`` in 0..1. Read by its path: importing the library would take a second."""
    spec = importlib.util.find_spec("skimage")
    path = Path(spec.origin).parent / "data" / "astronaut.png" if spec else None
    if path is None or not path.is_file():
        raise UserError(
            "The sample photograph comes with scikit-image, which is not installed: pip install scikit-image"
        )
    with Image.open(path) as picture:
        pixels = np.array(picture.convert("RGB"))
    return torch.from_numpy(pixels).permute(2, 0, 1)[None].float() / 255


def album() -> list[torch.Tensor]:
    """Four pictures ``[3, h, w]`` made from the portrait."""
    photo = photograph()

    def view(
        top: int, left: int, side: int, scale: float, gamma: float, gain: tuple[float, float, float], mirrored: bool
    ):
        crop = photo[..., top : top + side, left : left + side]
        crop = F.interpolate(crop, scale_factor=scale, mode="bicubic", antialias=True).clamp(0, 1)
        lit = (crop**gamma * torch.tensor(gain).view(1, 3, 1, 1)).clamp(0, 1)
        return (lit.flip(-1) if mirrored else lit)[0].contiguous()

    return [
        view(0, 90, 300, 1.5, 0.85, (1.03, 1.0, 0.96), mirrored=True),
        view(10, 60, 340, 1.2, 1.15, (1.0, 1.0, 1.0), mirrored=False),
        view(0, 110, 250, 1.9, 1.0, (0.97, 1.0, 1.05), mirrored=False),
        view(20, 80, 290, 1.0, 0.9, (1.0, 0.98, 0.95), mirrored=True),
    ]
