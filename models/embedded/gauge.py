"""Reads the frozen FaDeX features as four numbers a person understands."""

from __future__ import annotations

import torch
from torch import nn

SCALARS = ("blur_sigma", "noise_sigma", "jpeg_quality", "downscale")


class DamageGauge(nn.Module):
    """Pooled Z ``[B, C]`` to ``[B, 4]`` in the order of SCALARS, each on a scale of about 0..1."""

    def __init__(self, channels: int = 256):
        super().__init__()
        # Mean and spread: how far features vary over the crop tells noise from blur.
        self.layers = nn.Sequential(nn.Linear(2 * channels, channels), nn.SiLU(), nn.Linear(channels, len(SCALARS)))

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """Z ``[B, C, h, w]`` to normalized scalars."""
        return self.layers(torch.cat([features.mean((-2, -1)), features.std((-2, -1), correction=0)], 1))

    def read(self, features: torch.Tensor) -> dict[str, float]:
        """The first picture's scalars in their own units (pixels, levels of 255, JPEG quality, factor)."""
        blur, noise, quality, downscale = self(features)[0].tolist()
        return {
            "blur_sigma": max(blur, 0.0) * 4,
            "noise_sigma": max(noise, 0.0) ** 2 * 30,
            "jpeg_quality": min(max(quality, 0.0), 1.0) * 100,
            "downscale": 2 ** max(downscale * 2, 0.0),
        }

    @staticmethod
    def targets(summary: dict[str, float]) -> list[float]:
        """The inverse of ``read`` for a recipe's summary. Noise in square roots, factors in octaves: errors people notice."""
        return [
            summary["blur_sigma"] / 4,
            (summary["noise_sigma"] / 30) ** 0.5,
            summary["jpeg_quality"] / 100,
            torch.tensor(summary["downscale"]).log2().item() / 2,
        ]
