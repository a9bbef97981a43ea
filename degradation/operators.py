"""The elementary degradations. Each takes ``[B, 3, H, W]`` in 0..1 and gives the same range, not clamped unless said.

Parameters are plain numbers, so that a recipe can be written as JSON. Noise draws from a ``torch.Generator`` on the CPU.
Units: sigmas of blur in pixels of the picture at hand, sigmas of noise in levels of 255.
"""

from __future__ import annotations

import math

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from torchvision.io import decode_jpeg, encode_jpeg


def _grid(size: int) -> torch.Tensor:
    """``[size, size, 2]`` of (x, y) offsets from the kernel's centre."""
    axis = torch.arange(size, dtype=torch.float32) - (size - 1) / 2
    return torch.stack(torch.meshgrid(axis, axis, indexing="xy"), -1)


def gaussian_kernel(
    size: int, sigma_x: float, sigma_y: float, angle: float = 0.0, beta: float = 1.0, plateau: bool = False
) -> torch.Tensor:
    """Isotropic, anisotropic, generalised or plateau Gaussian, ``[size, size]``, sum 1 (Real-ESRGAN's six families).

    beta is the exponent of the generalised family, 1 the ordinary Gaussian; angle in radians.
    """
    cos, sin = math.cos(angle), math.sin(angle)
    rotation = torch.tensor([[cos, -sin], [sin, cos]])
    covariance = rotation @ torch.diag(torch.tensor([sigma_x**2, sigma_y**2], dtype=torch.float32)) @ rotation.T
    grid = _grid(size)
    distance = ((grid @ torch.linalg.inv(covariance)) * grid).sum(-1)
    kernel = 1 / (distance**beta + 1) if plateau else torch.exp(-0.5 * distance**beta)
    return kernel / kernel.sum()


def sinc_kernel(size: int, cutoff: float) -> torch.Tensor:
    """Circular low-pass ``[size, size]``, sum 1; cutoff in radians per pixel, at most pi. Rings like a resampling filter."""
    radius = _grid(size).norm(dim=-1)
    kernel = cutoff * torch.special.bessel_j1(cutoff * radius) / (2 * math.pi * radius)
    kernel[radius == 0] = cutoff**2 / (4 * math.pi)
    return kernel / kernel.sum()


def filter2d(image: torch.Tensor, kernel: torch.Tensor) -> torch.Tensor:
    """Correlates every channel with one kernel ``[k, k]`` (k odd); borders are reflected. On the CPU, by OpenCV,
    which turns to Fourier transforms for large kernels: eight times faster than a convolution layer here."""
    taps = kernel.numpy()
    pictures = image.permute(0, 2, 3, 1).cpu().numpy()
    done = [cv2.filter2D(np.ascontiguousarray(one), -1, taps, borderType=cv2.BORDER_REFLECT_101) for one in pictures]
    return torch.from_numpy(np.stack(done)).permute(0, 3, 1, 2).contiguous().to(image.device)


def blur(
    image: torch.Tensor,
    *,
    size: int,
    sigma_x: float,
    sigma_y: float,
    angle: float = 0.0,
    beta: float = 1.0,
    plateau: bool = False,
) -> torch.Tensor:
    """Gaussian blur of any of the six families."""
    return filter2d(image, gaussian_kernel(size, sigma_x, sigma_y, angle, beta, plateau))


def sinc(image: torch.Tensor, *, size: int, cutoff: float) -> torch.Tensor:
    """Ringing low-pass filter."""
    return filter2d(image, sinc_kernel(size, cutoff))


def resize(image: torch.Tensor, *, scale: float = 1.0, mode: str = "bicubic", to: tuple[int, int] | None = None):
    """Scales by ``scale``, or to the exact (height, width) ``to``. mode: area, bilinear or bicubic, without prefilter."""
    size = to or [max(1, int(side * scale)) for side in image.shape[-2:]]
    if tuple(size) == tuple(image.shape[-2:]):
        return image
    return F.interpolate(image, size=size, mode=mode, align_corners=None if mode == "area" else False)


def gaussian_noise(image: torch.Tensor, *, sigma: float, gray: bool, generator: torch.Generator) -> torch.Tensor:
    """Adds white noise, the same in all channels if gray. Clamped to 0..1."""
    batch, channels, height, width = image.shape
    noise = torch.randn(batch, 1 if gray else channels, height, width, generator=generator)
    return (image + noise.to(image) * (sigma / 255)).clamp(0, 1)


def poisson_noise(image: torch.Tensor, *, scale: float, gray: bool, generator: torch.Generator) -> torch.Tensor:
    """Adds shot noise of ``scale`` times the amplitude that 8-bit counting would have (Real-ESRGAN). Clamped to 0..1."""
    image = image.clamp(0, 1)
    light = image
    if gray:
        light = (image * image.new_tensor([0.2989, 0.587, 0.114]).view(1, 3, 1, 1)).sum(1, keepdim=True)
    light = (light * 255).round() / 255
    # As many levels as the picture has distinct values, rounded up to a power of two: sparser pictures are noisier.
    counts = torch.tensor([2.0 ** math.ceil(math.log2(max(len(torch.unique(one)), 2))) for one in light])
    counts = counts.view(-1, 1, 1, 1).to(image)
    shot = torch.poisson((light * counts).cpu(), generator=generator).to(image) / counts - light
    return (image + shot * scale).clamp(0, 1)


def jpeg(image: torch.Tensor, *, quality: int) -> torch.Tensor:
    """Through a real baseline JPEG (libjpeg, 4:2:0) of the given quality, 1..100. Result on 256 levels."""
    coded = encode_jpeg(list((image.clamp(0, 1) * 255).round().to("cpu", torch.uint8)), quality=int(quality))
    return torch.stack([decode_jpeg(one) for one in coded]).to(image) / 255
