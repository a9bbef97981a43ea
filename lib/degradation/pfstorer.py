"""PFStorer's light and heavy degradation (its supplement, equation 8).

What the paper leaves open: the lengths of motion and median blur, and the sinc filter's probability, which is Real-ESRGAN's.
"""

from __future__ import annotations

import math

import numpy as np

from .recipe import Recipe, Step
from .steps import camera_step, gaussian, jpeg_step, resize_step, sinc_step


def pfstorer_light(seed: int) -> Recipe:
    """Blur of .1-10 px, a downscale of up to 4 (.7), noise of up to 2 (.4), JPEG 30-100."""
    return Recipe(tuple(_equation_8(np.random.default_rng(seed), 4, 2)), seed, "pfstorer_light")


def pfstorer_heavy(seed: int) -> Recipe:
    """Camera noise (.5), motion blur (.05), median blur (.1); blur, downscale of up to 10, noise of up to 15 and JPEG; sinc (.8);
    the same again (.9)."""
    rng = np.random.default_rng(seed)
    steps = [camera_step(rng)] if rng.random() < 0.5 else []
    if rng.random() < 0.05:
        steps.append(Step("motion_blur", {"size": int(rng.integers(2, 13)) * 2 + 1, "angle": rng.uniform(0, math.pi)}))
    if rng.random() < 0.1:
        steps.append(Step("median_blur", {"size": int(rng.choice([3, 5]))}))
    steps += [*_equation_8(rng, 10, 15), Step("resize", {"scale": 1.0, "mode": "bicubic"})]
    if rng.random() < 0.8:
        steps.append(sinc_step(rng))
    if rng.random() < 0.9:
        steps += _equation_8(rng, 10, 15)
    return Recipe(tuple(steps), seed, "pfstorer_heavy")


def _equation_8(rng: np.random.Generator, downscale: float, noise: float) -> list[Step]:
    sigma = rng.uniform(0.1, 10)
    other, angle = (sigma, 0.0) if rng.random() < 0.5 else (rng.uniform(0.1, 10), rng.uniform(-math.pi, math.pi))
    steps = [gaussian(41, sigma, other, angle)]
    if rng.random() < 0.7:
        steps.append(resize_step(1 / rng.uniform(1, downscale), rng))
    if rng.random() < 0.4:
        steps.append(Step("gaussian_noise", {"sigma": rng.uniform(0, noise), "gray": bool(rng.random() < 0.4)}))
    return [*steps, jpeg_step((30, 100), rng)]
