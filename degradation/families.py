"""Families of degradations: each draws a recipe from a seed."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from .recipe import Recipe, Step

Range = tuple[float, float]
MODES = ("area", "bilinear", "bicubic")


def first_order(
    name: str, blur: Range, ratio: float, resize_prob: float, downscale: float, noise: Range, quality: Range
) -> Callable[[int], Recipe]:
    """Blur (the narrow axis at least ``ratio`` of the wide one), sometimes a downscale of up to ``downscale``, noise three
    times out of four, JPEG."""

    def draw(seed: int) -> Recipe:
        rng = np.random.default_rng(seed)
        sigma = rng.uniform(*blur)
        steps = [_gaussian(21, sigma, sigma * rng.uniform(ratio, 1), rng.uniform(-math.pi, math.pi))]
        if rng.random() < resize_prob:
            steps.append(_resize(1 / rng.uniform(1, downscale), rng))
        if rng.random() < 0.75:
            steps.append(Step("gaussian_noise", {"sigma": rng.uniform(*noise), "gray": bool(rng.random() < 0.4)}))
        steps.append(_jpeg(quality, rng))
        return Recipe(tuple(steps), seed, name)

    return draw


def light(seed: int) -> Recipe:
    """Hardly any damage, so that a restorer learns to leave good photographs alone."""
    rng = np.random.default_rng(seed)
    steps = []
    if rng.random() < 0.5:
        sigma = rng.uniform(0.1, 0.6)
        steps.append(_gaussian(7, sigma, sigma, 0.0))
    if rng.random() < 0.5:
        steps.append(Step("gaussian_noise", {"sigma": rng.uniform(0, 3), "gray": bool(rng.random() < 0.4)}))
    if rng.random() < 0.5:
        steps.append(_jpeg((88, 100), rng))
    return Recipe(tuple(steps), seed, "light")


@dataclass(frozen=True)
class Stage:
    """Ranges of one stage of the second-order pipeline; sigmas in pixels, noise in levels of 255."""

    blur_prob: float
    blur_sigma: Range
    beta_generalised: Range
    beta_plateau: Range
    resize_prob: tuple[float, float, float]
    resize_range: Range
    noise_range: Range
    poisson_range: Range
    jpeg_range: Range


# Real-ESRGAN's params_realesrgan.yml and StableSR's (= S3Diff's) configuration.
REALESRGAN = (
    Stage(1.0, (0.2, 3), (0.5, 4), (1, 2), (0.2, 0.7, 0.1), (0.15, 1.5), (1, 30), (0.05, 3), (30, 95)),
    Stage(0.8, (0.2, 1.5), (0.5, 4), (1, 2), (0.3, 0.4, 0.3), (0.3, 1.2), (1, 25), (0.05, 2.5), (30, 95)),
)
S3DIFF = (
    Stage(1.0, (0.2, 1.5), (0.5, 2), (1, 1.5), (0.2, 0.7, 0.1), (0.3, 1.5), (1, 15), (0.05, 2), (60, 95)),
    Stage(0.5, (0.2, 1.0), (0.5, 2), (1, 1.5), (0.3, 0.4, 0.3), (0.6, 1.2), (1, 12), (0.05, 1), (60, 100)),
)


def second_order(stages: tuple[Stage, Stage], name: str) -> Callable[[int], Recipe]:
    """Real-ESRGAN's second-order pipeline (its section 3) with final sinc, at the photograph's own size (x1)."""

    def draw(seed: int) -> Recipe:
        rng = np.random.default_rng(seed)
        first, second = stages
        steps = _stage(first, rng, scale=1.0)
        scale = math.prod(step.parameters["scale"] for step in steps if step.operator == "resize")
        tail = _stage(second, rng, scale=scale)
        compress, tail = tail[-1], tail[:-1]
        final = (
            [Step("sinc", {"size": _odd(rng), "cutoff": rng.uniform(math.pi / 3, math.pi)})]
            if rng.random() < 0.8
            else []
        )
        ending = [*final, compress] if rng.random() < 0.5 else [compress, *final]
        return Recipe((*steps, *tail, *ending), seed, name)

    return draw


def _stage(stage: Stage, rng: np.random.Generator, scale: float) -> list[Step]:
    """Blur, resize (relative to the original size, hence ``scale``), noise, JPEG."""
    steps = [_random_kernel(stage, rng)] if rng.random() < stage.blur_prob else []
    direction = rng.choice(3, p=stage.resize_prob)
    wanted = (rng.uniform(1, stage.resize_range[1]), rng.uniform(stage.resize_range[0], 1), 1.0)[direction]
    if wanted != scale:
        steps.append(_resize(wanted / scale, rng))
    gray = bool(rng.random() < 0.4)
    if rng.random() < 0.5:
        steps.append(Step("gaussian_noise", {"sigma": rng.uniform(*stage.noise_range), "gray": gray}))
    else:
        steps.append(Step("poisson_noise", {"scale": rng.uniform(*stage.poisson_range), "gray": gray}))
    return [*steps, _jpeg(stage.jpeg_range, rng)]


def _random_kernel(stage: Stage, rng: np.random.Generator) -> Step:
    size = _odd(rng)
    if rng.random() < 0.1:
        low = math.pi / 3 if size < 13 else math.pi / 5
        return Step("sinc", {"size": size, "cutoff": rng.uniform(low, math.pi)})
    family = rng.choice(6, p=(0.45, 0.25, 0.12, 0.03, 0.12, 0.03))
    sigma_x = rng.uniform(*stage.blur_sigma)
    anisotropic = family % 2 == 1
    sigma_y = rng.uniform(*stage.blur_sigma) if anisotropic else sigma_x
    angle = rng.uniform(-math.pi, math.pi) if anisotropic else 0.0
    if family < 2:
        return _gaussian(size, sigma_x, sigma_y, angle)
    low, high = stage.beta_generalised if family < 4 else stage.beta_plateau
    beta = rng.uniform(low, 1) if rng.random() < 0.5 and low < 1 else rng.uniform(1, high)
    return _gaussian(size, sigma_x, sigma_y, angle, beta=beta, plateau=bool(family >= 4))


def _gaussian(size: int, sigma_x: float, sigma_y: float, angle: float, **extra) -> Step:
    return Step("blur", {"size": size, "sigma_x": sigma_x, "sigma_y": sigma_y, "angle": angle, **extra})


def _resize(scale: float, rng: np.random.Generator) -> Step:
    return Step("resize", {"scale": float(scale), "mode": str(rng.choice(MODES))})


def _jpeg(quality: Range, rng: np.random.Generator) -> Step:
    return Step("jpeg", {"quality": int(rng.integers(quality[0], quality[1] + 1))})


def _odd(rng: np.random.Generator) -> int:
    return int(rng.integers(3, 11)) * 2 + 1


FAMILIES: dict[str, Callable[[int], Recipe]] = {
    # Everyday damage: what the embedded weights are trained and judged on.
    "trial": first_order("trial", (0.2, 3.5), 0.5, 0.5, 4, (1, 30), (30, 95)),
    # What photographs from a phone or the web have.
    "mild": first_order("mild", (0.1, 1.2), 0.6, 0.25, 2, (0.5, 8), (55, 95)),
    "light": light,
    "realesrgan": second_order(REALESRGAN, "realesrgan"),
    "s3diff": second_order(S3DIFF, "s3diff"),
}
