"""Local correlation of two maps of features, and where it points (RANSAC-Flow, Shen et al. 2020, section 3.3)."""

from __future__ import annotations

from math import isqrt

import torch
import torch.nn.functional as F
from torch import Tensor

KERNEL = 7


def local_correlation(x: Tensor, y: Tensor, kernel: int = KERNEL) -> Tensor:
    """``[B, K * K, h, w]``: channel ``i * K + j`` is the inner product of x at p with y at p + (i - K // 2, j - K // 2).

    x, y: ``[B, C, h, w]``, of unit length over the channels; y counts as zero beyond its border.
    """
    height, width = x.shape[-2:]
    reach = kernel // 2
    padded = F.pad(y, (reach, reach, reach, reach))
    shifted = (padded[..., i : i + height, j : j + width] for i in range(kernel) for j in range(kernel))
    return torch.stack([(x * other).sum(1) for other in shifted], 1)


def expected_offset(scores: Tensor) -> Tensor:
    """The mean displacement (x, y) in cells, ``[B, 2, h, w]``, under the softmax of scores ``[B, K * K, h, w]``."""
    kernel = isqrt(scores.shape[1])
    steps = torch.arange(kernel, device=scores.device, dtype=scores.dtype) - kernel // 2
    probability = scores.softmax(1).unflatten(1, (kernel, kernel))
    return torch.stack(
        [torch.einsum("bijhw,j->bhw", probability, steps), torch.einsum("bijhw,i->bhw", probability, steps)], 1
    )
