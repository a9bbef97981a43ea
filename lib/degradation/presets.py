"""The four fixed degradations of Face2Scene's invariance experiment (supplement 7.4, which describes them in words only)."""

from __future__ import annotations

from collections.abc import Callable

from .recipe import Recipe, Step
from .steps import gaussian


def _resize(scale: float, mode: str = "bicubic") -> Step:
    return Step("resize", {"scale": scale, "mode": mode})


def _noise(sigma: float, gray: bool = False) -> Step:
    return Step("gaussian_noise", {"sigma": sigma, "gray": gray})


def _poisson(scale: float, gray: bool = False) -> Step:
    return Step("poisson_noise", {"scale": scale, "gray": gray})


def _jpeg(quality: float) -> Step:
    return Step("diff_jpeg", {"quality": quality})


def _sinc(size: int, cutoff: float) -> Step:
    return Step("sinc", {"size": size, "cutoff": cutoff})


def _plateau(sigma_x: float, sigma_y: float, angle: float) -> Step:
    return gaussian(15, sigma_x, sigma_y, angle, beta=1.5, plateau=True)


STEPS: dict[str, list[Step]] = {
    # Strong downscale, strong blur, little compression.
    "d1": [
        *[gaussian(21, 2.8, 2.8, 0.0), _resize(0.25, "area"), _noise(6, gray=True), _poisson(0.5), _jpeg(90)],
        *[gaussian(13, 1.2, 1.2, 0.0), _resize(0.25), _jpeg(95), _sinc(13, 2.0)],
    ],
    # Strong upscale and compression, then downscale, strong shot noise, anisotropic blur.
    "d2": [
        *[_resize(1.5), _poisson(2.0), gaussian(15, 2.0, 0.9, 0.6), _jpeg(35)],
        *[_resize(0.6, "bilinear"), _poisson(1.5), gaussian(11, 1.0, 0.5, -0.9), _jpeg(45)],
    ],
    # Almost clean: two gentle sinc filters and hardly any noise.
    "d3": [
        *[_sinc(21, 3.1), _poisson(0.05), _jpeg(100)],
        *[_noise(0.5), _sinc(21, 3.1), _jpeg(100)],
    ],
    # Moderate downscale, light noise, plateau blur and strong compression twice, enlarged in between.
    "d4": [
        *[_resize(0.5, "bilinear"), _noise(4), _poisson(0.3), _plateau(1.2, 0.6, 0.4), _jpeg(20)],
        *[_resize(0.8), _plateau(0.9, 0.5, -0.7), _jpeg(25), _sinc(9, 2.4)],
    ],
}


def _fixed(name: str) -> Callable[[int], Recipe]:
    """The same whatever the seed, its noise included."""
    return lambda seed: Recipe(tuple(STEPS[name]), 0, name)


PRESETS = {name: _fixed(name) for name in STEPS}
