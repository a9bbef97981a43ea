"""A degradation as data: ordered operators with their sampled parameters. JSON round-trips to the same bytes."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import cv2
import torch

from ..vocabulary import UserError
from . import aging, operators
from .jpeg import diff_jpeg
from .layers import LAYERS, laid_on

OPERATORS: dict[str, Callable[..., torch.Tensor]] = {
    "blur": operators.blur,
    "varying_blur": operators.varying_blur,
    "motion_blur": operators.motion_blur,
    "median_blur": operators.median_blur,
    "sinc": operators.sinc,
    "unsharp_mask": operators.unsharp_mask,
    "resize": operators.resize,
    "gaussian_noise": operators.gaussian_noise,
    "poisson_noise": operators.poisson_noise,
    "sensor_noise": operators.sensor_noise,
    "jpeg": operators.jpeg,
    "diff_jpeg": diff_jpeg,
    "dye_fading": aging.dye_fading,
    "uneven_fading": aging.uneven_fading,
    "monochrome": aging.monochrome,
    "vignette": aging.vignette,
    "film_grain": aging.film_grain,
    "paper_texture": aging.paper_texture,
    "halftone": aging.halftone,
    "moire": aging.moire,
    **{name: laid_on(draw) for name, draw in LAYERS.items()},
}
NOISY = {"gaussian_noise", "poisson_noise", "sensor_noise"}

LONGEST_TEXT, MOST_STEPS = 100_000, 100
# Least and most of every parameter that a published training could want, and far beyond. Larger kernels and pictures take minutes and
# gigabytes without showing anything else.
BOUNDS = {
    "size": (1, 255), "radius": (1, 127), "scale": (0, 16), "sigma": (0, 1000), "sigma_x": (0, 1000), "sigma_y": (0, 1000),
    "centre": (0, 1000), "corner": (0, 1000), "angle": (-1000, 1000), "beta": (0, 100), "cutoff": (0, 100), "weight": (-100, 100),
    "threshold": (0, 255), "red": (0.01, 100), "blue": (0.01, 100), "shot": (0, 10), "read": (0, 10), "quality": (1, 100),
    "count": (0, 2000), "branches": (0, 30), "corners": (0, 4), "length": (0, 3), "thickness": (0, 0.2), "margin": (0, 0.2),
    "rounding": (0, 0.5), "edge": (0, 0.2), "share": (0, 1), "spread": (0, 10), "bend": (0, 10), "breaks": (0, 1), "lost": (0, 1),
    "fibers": (0, 1), "shade": (0, 1), "halo": (0, 1), "rim": (0, 1), "tone": (0, 1), "warmth": (0, 1), "opacity": (0, 1),
    "strength": (0, 1), "reach": (0, 1), "weave": (0, 1), "clump": (0, 50), "inks": (1, 3), "period": (1, 1000),
    "cyan": (0, 2), "magenta": (0, 2), "yellow": (0, 2), "yellowing": (0, 1), "seed": (0, 2**63),
}  # fmt: skip
RESIZE = 1e-3, 4  # its scale, which for other operators is another thing
LARGEST = 64e6  # pixels of an enlarged picture


def resized_to(height: int, width: int, scale: float) -> tuple[int, int]:
    """The size to which the step ``resize`` brings a picture that came in at this size."""
    return max(1, int(height * scale)), max(1, int(width * scale))


@dataclass(frozen=True)
class Step:
    """One operator and its parameters, all of them JSON values."""

    operator: str
    parameters: dict[str, Any]


@dataclass(frozen=True)
class Recipe:
    """PR_DEGRADATION: the steps in order, and the seed of their noise.

    Two recipes are equal if they have the same effect. The scale of a resize is that of the whole picture, not of the step before it;
    the picture's size is restored at the end (bicubic).
    """

    steps: tuple[Step, ...]
    seed: int = 0
    name: str = "custom"

    def apply(self, image: torch.Tensor) -> torch.Tensor:
        """``[B, 3, H, W]`` in 0..1 to the same; every picture of the batch goes through the same operator.

        Raises UserError that names a step with invalid parameters.
        """
        generator = torch.Generator().manual_seed(self.seed)
        height, width = image.shape[-2:]
        out = image.float()
        for index, step in enumerate(self.steps):
            parameters = dict(step.parameters)
            try:
                if step.operator == "resize":
                    scale = parameters.pop("scale")
                    parameters["size"] = resized_to(height, width, scale)
                    if scale > 1 and math.prod(parameters["size"]) > LARGEST:
                        raise ValueError(f"a picture of {width} x {height} px becomes too large")
                if step.operator in NOISY:
                    parameters["generator"] = generator
                out = OPERATORS[step.operator](out, **parameters)
            except (TypeError, ValueError, KeyError, RuntimeError, NotImplementedError, cv2.error) as error:
                raise UserError(
                    f"degradation recipe: step {index} ({step.operator}) cannot be applied: {error}"
                ) from error
        return operators.resize(out, size=(height, width), mode="bicubic").clamp(0, 1)

    def summary(self) -> dict[str, float]:
        """Its total effect at the photograph's own scale, with the names of ``DegradationCode.scalars``.

        Blurs add in squares, after division by the scale at which they act; of several JPEGs the worst counts;
        sigma of a shot noise is taken at mid gray and 256 counts, where the camera's tone curve is about as steep as a line.
        """
        scale, downscale, blur, noise, quality = 1.0, 1.0, 0.0, 0.0, 100.0
        for step in self.steps:
            p = step.parameters
            match step.operator:
                case "resize":
                    scale = p["scale"]
                    downscale = max(downscale, 1 / scale)
                case "blur":
                    blur += p["sigma_x"] * p["sigma_y"] / scale**2
                case "varying_blur":  # the mean of r^2 over the frame is a third of that in the corners
                    blur += ((2 * p["centre"] + p["corner"]) / 3 / scale) ** 2
                case "motion_blur":  # a stroke of even weight, spread over both directions
                    blur += p["size"] ** 2 / 24 / scale**2
                case "gaussian_noise":
                    noise += p["sigma"] ** 2
                case "poisson_noise":
                    noise += (p["scale"] * 255) ** 2 * 0.5 / 256
                case "sensor_noise":
                    noise += 255**2 * (p["shot"] * 0.2 + p["read"])
                case "jpeg" | "diff_jpeg":
                    quality = min(quality, p["quality"])
        return {
            "blur_sigma": math.sqrt(blur),
            "noise_sigma": math.sqrt(noise),
            "jpeg_quality": float(quality),
            "downscale": downscale,
        }

    def to_json(self) -> str:
        steps = [{"operator": step.operator, **step.parameters} for step in self.steps]
        return json.dumps({"name": self.name, "seed": self.seed, "steps": steps})

    @classmethod
    def from_json(cls, text: str) -> Recipe:
        """Raises UserError that names the step when the text is not a recipe."""
        try:
            if len(text) > LONGEST_TEXT:
                raise ValueError(f"it has {len(text)} characters, and {LONGEST_TEXT} are the most")
            data = json.loads(text)
            raw = [dict(step) for step in data["steps"]]
            names = [str(step.pop("operator")) for step in raw]
            seed, name = int(data.get("seed", 0)), str(data.get("name", "custom"))
            if not 0 <= seed < 2**64:
                raise ValueError("its seed is not between 0 and 2 to the power of 64")
            if len(raw) > MOST_STEPS:
                raise ValueError(f"it has {len(raw)} steps, and {MOST_STEPS} are the most")
        except (ValueError, LookupError, TypeError, AttributeError, OverflowError, RecursionError) as error:
            raise UserError(
                f"degradation recipe: this is not a recipe ({str(error)[:200]}). Expected {{seed, steps: [{{operator, ...}}]}}."
            ) from error
        for index, operator in enumerate(names):
            if operator not in OPERATORS:
                raise UserError(
                    f"degradation recipe: step {index} names {operator[:200]!r}, which is unknown. Known operators: "
                    f"{', '.join(OPERATORS)}."
                )
            for parameter, value in raw[index].items():
                bounds = RESIZE if (operator, parameter) == ("resize", "scale") else BOUNDS.get(parameter)
                _check_bounds(f"degradation recipe: step {index} ({operator})", parameter, value, bounds)
        steps = tuple(Step(name, parameters) for name, parameters in zip(names, raw, strict=True))
        return cls(steps, seed, name)


def _check_bounds(where: str, name: str, value: Any, bounds: tuple[float, float] | None) -> None:
    """Raises UserError. A parameter without bounds is left to the operator."""
    if bounds is None:
        return
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if not number or not bounds[0] <= value <= bounds[1]:  # which no NaN is
        raise UserError(f"{where}: {name} has to be a number from {bounds[0]:g} to {bounds[1]:g}.")
