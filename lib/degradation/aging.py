"""What time, printing and scanning do to a whole photograph. Each takes ``[B, 3, H, W]`` in 0..1 and gives the same, clamped.

These change every pixel and so count as no local damage. Strengths are 0 for nothing and 1 for all of it; ``period`` and ``clump``
are pixels of the picture at hand, as in a scan of some resolution; ``seed`` determines where what varies lies.
"""

from __future__ import annotations

import math

import cv2
import numpy as np
import torch

from .drawing import rough_noise, smooth_noise

LUMA = torch.tensor([0.299, 0.587, 0.114]).view(3, 1, 1)
DARKEST = 0.004  # of a print: its densest black, so that the logarithm is finite


def dye_fading(image: torch.Tensor, *, cyan: float, magenta: float, yellow: float, yellowing: float) -> torch.Tensor:
    """What light does to a color print: of each dye the share ``cyan``, ``magenta``, ``yellow`` is left, and the paper has yellowed.

    Densities of the three layers, -log10 of the red, green and blue light, are scaled; the yellowed paper's is added.
    """
    left = image.new_tensor([cyan, magenta, yellow]).view(3, 1, 1)
    base = image.new_tensor([0.02, 0.06, 0.22]).view(3, 1, 1) * yellowing
    density = -torch.log10(image.clamp(DARKEST, 1))
    return torch.pow(10, -(density * left + base)).clamp(0, 1)


def uneven_fading(image: torch.Tensor, *, seed: int, strength: float, tone: float, warmth: float) -> torch.Tensor:
    """Light bleached some regions and an edge: their contrast is lost towards a light ``tone``."""
    height, width = image.shape[-2:]
    rng = np.random.default_rng(seed)
    longer = max(height, width)
    angle = rng.uniform(0, 2 * math.pi)
    y, x = np.mgrid[:height, :width].astype(np.float32) / longer - 0.5
    ramp = np.clip(1.5 * (math.cos(angle) * x + math.sin(angle) * y) + rng.uniform(-0.3, 0.3), 0, 1)
    place = np.clip(0.8 * ramp + 0.45 * rough_noise(rng, height, width, longer / 2.5), 0, 1) * strength
    field = torch.from_numpy(place.astype(np.float32)).to(image)
    level = image.new_tensor([tone, tone * (1 - 0.06 * warmth), tone * (1 - 0.2 * warmth)]).view(3, 1, 1)
    return (image * (1 - field) + level * field).clamp(0, 1)


def monochrome(image: torch.Tensor, *, strength: float, warmth: float) -> torch.Tensor:
    """Gray for ``warmth`` 0, sepia for 1: the light's own shade, brown in the mid tones."""
    light = (image.clamp(0, 1) * LUMA.to(image)).sum(1, keepdim=True)
    powers = image.new_tensor([1 - 0.28 * warmth, 1 + 0.02 * warmth, 1 + 0.55 * warmth]).view(3, 1, 1)
    paper = image.new_tensor([1.0, 1 - 0.04 * warmth, 1 - 0.15 * warmth]).view(3, 1, 1)
    toned = light.clamp(min=1e-6) ** powers * paper
    return (image + strength * (toned - image)).clamp(0, 1)


def vignette(image: torch.Tensor, *, strength: float, reach: float) -> torch.Tensor:
    """Darkens by ``strength`` in the corners, from the share ``reach`` of the way there."""
    height, width = image.shape[-2:]
    y, x = torch.linspace(-1, 1, height), torch.linspace(-1, 1, width)
    distance = torch.hypot(y[:, None].expand(height, width), x[None].expand(height, width)) / math.sqrt(2)
    falloff = ((distance - reach) / max(1 - reach, 0.05)).clamp(0, 1) ** 2
    return (image * (1 - strength * falloff.to(image))).clamp(0, 1)


def film_grain(image: torch.Tensor, *, seed: int, sigma: float, clump: float) -> torch.Tensor:
    """Clumps of silver ``clump`` pixels across: gray noise of ``sigma`` levels of 255 in the mid tones, less in black and white."""
    height, width = image.shape[-2:]
    rng = np.random.default_rng(seed)
    grain = rng.standard_normal((height, width), np.float32)
    if clump > 0.3:
        grain = np.asarray(cv2.GaussianBlur(grain, (0, 0), clump / 2), np.float32).reshape(height, width)
        grain /= max(float(grain.std()), 1e-3)
    light = (image.clamp(0, 1) * LUMA.to(image)).sum(1, keepdim=True)
    weight = 0.25 + 1.5 * (light * (1 - light)).clamp(min=0).sqrt()
    return (image + sigma / 255 * weight * torch.from_numpy(grain).to(image)).clamp(0, 1)


def paper_texture(image: torch.Tensor, *, seed: int, strength: float, period: float, weave: float) -> torch.Tensor:
    """The relief of the paper, lit from the side: bumps ``period`` pixels apart, in regular rows (silk, linen) by the share ``weave``."""
    height, width = image.shape[-2:]
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:height, :width].astype(np.float32) * np.float32(2 * math.pi / max(period, 2.0))
    rows = np.cos(x + 0.5 * y) * np.cos(y - 0.2 * x + rng.uniform(0, 6))
    relief = weave * rows + (1 - weave) * smooth_noise(rng, height, width, period)
    shade = 1 + 0.3 * strength * torch.from_numpy(relief.astype(np.float32)).to(image)
    return (image * shade).clamp(0, 1)


def halftone(image: torch.Tensor, *, period: float, angle: float, inks: int, strength: float) -> torch.Tensor:
    """Printed dots ``period`` pixels apart, on a screen turned by ``angle``, with three ``inks`` by 30 degrees more for
    each further one."""
    height, width = image.shape[-2:]
    frequency = 2 * math.pi / max(period, 1.5)
    y, x = torch.arange(height, dtype=torch.float32)[:, None], torch.arange(width, dtype=torch.float32)[None]
    screens = []
    for ink in range(3):
        turn = angle + (ink * math.pi / 6 if inks == 3 else 0)
        along = torch.cos(frequency * (x * math.cos(turn) + y * math.sin(turn)))
        across = torch.cos(frequency * (y * math.cos(turn) - x * math.sin(turn)))
        screens.append(0.5 - 0.25 * (along + across))
    dots = torch.sigmoid((image - torch.stack(screens).to(image)) * 2.5 * max(period, 1.5))
    return (image + strength * (dots - image)).clamp(0, 1)


def moire(image: torch.Tensor, *, seed: int, period: float, angle: float, strength: float) -> torch.Tensor:
    """The beat of a print's screen with the scanner's rows: waves ``period`` pixels apart, a little bent, in slightly other places
    for every color."""
    height, width = image.shape[-2:]
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:height, :width].astype(np.float32)
    bent = 0.8 * smooth_noise(rng, height, width, max(height, width) / 2)
    phase = (x * math.cos(angle) + y * math.sin(angle)) * (2 * math.pi / max(period, 2.0)) + 2 * bent
    waves = np.stack([np.cos(phase + shift) for shift in (0.0, 0.5, 1.0)])
    return (image * (1 + 0.25 * strength * torch.from_numpy(waves.astype(np.float32)).to(image))).clamp(0, 1)
