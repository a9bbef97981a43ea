"""Families of degradations by name: each draws a recipe from a seed."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from .old_photo import old_photo
from .pfstorer import pfstorer_heavy, pfstorer_light
from .presets import PRESETS
from .recipe import Recipe, Step
from .second_order import REALESRGAN, S3DIFF, second_order
from .steps import Range, camera_step, gaussian, jpeg_step, resize_step


def first_order(
    name: str, blur: Range, ratio: float, resize_prob: float, downscale: float, noise: Range, quality: Range
) -> Callable[[int], Recipe]:
    """Blur (the narrow axis at least ``ratio`` of the wide one), sometimes a downscale of up to ``downscale``, noise three
    times out of four, JPEG."""

    def draw(seed: int) -> Recipe:
        rng = np.random.default_rng(seed)
        sigma = rng.uniform(*blur)
        steps = [gaussian(21, sigma, sigma * rng.uniform(ratio, 1), rng.uniform(-math.pi, math.pi))]
        if rng.random() < resize_prob:
            steps.append(resize_step(1 / rng.uniform(1, downscale), rng))
        if rng.random() < 0.75:
            steps.append(Step("gaussian_noise", {"sigma": rng.uniform(*noise), "gray": bool(rng.random() < 0.4)}))
        steps.append(jpeg_step(quality, rng))
        return Recipe(tuple(steps), seed, name)

    return draw


def face(
    name: str,
    blur: Range,
    downscale: Range,
    noise: Range,
    quality: Range,
    mode: str = "bilinear",
    isotropic: float = 0.5,
) -> Callable[[int], Recipe]:
    """y = [((x * k) down by r, + n) JPEG] up, every step always, as blind face restorers are trained: a kernel of 41 pixels,
    isotropic half of the time, enlarged again by the recipe."""

    def draw(seed: int) -> Recipe:
        rng = np.random.default_rng(seed)
        sigma = rng.uniform(*blur)
        if rng.random() < isotropic:
            kernel = gaussian(41, sigma, sigma, 0.0)
        else:
            kernel = gaussian(41, sigma, rng.uniform(*blur), rng.uniform(-math.pi, math.pi))
        small = Step("resize", {"scale": 1 / rng.uniform(*downscale), "mode": mode})
        noisy = Step("gaussian_noise", {"sigma": rng.uniform(*noise), "gray": False})
        return Recipe((kernel, small, noisy, jpeg_step(quality, rng)), seed, name)

    return draw


def light(seed: int) -> Recipe:
    """Hardly any damage, so that a restorer learns not to change good photographs."""
    rng = np.random.default_rng(seed)
    steps = []
    if rng.random() < 0.5:
        sigma = rng.uniform(0.1, 0.6)
        steps.append(gaussian(7, sigma, sigma, 0.0))
    if rng.random() < 0.5:
        steps.append(Step("gaussian_noise", {"sigma": rng.uniform(0, 3), "gray": bool(rng.random() < 0.4)}))
    if rng.random() < 0.5:
        steps.append(jpeg_step((88, 100), rng))
    return Recipe(tuple(steps), seed, "light")


def uncompressed(seed: int) -> Recipe:
    """What a camera, a film or a scanner gives as long as nothing saves it as JPEG: often sharp, sometimes reduced, and noisy:
    white, or as counting light or a camera's chip makes it."""
    rng = np.random.default_rng(seed)
    steps = []
    if rng.random() < 0.3:
        sigma = rng.uniform(0.2, 2.5)
        steps.append(gaussian(21, sigma, sigma * rng.uniform(0.5, 1), rng.uniform(-math.pi, math.pi)))
    if rng.random() < 0.2:
        steps.append(resize_step(1 / rng.uniform(1, 3), rng))
    gray = bool(rng.random() < 0.3)
    white = Step("gaussian_noise", {"sigma": rng.uniform(1, 50), "gray": gray})
    shot = Step("poisson_noise", {"scale": rng.uniform(0.3, 3), "gray": gray})
    steps.append((white, shot, camera_step(rng))[rng.choice(3, p=(0.7, 0.15, 0.15))])
    return Recipe(tuple(steps), seed, "uncompressed")


FAMILIES: dict[str, Callable[[int], Recipe]] = {
    # Everyday damage: the embedded weights are trained and evaluated on it.
    "trial": first_order("trial", (0.2, 3.5), 0.5, 0.5, 4, (1, 30), (30, 95)),
    # Typical damage of photographs from a phone or the web.
    "mild": first_order("mild", (0.1, 1.2), 0.6, 0.25, 2, (0.5, 8), (55, 95)),
    "light": light,
    "clean": lambda seed: Recipe((), seed, "clean"),
    "uncompressed": uncompressed,
    "realesrgan": second_order(REALESRGAN, "realesrgan"),
    "realesrgan_x4": second_order(REALESRGAN, "realesrgan_x4", 4),
    "s3diff": second_order(S3DIFF, "s3diff"),
    "s3diff_x2": second_order(S3DIFF, "s3diff_x2", 2),
    "s3diff_x4": second_order(S3DIFF, "s3diff_x4", 4),
    "s3diff_varying": second_order(S3DIFF, "s3diff_varying", varying=True),
    "pfstorer_light": pfstorer_light,
    "pfstorer_heavy": pfstorer_heavy,
    "codeformer": face("codeformer", (1, 15), (4, 30), (0, 20), (30, 80)),
    "diffbir": face("diffbir", (0.1, 12), (1, 12), (0, 15), (30, 100)),
    "dual_pivot": face("dual_pivot", (0.1, 10), (0.8, 8), (0, 20), (60, 100)),
    "faceme": face("faceme", (0.2, 10), (1, 16), (0, 15), (30, 100)),
    "old_photo": old_photo,
    **PRESETS,
}
