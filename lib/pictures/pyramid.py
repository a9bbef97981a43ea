"""Gaussian and Laplacian pyramids (Burt and Adelson 1983) of pictures of any size, down to one pixel.

Coarse sample j lies on fine sample 2j, so a region's pyramid matches the whole picture's wherever the region starts at
a multiple of ``2 ** (levels - 1)``. Every function is linear, takes ``[..., C, H, W]`` and computes on the CPU.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import cv2
import numpy as np
import torch


def gaussian_pyramid(image: torch.Tensor, levels: int) -> list[torch.Tensor]:
    """``levels`` pictures, finest (the picture itself) first, each half as large as the one before, rounded up.

    Low-pass: [1, 4, 6, 4, 1] / 16 in both directions, borders reflected.
    """
    pyramid = [image]
    while len(pyramid) < levels:
        pyramid.append(each_plane(cv2.pyrDown, pyramid[-1]))
    return pyramid


def laplacian_pyramid(image: torch.Tensor, levels: int) -> list[torch.Tensor]:
    """``levels - 1`` band-passes, finest first, and one low-pass; ``collapse`` gives the picture back."""
    gaussian = gaussian_pyramid(image, levels)
    return [fine - _enlarge(coarse, fine.shape) for fine, coarse in pairwise(gaussian)] + gaussian[-1:]


def collapse(pyramid: list[torch.Tensor]) -> torch.Tensor:
    """The picture of a Laplacian pyramid, in the size of its finest level."""
    *bands, image = pyramid
    for band in reversed(bands):
        image = band + _enlarge(image, band.shape)
    return image


def _enlarge(image: torch.Tensor, shape: torch.Size) -> torch.Tensor:
    """Twice as large, one less where ``shape`` is odd. Weights sum to one at the borders too: constants survive."""
    return each_plane(lambda plane: cv2.pyrUp(plane, dstsize=(shape[-1], shape[-2])), image)


def each_plane(change: Callable[[np.ndarray], np.ndarray], image: torch.Tensor) -> torch.Tensor:
    """``change`` of every plane ``[H, W]`` of ``[..., C, H, W]``. OpenCV filters ten times as fast as torch here."""
    planes = image.cpu().flatten(0, -3).contiguous().numpy()
    changed = torch.from_numpy(np.stack([change(plane) for plane in planes]))
    return changed.unflatten(0, image.shape[:-2]).to(image.device)
