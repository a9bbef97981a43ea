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


def _grid(size: int) -> torch.Tensor:
    """``[size, size, 2]`` of (x, y) offsets from the kernel's center."""
    axis = torch.arange(size, dtype=torch.float64) - (size - 1) / 2
    return torch.stack(torch.meshgrid(axis, axis, indexing="xy"), -1)


def gaussian_kernel(
    size: int, sigma_x: float, sigma_y: float, angle: float = 0.0, beta: float = 1.0, plateau: bool = False
) -> torch.Tensor:
    """Isotropic, anisotropic, generalized or plateau Gaussian, ``[size, size]`` in float64, sum 1 (Real-ESRGAN's six families).

    beta is the exponent of the generalized family, 1 the ordinary Gaussian; angle in radians. Raises ValueError for a sigma
    that is not above 0.
    """
    if min(sigma_x, sigma_y) <= 0:
        raise ValueError(f"sigma_x {sigma_x:g} and sigma_y {sigma_y:g} have to be above 0")
    cos, sin = math.cos(angle), math.sin(angle)
    rotation = torch.tensor([[cos, -sin], [sin, cos]], dtype=torch.float64)
    distance = (_grid(size) @ rotation / torch.tensor([sigma_x, sigma_y], dtype=torch.float64)).square().sum(-1)
    kernel = 1 / (distance**beta + 1) if plateau else torch.exp(-0.5 * distance**beta)
    return kernel / kernel.sum()


def sinc_kernel(size: int, cutoff: float) -> torch.Tensor:
    """Circular low-pass ``[size, size]`` in float64, sum 1; cutoff in radians per pixel, at most pi. Rings like a resampling filter."""
    # Here and below, imported where it is needed: together they take longer to import than a small photograph to restore.
    from scipy.special import j1

    radius = _grid(size).norm(dim=-1)
    # SciPy's Bessel function: torch's is right to eight digits only.
    kernel = cutoff * torch.from_numpy(j1((cutoff * radius).numpy())) / (2 * math.pi * radius)
    kernel[radius == 0] = cutoff**2 / (4 * math.pi)
    return kernel / kernel.sum()


def motion_kernel(size: int, angle: float) -> torch.Tensor:
    """A straight stroke of ``size`` pixels, half a pixel thick at one sigma, ``[size, size]`` in float64, sum 1."""
    offset = (
        _grid(size) @ torch.tensor([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]]).double()
    )
    beyond = (offset[..., 0].abs() - (size - 1) / 2).clamp(min=0)
    kernel = torch.exp(-(offset[..., 1] ** 2 + beyond**2) / (2 * 0.5**2))
    return kernel / kernel.sum()


def filter2d(image: torch.Tensor, kernel: torch.Tensor) -> torch.Tensor:
    """Correlates every channel with a kernel ``[k, k]`` (k odd) or every picture with its own of ``[B, k, k]``.

    Borders are reflected. On the CPU, by OpenCV, which turns to Fourier transforms for large kernels: eight times faster
    than a convolution layer here.
    """
    taps = kernel.float().numpy()
    pictures = image.permute(0, 2, 3, 1).cpu().numpy()
    done = [
        cv2.filter2D(np.ascontiguousarray(one), -1, own, borderType=cv2.BORDER_REFLECT_101)
        for one, own in zip(pictures, np.broadcast_to(taps, (len(pictures), *taps.shape[-2:])), strict=True)
    ]
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


def varying_blur(image: torch.Tensor, *, size: int, centre: float, corner: float) -> torch.Tensor:
    """Isotropic Gaussian blur that grows with the square of the distance from the middle: sigma ``centre`` there and
    ``corner`` in the corners, as lenses have it (Face2Scene, supplement 9.8). Between five blurs linearly."""
    height, width = image.shape[-2:]
    y, x = torch.linspace(-1, 1, height, device=image.device), torch.linspace(-1, 1, width, device=image.device)
    place = (y[:, None] ** 2 + x[None] ** 2) / 2 * 4
    sigmas = torch.linspace(centre, corner, 5).tolist()
    blurred = (
        blur(image, size=size, sigma_x=sigma, sigma_y=sigma) * (1 - (place - level).abs()).clamp(min=0)
        for level, sigma in enumerate(sigmas)
    )
    return sum(blurred, torch.zeros(()))


def motion_blur(image: torch.Tensor, *, size: int, angle: float) -> torch.Tensor:
    """A camera moved by ``size`` pixels (odd) along ``angle`` in radians."""
    return filter2d(image, motion_kernel(size, angle))


def median_blur(image: torch.Tensor, *, size: int) -> torch.Tensor:
    """Median of 3x3 or 5x5 pixels, per channel."""
    pictures = np.ascontiguousarray(image.permute(0, 2, 3, 1).cpu().numpy(), np.float32)
    done = np.stack([cv2.medianBlur(one, size) for one in pictures])
    return torch.from_numpy(done).permute(0, 3, 1, 2).contiguous().to(image.device)


