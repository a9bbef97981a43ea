"""JPEG as arithmetic: the pipeline of DiffJPEG without its file, in floats, one quality per picture.

Real-ESRGAN's family was trained with it, and it differs from a real JPEG: nothing is rounded to 256 levels, chroma comes back
by repetition. Follows BasicSR's ``diffjpeg.py`` (differentiable=False).
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F

LUMINANCE = torch.tensor([
    [16, 11, 10, 16, 24, 40, 51, 61],
    [12, 12, 14, 19, 26, 58, 60, 55],
    [14, 13, 16, 24, 40, 57, 69, 56],
    [14, 17, 22, 29, 51, 87, 80, 62],
    [18, 22, 37, 56, 68, 109, 103, 77],
    [24, 35, 55, 64, 81, 104, 113, 92],
    [49, 64, 78, 87, 103, 121, 120, 101],
    [72, 92, 95, 98, 112, 100, 103, 99],
]).float().T.contiguous()  # fmt: skip
"""Annex K of the standard, transposed as DiffJPEG has it."""

CHROMINANCE = torch.full((8, 8), 99.0)
CHROMINANCE[:4, :4] = torch.tensor([[17.0, 18, 24, 47], [18, 21, 26, 66], [24, 26, 56, 99], [47, 66, 99, 99]]).T

TO_YCC = torch.tensor([[0.299, 0.587, 0.114], [-0.168736, -0.331264, 0.5], [0.5, -0.418688, -0.081312]])
TO_RGB = torch.tensor([[1.0, 0.0, 1.402], [1.0, -0.344136, -0.714136], [1.0, 1.772, 0.0]])
OFFSET = torch.tensor([0.0, 128.0, 128.0]).view(3, 1, 1)


def _cosines() -> torch.Tensor:
    """Orthonormal 8-point DCT-II, rows are frequencies."""
    n = torch.arange(8, dtype=torch.float64)
    basis = torch.cos((2 * n[None] + 1) * n[:, None] * math.pi / 16) / 2
    basis[0] /= math.sqrt(2)
    return basis.float()


DCT = _cosines()


def factor(quality: torch.Tensor) -> torch.Tensor:
    """The tables' multiplier for qualities 1..100, as DiffJPEG has it: not rounded. Just above zero at 100, where the public
    code divides by zero."""
    return (torch.where(quality < 50, 5000 / quality, 200 - quality * 2) / 100).clamp(min=1e-3)


def diff_jpeg(image: torch.Tensor, *, quality: float | torch.Tensor) -> torch.Tensor:
    """``[B, 3, H, W]`` in 0..1 to the same through 4:2:0 quantization; quality: a number or ``[B]``."""
    height, width = image.shape[-2:]
    padded = F.pad(image, (0, -width % 16, 0, -height % 16)) * 255
    multiplier = factor(torch.as_tensor(quality, dtype=torch.float32).expand(len(image))).to(image).view(-1, 1, 1, 1, 1)
    ycc = torch.einsum("dc,bchw->bdhw", TO_YCC.to(image), padded) + OFFSET.to(image)
    luma = _quantise(ycc[:, :1], LUMINANCE, multiplier)
    chroma = _quantise(F.avg_pool2d(ycc[:, 1:], 2), CHROMINANCE, multiplier)
    chroma = chroma.repeat_interleave(2, -1).repeat_interleave(2, -2)
    rgb = torch.einsum("dc,bchw->bdhw", TO_RGB.to(image), torch.cat([luma, chroma], 1) - OFFSET.to(image))
    return (rgb.clamp(0, 255) / 255)[..., :height, :width]


def _quantise(plane: torch.Tensor, table: torch.Tensor, multiplier: torch.Tensor) -> torch.Tensor:
    """``[B, C, H, W]`` through the rounded coefficients of its 8x8 blocks."""
    batch, channels, height, width = plane.shape
    basis = DCT.to(plane)
    blocks = (plane - 128).reshape(batch * channels, height // 8, 8, width // 8, 8).transpose(2, 3)
    steps = (table.to(plane) * multiplier).repeat_interleave(channels, 0)
    steps = steps.view(-1, 1, 1, 8, 8)
    coefficients = (basis @ blocks @ basis.T / steps).round() * steps
    return (basis.T @ coefficients @ basis).transpose(2, 3).reshape(batch, channels, height, width) + 128
