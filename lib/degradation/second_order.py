"""Real-ESRGAN's second-order pipeline (Wang et al., 2021, section 3) with the parameters of two published trainings."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from .recipe import Recipe, Step
from .steps import Range, gaussian, kernel_size, resize_step, sinc_step

KINDS = (0.45, 0.25, 0.12, 0.03, 0.12, 0.03)
"""Shares of isotropic and anisotropic kernels: ordinary, generalised, plateau."""


@dataclass(frozen=True)
class Stage:
    """Ranges of one of the two stages; sigmas in pixels, noise in levels of 255, resize relative to the target's size."""

    blur_prob: float
    blur_sigma: Range
    beta_generalised: Range
    beta_plateau: Range
    resize_prob: tuple[float, float, float]
    resize_range: Range
    noise_range: Range
    poisson_range: Range
    jpeg_range: Range


# Real-ESRGAN's params_realesrgan.yml (also OSEDiff's) and StableSR's (also S3Diff's) configuration.
REALESRGAN = (
    Stage(1.0, (0.2, 3), (0.5, 4), (1, 2), (0.2, 0.7, 0.1), (0.15, 1.5), (1, 30), (0.05, 3), (30, 95)),
    Stage(0.8, (0.2, 1.5), (0.5, 4), (1, 2), (0.3, 0.4, 0.3), (0.3, 1.2), (1, 25), (0.05, 2.5), (30, 95)),
)
S3DIFF = (
    Stage(1.0, (0.2, 1.5), (0.5, 2), (1, 1.5), (0.2, 0.7, 0.1), (0.3, 1.5), (1, 15), (0.05, 2), (60, 95)),
    Stage(0.5, (0.2, 1.0), (0.5, 2), (1, 1.5), (0.3, 0.4, 0.3), (0.6, 1.2), (1, 12), (0.05, 1), (60, 100)),
)


def second_order(
    stages: tuple[Stage, Stage], name: str, factor: int = 1, *, varying: bool = False
) -> Callable[[int], Recipe]:
    """Draws blur, resize, noise, JPEG twice, the second time round the picture's size / ``factor``, then the final sinc filter.

    varying: the first blur grows toward the corners, up to twice its sigma (Face2Scene, supplement 9.8).
    """

    def draw(seed: int) -> Recipe:
        rng = np.random.default_rng(seed)
        first, second = stages
        steps = _stage(first, rng, 1.0)
        if varying:  # the first stage always blurs
            sigma = rng.uniform(*first.blur_sigma)
            steps[0] = Step("varying_blur", {"size": 21, "centre": sigma / 2, "corner": sigma * 2})
        *steps_again, compress = _stage(second, rng, 1 / factor)
        last = [resize_step(1 / factor, rng), *([sinc_step(rng)] if rng.random() < 0.8 else [])]
        ending = [*last, compress] if rng.random() < 0.5 else [compress, *last]
        return Recipe((*steps, *steps_again, *ending), seed, name)

    return draw


def _stage(stage: Stage, rng: np.random.Generator, size: float) -> list[Step]:
    steps = [_kernel(stage, rng)] if rng.random() < stage.blur_prob else []
    direction = rng.choice(3, p=stage.resize_prob)
    scale = (rng.uniform(1, stage.resize_range[1]), rng.uniform(stage.resize_range[0], 1), 1.0)[direction]
    steps.append(resize_step(size * scale, rng))
    gray = bool(rng.random() < 0.4)
    if rng.random() < 0.5:
        steps.append(Step("gaussian_noise", {"sigma": rng.uniform(*stage.noise_range), "gray": gray}))
    else:
        steps.append(Step("poisson_noise", {"scale": rng.uniform(*stage.poisson_range), "gray": gray}))
    return [*steps, Step("diff_jpeg", {"quality": rng.uniform(*stage.jpeg_range)})]


def _kernel(stage: Stage, rng: np.random.Generator) -> Step:
    size = kernel_size(rng)
    if rng.random() < 0.1:
        low = math.pi / 3 if size < 13 else math.pi / 5
        return Step("sinc", {"size": size, "cutoff": rng.uniform(low, math.pi)})
    kind = rng.choice(6, p=KINDS)
    sigma_x = rng.uniform(*stage.blur_sigma)
    anisotropic = kind % 2 == 1
    sigma_y = rng.uniform(*stage.blur_sigma) if anisotropic else sigma_x
    angle = rng.uniform(-math.pi, math.pi) if anisotropic else 0.0
    if kind < 2:
        return gaussian(size, sigma_x, sigma_y, angle)
    low, high = stage.beta_generalised if kind < 4 else stage.beta_plateau
    beta = rng.uniform(low, 1) if rng.random() < 0.5 and low < 1 else rng.uniform(1, high)
    return gaussian(size, sigma_x, sigma_y, angle, beta=beta, plateau=bool(kind >= 4))