def unsharp_mask(image: torch.Tensor, *, weight: float = 0.5, radius: int = 50, threshold: float = 10) -> torch.Tensor:
    """Sharpens where the difference to a blur of ``radius`` exceeds ``threshold`` levels of 255 (Real-ESRGAN's USM)."""
    taps = torch.from_numpy(cv2.getGaussianKernel(radius + 1 - radius % 2, 0))
    kernel = taps @ taps.T
    residual = image - filter2d(image, kernel)
    mask = filter2d((residual.abs() * 255 > threshold).float(), kernel)
    return mask * (image + weight * residual).clamp(0, 1) + (1 - mask) * image


def resize(image: torch.Tensor, *, size: tuple[int, int], mode: str) -> torch.Tensor:
    """To (height, width). mode: area, bilinear or bicubic, without prefilter."""
    if size == tuple(image.shape[-2:]):
        return image
    return F.interpolate(image, size=size, mode=mode, align_corners=None if mode == "area" else False)


def gaussian_noise(image: torch.Tensor, *, sigma: float, gray: bool, generator: torch.Generator) -> torch.Tensor:
    """Adds white noise, the same in all channels if gray. Clamped to 0..1."""
    batch, channels, height, width = image.shape
    noise = torch.randn(batch, 1 if gray else channels, height, width, generator=generator)
    return (image + noise.to(image) * (sigma / 255)).clamp(0, 1)


def poisson_rate(image: torch.Tensor, gray: bool) -> tuple[torch.Tensor, torch.Tensor]:
    """Light on 256 levels, ``[B, 1 or 3, H, W]``, and counts at full light ``[B, 1, 1, 1]``: as many as the picture has distinct
    values, rounded up to a power of two, so that sparser pictures are noisier (Real-ESRGAN)."""
    light = image.clamp(0, 1)
    if gray:
        light = (light * image.new_tensor([0.2989, 0.587, 0.114]).view(1, 3, 1, 1)).sum(1, keepdim=True)
    levels = (light * 255).round()
    present = [int(torch.bincount(one.flatten().int()).count_nonzero()) for one in levels]
    counts = [2.0 ** math.ceil(math.log2(different)) for different in present]
    return levels / 255, image.new_tensor(counts).view(-1, 1, 1, 1)


def poisson_noise(image: torch.Tensor, *, scale: float, gray: bool, generator: torch.Generator) -> torch.Tensor:
    """Adds shot noise of ``scale`` times the amplitude that counting would have (Real-ESRGAN). Clamped to 0..1."""
    light, counts = poisson_rate(image, gray)
    shot = torch.poisson((light * counts).cpu(), generator=generator).to(image) / counts - light
    return (image + shot * scale).clamp(0, 1)


def sensor_noise(
    image: torch.Tensor, *, red: float, blue: float, shot: float, read: float, generator: torch.Generator
) -> torch.Tensor:
    """Noise that went through a camera: linear light, white balance undone, RGGB mosaic, shot and read noise, bilinear demosaic,
    and back (after SCUNet's ISP model; Brooks et al., 2019, for the noise). Clamped to 0..1.

    red, blue: white-balance gains; shot, read: variances per unit of light and constant, of full scale 1.
    """
    from kornia.color import CFA, raw_to_rgb

    height, width = image.shape[-2:]
    gains = image.new_tensor([red, 1.0, blue]).view(1, 3, 1, 1)
    linear = F.pad(image.clamp(0, 1), (0, width % 2, 0, height % 2), mode="replicate") ** 2.2 / gains
    mosaic = linear[:, 1:2].clone()
    mosaic[..., ::2, ::2], mosaic[..., 1::2, 1::2] = linear[:, :1, ::2, ::2], linear[:, 2:, 1::2, 1::2]
    noise = torch.randn(mosaic.shape, generator=generator).to(image)
    mosaic = (mosaic + noise * (mosaic * shot + read).sqrt()).clamp(0, 1)
    colour = raw_to_rgb(mosaic, CFA.BG)[..., :height, :width]
    return (colour * gains).clamp(0, 1) ** (1 / 2.2)


def jpeg(image: torch.Tensor, *, quality: int) -> torch.Tensor:
    """Through a real baseline JPEG (libjpeg, 4:2:0) of the given quality, 1..100. Result on 256 levels."""
    from torchvision.io import decode_jpeg, encode_jpeg

    coded = encode_jpeg(list((image.clamp(0, 1) * 255).round().to("cpu", torch.uint8)), quality=int(quality))
    return torch.stack([decode_jpeg(one) for one in coded]).to(image) / 255
