"""Luma, and color fixes: keep the detail of a restored picture, and transfer the colors of the original.

Wavelet: StableSR (Wang et al. 2023), a-trous decomposition; AdaIN: Huang and Belongie 2017, equation 8. Pictures are
``[B, 3, H, W]`` in 0..1; results are not clamped.
"""

from __future__ import annotations

import cv2
import numpy as np
import torch

from ..vocabulary import UserError
from .pyramid import each_plane

LEVELS = 5
BT601 = 0.299, 0.587, 0.114


def luma(picture: torch.Tensor) -> torch.Tensor:
    """``[..., 3, H, W]`` to ``[..., 1, H, W]`` (BT.601)."""
    return (picture * picture.new_tensor(BT601).view(3, 1, 1)).sum(-3, keepdim=True)


def luma_of(picture: np.ndarray) -> np.ndarray:
    """The same of an array ``[..., 3]`` to ``[...]``."""
    return picture @ np.array(BT601, np.float32)


def color_fix(content: torch.Tensor, style: torch.Tensor, method: str) -> torch.Tensor:
    """``wavelet_fix`` or ``adain_fix`` by name. Raises UserError for another name."""
    if method not in METHODS:
        raise UserError(f"Color Fix: method {method!r} is unknown. Choose one of {', '.join(METHODS)}.")
    return METHODS[method](content, style)


def wavelet_fix(content: torch.Tensor, style: torch.Tensor) -> torch.Tensor:
    """High bands of the content over the lowest band of the style. Raises UserError if their sizes differ."""
    if content.shape[-2:] != style.shape[-2:]:
        raise UserError(
            f"Color Fix 'wavelet': the pictures are {content.shape[-1]}x{content.shape[-2]} and "
            f"{style.shape[-1]}x{style.shape[-2]}. Scale one of them to the size of the other, or choose 'adain'."
        )
    # Equals (content - low(content)) + low(style), as the low-pass is linear.
    return content + each_plane(_low_pass, style - content)


def adain_fix(content: torch.Tensor, style: torch.Tensor) -> torch.Tensor:
    """The content with the mean and standard deviation of each of the style's channels; sizes may differ."""
    mean, deviation = _statistics(content)
    style_mean, style_deviation = _statistics(style)
    return (content - mean) / deviation * style_deviation + style_mean


METHODS = {"wavelet": wavelet_fix, "adain": adain_fix}


def _low_pass(plane: np.ndarray) -> np.ndarray:
    """[1, 2, 1] / 4 in both directions at distances 1, 2, 4, ...; the border is repeated."""
    for distance in (2**level for level in range(LEVELS)):
        kernel = np.zeros(2 * distance + 1, np.float32)
        kernel[::distance] = 0.25, 0.5, 0.25
        plane = cv2.sepFilter2D(plane, -1, kernel, kernel, borderType=cv2.BORDER_REPLICATE)
    return plane


def _statistics(image: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean and standard deviation ``[B, 3, 1, 1]``; the small constant keeps flat channels finite."""
    unbiased = min(1, image.shape[-2] * image.shape[-1] - 1)
    variance, mean = torch.var_mean(image, dim=(-2, -1), correction=unbiased, keepdim=True)
    return mean, (variance + 1e-5).sqrt()
