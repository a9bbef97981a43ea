"""The steps that several families draw in the same way."""

from __future__ import annotations

import math

import numpy as np

from .recipe import Step

Range = tuple[float, float]
MODES = ("area", "bilinear", "bicubic")


def gaussian(size: int, sigma_x: float, sigma_y: float, angle: float, **extra: float) -> Step:
    return Step("blur", {"size": size, "sigma_x": sigma_x, "sigma_y": sigma_y, "angle": angle, **extra})


def resize_step(scale: float, rng: np.random.Generator) -> Step:
    return Step("resize", {"scale": float(scale), "mode": str(rng.choice(MODES))})


def jpeg_step(quality: Range, rng: np.random.Generator) -> Step:
    return Step("jpeg", {"quality": int(rng.integers(int(quality[0]), int(quality[1]) + 1))})


def kernel_size(rng: np.random.Generator) -> int:
    """7, 9, ... 21, as the public code draws it."""
    return int(rng.integers(3, 11)) * 2 + 1


def sinc_step(rng: np.random.Generator, lowest: float = math.pi / 3) -> Step:
    """The final sinc filter, cut off between ``lowest`` and pi radians per pixel."""
    return Step("sinc", {"size": kernel_size(rng), "cutoff": rng.uniform(lowest, math.pi)})


def camera_step(rng: np.random.Generator) -> Step:
    """Gains and noise as cameras have them (Brooks et al., 2019, section 3: log-linear read noise over shot noise)."""
    shot = math.exp(rng.uniform(math.log(1e-4), math.log(1.2e-2)))
    read = math.exp(2.18 * math.log(shot) + 1.2 + rng.normal(0, 0.26))
    gains = {"red": rng.uniform(1.9, 2.4), "blue": rng.uniform(1.5, 1.9)}
    return Step("sensor_noise", {**gains, "shot": shot, "read": read})
