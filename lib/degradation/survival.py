"""What is lost: from the numbers of a degradation code to the share of every frequency that survived the damage.

The share is Wiener's: signal power over signal and noise power, after the blur. The signal's power is that of the person's own album,
so that "a face has little there anyway" and "the damage took it" are told apart.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import lru_cache

import torch
from torch import Tensor

# Where no code says more: hardly any damage, so that a photograph nobody has looked at keeps what it shows.
GUESS = {"blur_sigma": 0.8, "noise_sigma": 4.0, "jpeg_quality": 85.0, "downscale": 1.0}
# JPEG's luminance table (Annex K) by spatial frequency: its mean step in levels of 255 grows about as this line, in
# cycles per pixel of the photograph.
JPEG_STEP, JPEG_SLOPE = 8.0, 120.0


def frequencies(size: int, pixel: float) -> tuple[Tensor, Tensor]:
    """Cycles per pixel of the photograph, horizontal and vertical ``[S, S // 2 + 1]``, of a crop's real Fourier transform.

    pixel: crop pixels per pixel of the photograph.
    """
    fy, fx = torch.fft.fftfreq(size)[:, None] * pixel, torch.fft.rfftfreq(size)[None] * pixel
    return fx.expand(size, -1), fy.expand(-1, size // 2 + 1)


def transfer(scalars: Mapping[str, float], fx: Tensor, fy: Tensor) -> Tensor:
    """Which share of the amplitude at each frequency passed blur and reduction, 0..1.

    A code may name ``blur_x``, ``blur_y`` and ``blur_angle`` (radians) instead of ``blur_sigma`` alone.
    """
    sigma_x, sigma_y = (scalars.get(name, scalars["blur_sigma"]) for name in ("blur_x", "blur_y"))
    angle = torch.tensor(scalars.get("blur_angle", 0.0))
    along, across = fx * angle.cos() + fy * angle.sin(), fy * angle.cos() - fx * angle.sin()
    passed = torch.exp(-2 * torch.pi**2 * ((sigma_x * along) ** 2 + (sigma_y * across) ** 2))
    # Area averaging, the mildest of the ways in which pictures are reduced, and nothing beyond what the small one can hold.
    factor = max(scalars["downscale"], 1.0)
    held = (2 * (1.5 - factor * torch.hypot(fx, fy) / 0.5)).clamp(0, 1) if factor > 1.05 else 1.0
    return passed * (torch.sinc(factor * fx) * torch.sinc(factor * fy)).abs() * held


def disturbance(scalars: Mapping[str, float], fx: Tensor, fy: Tensor) -> Tensor:
    """Power of noise and of JPEG's rounding at each frequency, per pixel of the photograph, in squares of 0..1.

    Both came when the picture was small: enlarged with it, the same power lies on fewer frequencies.
    """
    factor = max(scalars["downscale"], 1.0)
    noise = (scalars["noise_sigma"] / 255) ** 2
    quality = min(max(scalars["jpeg_quality"], 1.0), 100.0)
    coarser = 50 / quality if quality < 50 else 2 - quality / 50
    step = coarser * (JPEG_STEP + JPEG_SLOPE * factor * torch.hypot(fx, fy)) / 255
    return (noise + step**2 / 12) * factor**2


def power(pictures: Tensor) -> Tensor:
    """Mean power per pixel of lumas ``[N, S, S]`` at frequencies of 0, 1, 2 ... cycles per crop, the same in all directions.

    A Hann window keeps the crop's border out.
    """
    size = pictures.shape[-1]
    window = torch.hann_window(size, periodic=False)
    window = window[:, None] * window[None]
    flat = (pictures - (pictures * window).sum((-2, -1), keepdim=True) / window.sum()) * window
    found = torch.fft.rfft2(flat).abs().square().mean(0) / window.square().sum()
    # Taking the mean away empties the lowest frequencies; faces have most there.
    return radial(found).flip(0).cummax(0).values.flip(0)


def radial(plane: Tensor) -> Tensor:
    """The mean of ``[S, S // 2 + 1]`` at each distance of 0 to ``S // 2`` from frequency 0."""
    inside, ring, count = _rings(plane.shape[0])
    return torch.zeros(len(count)).index_add_(0, ring, plane[inside]) / count


@lru_cache(maxsize=4)
def _rings(size: int) -> tuple[Tensor, Tensor, Tensor]:
    """Of a plane as in `radial`: which frequencies count, the ring of each that does, and how many every ring has."""
    with torch.inference_mode(False):  # they are used again where gradients are needed
        ring = torch.hypot(*frequencies(size, size)).round().long()
        inside = ring <= size // 2
        return inside, ring[inside], torch.bincount(ring[inside], minlength=size // 2 + 1).clamp(min=1).float()


def survival(scalars: Mapping[str, float] | None, profile: Tensor, size: int, pixel: float) -> Tensor:
    """``[size, size // 2 + 1]`` in 0..1: the share of each frequency of a crop that the photograph still shows.

    scalars: of ``DegradationCode``, in pixels of the photograph; None takes a conservative guess. profile: see ``power``, of
    undamaged faces in crops of the same scale; size: of the Fourier transform, the crop's or larger; pixel: crop pixels per
    pixel of the photograph.
    """
    scalars = GUESS if scalars is None else scalars
    fx, fy = frequencies(size, pixel)
    at = torch.hypot(fx, fy) / pixel * 2 * (len(profile) - 1)
    low = at.long().clamp(max=len(profile) - 2)
    face_power = torch.lerp(profile[low], profile[low + 1], (at - low).clamp(0, 1))
    signal = transfer(scalars, fx, fy).square() * face_power
    # Noise of the photograph's pixels is spread over the crop's by the enlargement: the same power over fewer frequencies.
    noise = disturbance(scalars, fx, fy) * pixel**2
    beyond = (torch.maximum(fx.abs(), fy.abs()) > 0.5).float()
    return (1 - beyond) * signal / (signal + noise + 1e-12)


def cutoff(survives: Tensor) -> float:
    """The blur, standard deviation in pixels of the crop, that lets half of a frequency pass where ``survives`` does."""
    size = survives.shape[0]
    below = torch.nonzero(radial(survives)[1:] < 0.5)
    edge = (float(below[0]) + 1) / size if len(below) else 0.5
    return math.sqrt(math.log(2)) / (math.sqrt(2) * math.pi * edge)


def band_survival(survives: Tensor, levels: int) -> Tensor:
    """``[levels]`` in 0..1: the mean share in each octave, finest (a quarter to half a cycle per pixel) first."""
    size = survives.shape[0]
    profile = radial(survives)
    edges = [size // 2 >> level for level in range(levels + 1)]
    return torch.stack([profile[low:high].mean() for high, low in zip(edges, edges[1:], strict=False)])


def mirror_filtered(picture: Tensor, share: Tensor) -> Tensor:
    """``[C, H, W]`` with every frequency of its mirrored self, whose borders do not meet, multiplied by ``share`` ``[2 H, W + 1]``."""
    height, width = picture.shape[-2:]
    mirrored = torch.cat([picture, picture.flip(-1)], -1)
    mirrored = torch.cat([mirrored, mirrored.flip(-2)], -2)
    return torch.fft.irfft2(torch.fft.rfft2(mirrored) * share, s=mirrored.shape[-2:])[..., :height, :width]
