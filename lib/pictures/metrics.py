"""PSNR and SSIM (Wang et al. 2004), as BasicSR computes them.

Pictures are ``[3, H, W]`` or ``[B, 3, H, W]``, RGB in 0..1; a batch scores the mean of its pictures. ``crop`` pixels
are cut off every side first. ``luma`` compares the Y of BT.601 in studio range, not rounded. Raises UserError if two
pictures differ in size or the crop leaves nothing.
"""

from __future__ import annotations

import cv2
import numpy as np
import torch

from ..vocabulary import UserError

WINDOW, SIGMA = 11, 1.5
C1, C2 = 0.01**2, 0.03**2


def psnr(image: torch.Tensor, truth: torch.Tensor, crop: int = 0, luma: bool = False, epsilon: float = 0.0) -> float:
    """Peak signal-to-noise ratio in dB, infinite for equal pictures unless ``epsilon`` is added to the squared error
    (BasicSR's tensor version: 1e-8)."""
    if (
        len(image) > 1 and image.ndim == truth.ndim == 4 and len(image) == len(truth)
    ):  # one after the other: they are many
        return float(np.mean([psnr(*pair, crop, luma, epsilon) for pair in zip(image, truth, strict=True)]))
    image, truth = _comparable(image, truth, crop, luma)
    error = (image - truth).square().mean(dim=(1, 2, 3)) + epsilon
    return float(-10 * error.log10().mean())


def ssim(image: torch.Tensor, truth: torch.Tensor, crop: int = 0, luma: bool = False) -> float:
    """Structural similarity, at most 1: Gaussian window of 11 px, valid positions only, mean over the channels.

    Along a side shorter than 11 px, the window has the largest odd length that fits.
    """
    if len(image) > 1 and image.ndim == truth.ndim == 4 and len(image) == len(truth):
        return float(np.mean([ssim(*pair, crop, luma) for pair in zip(image, truth, strict=True)]))
    pairs = zip(*(x.flatten(0, 1).numpy() for x in _comparable(image, truth, crop, luma)), strict=True)
    return float(np.mean([_ssim_map(plane, truth_plane).mean() for plane, truth_plane in pairs]))


def psnr_where(image: torch.Tensor, truth: torch.Tensor, where: torch.Tensor) -> float:
    """PSNR over the pixels of ``where`` ``[H, W]`` alone, of ``[3, H, W]``; NaN if there are none."""
    image, truth = _comparable(image, truth, 0, False)
    error = (image - truth).square()[..., where].mean()
    return float(-10 * (error + 1e-10).log10())


def ssim_where(image: torch.Tensor, truth: torch.Tensor, where: torch.Tensor) -> float:
    """The mean of SSIM's map over the pixels of ``where`` ``[H, W]``, of ``[3, H, W]``; NaN if none of them is a window's center."""
    pairs = zip(*(x.flatten(0, 1).numpy() for x in _comparable(image, truth, 0, False)), strict=True)
    maps = np.stack([_ssim_map(plane, truth_plane) for plane, truth_plane in pairs])
    top, left = ((side - inner) // 2 for side, inner in zip(where.shape, maps.shape[1:], strict=True))
    inner = where.numpy()[top : top + maps.shape[1], left : left + maps.shape[2]]
    return float(maps[:, inner].mean()) if inner.any() else float("nan")


def _ssim_map(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    column, row = kernels = [_window(side) for side in x.shape]
    (top, left), (height, width) = (len(kernel) // 2 for kernel in kernels), x.shape

    def local(plane: np.ndarray) -> np.ndarray:
        return cv2.sepFilter2D(plane, -1, row, column)[top : height - top, left : width - left]

    mean_x, mean_y = local(x), local(y)
    variances = local(x * x + y * y) - mean_x**2 - mean_y**2
    covariance = local(x * y) - mean_x * mean_y
    luminance = (2 * mean_x * mean_y + C1) / (mean_x**2 + mean_y**2 + C1)
    return luminance * (2 * covariance + C2) / (variances + C2)


def _comparable(image: torch.Tensor, truth: torch.Tensor, crop: int, luma: bool) -> tuple[torch.Tensor, torch.Tensor]:
    """Both pictures as float64 ``[B, C, H, W]``: differences of squares cancel too much in float32."""
    height, width = image.shape[-2:]
    if image.shape != truth.shape:
        raise UserError(
            f"Metrics: the pictures have different shapes, {list(image.shape)} and {list(truth.shape)}. "
            "Resize one of them to the size of the other."
        )
    if min(height, width) <= 2 * crop:
        raise UserError(f"Metrics: a crop of {crop} px leaves nothing of {width}x{height} px. Choose a smaller crop.")
    pair = torch.stack((image, truth)).cpu().double()[..., crop : height - crop, crop : width - crop]
    if luma:
        pair = (pair * pair.new_tensor([65.481, 128.553, 24.966]).view(3, 1, 1)).sum(-3, keepdim=True)
        pair = (pair + 16) / 255
    first, second = pair.reshape(2, -1, *pair.shape[-3:])
    return first, second


def _window(side: int) -> np.ndarray:
    """Gaussian weights that fit into a side of that many pixels, sum 1."""
    return cv2.getGaussianKernel(min(WINDOW, side - (side + 1) % 2), SIGMA)
