"""Damage of old photographs: printed, touched, folded, left in the sun, and scanned.

The order is that of its history: the print and its colors, what happened to the print, the scan.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from .layers import LAYERS
from .recipe import Recipe, Step, resized_to
from .steps import gaussian, jpeg_step

NOMINAL = 768  # longer side in pixels of the picture that the family `old_photo` is drawn for


def local_damage(recipe_or_steps: Recipe | Sequence[Step], height: int, width: int) -> NDArray[np.float32]:
    """``[height, width]`` in 0..1: how far each pixel of a picture of that size is replaced by local damage.

    Scratches, hairs, folds, cracks, dust, finger prints, lost emulsion, torn parts, and of stains the rim and what hides the picture
    count. What changes the whole picture (fading, grain, halftone) does not, nor does a blur by the scan.
    """
    steps = recipe_or_steps.steps if isinstance(recipe_or_steps, Recipe) else recipe_or_steps
    remains = np.ones((height, width), np.float32)
    size = height, width
    for step in steps:
        if step.operator == "resize":
            size = resized_to(height, width, step.parameters["scale"])
        elif step.operator in LAYERS:
            opacity = LAYERS[step.operator](*size, **step.parameters).opacity
            if size != (height, width):
                opacity = np.asarray(cv2.resize(opacity, (width, height), interpolation=cv2.INTER_LINEAR), np.float32)
                opacity = opacity.reshape(height, width)
            remains *= 1 - np.clip(opacity, 0, 1)
    return 1 - remains


def old_photo(seed: int) -> Recipe:
    """A photograph of any size, damaged lightly or heavily."""
    rng = np.random.default_rng(seed)
    return Recipe(draw_old_photo(rng, float(rng.beta(1.2, 1.5)), NOMINAL, NOMINAL), seed, "old_photo")


def draw_old_photo(rng: np.random.Generator, heaviness: float, height: int, width: int) -> tuple[Step, ...]:
    """Steps for a picture of ``height`` x ``width`` pixels, from hardly any damage at ``heaviness`` 0 to a ruin at 1.

    The size decides how fine a mark can be and still be seen: at least about half a pixel.
    """
    pixel = 1 / max(height, width)
    warmth = float(rng.uniform(0, 1))
    return (
        *_print(rng, heaviness),
        *_touched(rng, heaviness, pixel, warmth),
        *_worn(rng, heaviness, pixel, warmth),
        *_scan(rng, heaviness),
    )


def _seed(rng: np.random.Generator) -> int:
    return int(rng.integers(2**31))


def _chance(rng: np.random.Generator, light: float, heavy: float, heaviness: float) -> bool:
    """True with a probability between ``light`` and ``heavy``."""
    return bool(rng.random() < light + (heavy - light) * heaviness)


def _between(rng: np.random.Generator, low: float, high: float) -> float:
    return float(rng.uniform(low, high))


def _spread(rng: np.random.Generator, low: float, high: float) -> float:
    """Between two positive numbers, every ratio alike."""
    return float(np.exp(rng.uniform(math.log(low), math.log(high))))


def _print(rng: np.random.Generator, heaviness: float) -> list[Step]:
    """What the print looked like when it was made, and what light and time made of its colors."""
    steps = []
    tone = rng.choice(3, p=(0.35, 0.25, 0.4))
    if tone == 0:
        left = np.clip(1 - rng.uniform(0, 0.65 * (0.3 + 0.7 * heaviness), 3) * rng.choice((0.4, 1), 3), 0.1, 1)
        names = zip(("cyan", "magenta", "yellow"), left.tolist(), strict=True)
        steps.append(Step("dye_fading", {**dict(names), "yellowing": _between(rng, 0, 1)}))
    else:
        warmth = 0.0 if tone == 1 else _between(rng, 0.15, 1)
        steps.append(Step("monochrome", {"strength": 1.0, "warmth": warmth}))
    if rng.random() < 0.25:
        steps.append(Step("vignette", {"strength": _between(rng, 0.1, 0.7), "reach": _between(rng, 0.2, 0.8)}))
    if _chance(rng, 0.2, 0.6, heaviness):
        strength = _between(rng, 0.1, 0.25 + 0.4 * heaviness)
        shade = {"tone": _between(rng, 0.6, 0.95), "warmth": _between(rng, 0, 1)}
        steps.append(Step("uneven_fading", {"seed": _seed(rng), "strength": strength, **shade}))
    if _chance(rng, 0.4, 0.8, heaviness):
        grain = {"sigma": _between(rng, 1, 4 + 7 * heaviness), "clump": _between(rng, 0.6, 2.5)}
        steps.append(Step("film_grain", {"seed": _seed(rng), **grain}))
    if rng.random() < 0.06:
        screen = {"period": _between(rng, 2.5, 6), "angle": _between(rng, 0, math.pi / 2)}
        inks = 3 if tone == 0 else 1
        steps.append(Step("halftone", {**screen, "inks": inks, "strength": _between(rng, 0.2, 0.8)}))
    elif rng.random() < 0.2:
        relief = {"period": _between(rng, 2, 6), "weave": float(rng.choice((0, 0, 0.6, 1)))}
        steps.append(Step("paper_texture", {"seed": _seed(rng), "strength": _between(rng, 0.1, 0.7), **relief}))
    return steps


def _touched(rng: np.random.Generator, heaviness: float, pixel: float, warmth: float) -> list[Step]:
    """Scratches, hairs, dust, folds and finger prints."""
    steps = []
    if _chance(rng, 0.35, 0.9, heaviness):
        for _ in range(int(rng.integers(1, 2 + round(2 * heaviness)))):
            steps.append(Step("scratches", _scratches(rng, heaviness, pixel, warmth)))
    if _chance(rng, 0.1, 0.35, heaviness):
        hair = {"count": int(rng.integers(1, 2 + round(8 * heaviness))), "length": _spread(rng, 0.05, 0.4)}
        shape = {"angle": 0.0, "spread": 3.0, "bend": _between(rng, 0.8, 2.5), "breaks": 0.0, "halo": 0.0}
        thickness = max(_spread(rng, 0.001, 0.003), 0.9 * pixel)
        light = {"tone": _tone(rng, 0.5), "opacity": _between(rng, 0.45, 1), "warmth": warmth}
        steps.append(Step("scratches", {"seed": _seed(rng), "thickness": thickness, **hair, **shape, **light}))
    if _chance(rng, 0.4, 0.9, heaviness):
        for _ in range(int(rng.integers(1, 3))):
            specks = {"count": round(_spread(rng, 4, 20 + 380 * heaviness)), "fibers": _between(rng, 0, 0.3)}
            thickness = max(_spread(rng, 0.0016, 0.006), 1.2 * pixel)
            light = {"tone": _tone(rng, 0.72), "opacity": _between(rng, 0.5, 1), "warmth": warmth}
            steps.append(Step("dust", {"seed": _seed(rng), "thickness": thickness, **specks, **light}))
    if _chance(rng, 0.05, 0.7, heaviness):
        crease = {"count": int(rng.integers(1, 2 + round(4 * heaviness))), "lost": _between(rng, 0.1, 1)}
        thickness = max(_spread(rng, 0.0015, 0.004 + 0.01 * heaviness), 1.1 * pixel)
        crack = {"branches": int(rng.integers(0, 2 + round(5 * heaviness))), "shade": _between(rng, 0, 0.3)}
        light = {"tone": _between(rng, 0.8, 1), "opacity": _between(rng, 0.8, 1), "warmth": warmth}
        steps.append(Step("folds", {"seed": _seed(rng), "thickness": thickness, **crease, **crack, **light}))
    if _chance(rng, 0.01, 0.08, heaviness):
        print_ = {"count": int(rng.integers(1, 3)), "length": _between(rng, 0.1, 0.35), "period": _between(rng, 3, 8)}
        light = {"tone": _tone(rng, 0.6), "opacity": _between(rng, 0.1, 0.35)}
        steps.append(Step("fingerprints", {"seed": _seed(rng), **print_, **light}))
    return steps


def _scratches(rng: np.random.Generator, heaviness: float, pixel: float, warmth: float) -> dict[str, float]:
    """Those of a film run along it, upright in the scan; those of a print in any direction."""
    film = rng.random() < 0.25
    return {
        "seed": _seed(rng),
        "count": round(_spread(rng, 1, 4 + 40 * heaviness)),
        "length": _between(rng, 0.4, 1.3) if film else _spread(rng, 0.03, 0.5),
        "thickness": max(_spread(rng, 0.0008, 0.004), 0.7 * pixel),
        "angle": math.pi / 2 if film else _between(rng, 0, math.pi),
        "spread": 0.02 if film else _spread(rng, 0.05, 2),
        "bend": _between(rng, 0, 0.03) if film else _between(rng, 0, 0.6),
        "breaks": _between(rng, 0, 0.7),
        "tone": _tone(rng, 0.75),
        "opacity": _between(rng, 0.35, 1),
        "halo": float(rng.choice((0, rng.uniform(0, 1)))),
        "warmth": warmth,
    }


def _tone(rng: np.random.Generator, bright: float) -> float:
    """Light with probability ``bright``, dark otherwise."""
    return _between(rng, 0.75, 1) if rng.random() < bright else _between(rng, 0, 0.25)


def _worn(rng: np.random.Generator, heaviness: float, pixel: float, warmth: float) -> list[Step]:
    """Stains, lost emulsion, torn edges."""
    steps = []
    if _chance(rng, 0.05, 0.4, heaviness):
        drop = {"count": int(rng.integers(1, 5)), "length": _spread(rng, 0.08, 0.9), "opacity": _between(rng, 0.1, 0.8)}
        steps.append(Step("stains", {"seed": _seed(rng), **drop, "rim": _between(rng, 0, 0.8), "warmth": warmth}))
    if _chance(rng, 0.02, 0.15, heaviness):  # foxing: small brown spots of mold
        spots = {"count": round(_spread(rng, 5, 10 + 60 * heaviness)), "length": _spread(rng, 0.008, 0.03)}
        hidden = {"opacity": _between(rng, 0.4, 1), "rim": _between(rng, 0.1, 0.5), "warmth": _between(rng, 0.5, 1)}
        steps.append(Step("stains", {"seed": _seed(rng), **spots, **hidden}))
    if _chance(rng, 0.02, 0.35, heaviness):
        lost = {
            "share": _spread(rng, 0.0005, 0.003 + 0.03 * heaviness),
            "length": max(_spread(rng, 0.01, 0.06), 3 * pixel),
        }
        light = {"tone": _tone(rng, 0.9), "opacity": _between(rng, 0.7, 1), "warmth": warmth}
        steps.append(Step("flaking", {"seed": _seed(rng), **lost, **light}))
    if _chance(rng, 0.05, 0.45, heaviness):
        corner = {"corners": int(rng.choice(4, p=(0.5, 0.3, 0.15, 0.05))), "length": _between(rng, 0.05, 0.3)}
        edges = {"margin": _spread(rng, 0.002, 0.015), "rounding": _spread(rng, 0.005, 0.12)}
        light = {"edge": _spread(rng, 0.002, 0.012), "tone": float(rng.choice((0.05, 0.1, 0.97))), "warmth": warmth}
        steps.append(Step("torn", {"seed": _seed(rng), **corner, **edges, **light}))
    return steps


def _scan(rng: np.random.Generator, heaviness: float) -> list[Step]:
    """The scanner's blur and sharpening, the beat of its rows, a file."""
    steps = []
    if rng.random() < 0.8:
        sigma = _between(rng, 0.3, 0.6 + 0.4 * heaviness)
        steps.append(gaussian(7, sigma, sigma, 0.0))
    if rng.random() < 0.35:
        steps.append(Step("unsharp_mask", {"weight": _between(rng, 0.3, 1.0), "radius": 3, "threshold": 0}))
    if rng.random() < 0.04:
        waves = {"period": _between(rng, 4, 24), "angle": _between(rng, 0, math.pi)}
        steps.append(Step("moire", {"seed": _seed(rng), **waves, "strength": _between(rng, 0.1, 0.5)}))
    if rng.random() < 0.5:
        steps.append(Step("gaussian_noise", {"sigma": _between(rng, 0.5, 3), "gray": bool(rng.random() < 0.4)}))
    if rng.random() < 0.8:
        steps.append(jpeg_step((60, 98), rng))
    return steps
