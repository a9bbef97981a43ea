"""Degradation attention: the difference of two attention maps (Face2Scene, section 3.3; arXiv 2410.05258)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn


def differential_attention(
    q1: torch.Tensor,
    k1: torch.Tensor,
    q2: torch.Tensor,
    k2: torch.Tensor,
    value: torch.Tensor,
    weight: torch.Tensor | float,
) -> torch.Tensor:
    """(softmax(q1 k1 / sqrt d) - weight * softmax(q2 k2 / sqrt d)) value, without building the N x M maps.

    q: ``[B, heads, N, d]``; k: ``[B, heads, M, d]``; value: ``[B, heads, M, 2 d]``; weight broadcasts to ``[B, heads, N, 2 d]``.
    A value twice as wide as the keys would leave the fused attention, hence one call per half.
    """
    halves = [
        F.scaled_dot_product_attention(q1, k1, half) - weight * F.scaled_dot_product_attention(q2, k2, half)
        for half in value.chunk(2, dim=-1)
    ]
    return torch.cat(halves, -1)


def head_rms_norm(x: torch.Tensor, gain: torch.Tensor | float = 1.0, eps: float = 1e-5) -> torch.Tensor:
    """Divides every head's vector (last dimension) by its root mean square."""
    return x * torch.rsqrt(x.square().mean(-1, keepdim=True) + eps) * gain


class DegradationAttention(nn.Module):
    """Queries and keys of either branch from its half of the channels, values from all of them.

    channels: of the input, split into two branches; width: of the output; heads: per branch.
    """

    def __init__(self, channels: int = 512, width: int = 256, heads: int = 4, initial_weight: float = 0.2):
        super().__init__()
        branch = channels // 2
        self.heads = heads
        self.query1, self.key1 = nn.Linear(branch, branch, bias=False), nn.Linear(branch, branch, bias=False)
        self.query2, self.key2 = nn.Linear(branch, branch, bias=False), nn.Linear(branch, branch, bias=False)
        self.value = nn.Linear(channels, channels, bias=False)
        self.gain = nn.Parameter(torch.ones(channels // heads))
        self.weight = nn.Parameter(torch.tensor(initial_weight))
        self.out = nn.Linear(channels, width, bias=False)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        """``[B, N, channels]`` to ``[B, N, width]``."""
        first, second = tokens.chunk(2, -1)

        def split(x):
            return x.unflatten(-1, (self.heads, -1)).transpose(1, 2)

        attended = differential_attention(
            split(self.query1(first)),
            split(self.key1(first)),
            split(self.query2(second)),
            split(self.key2(second)),
            split(self.value(tokens)),
            self.weight,
        )
        return self.out(head_rms_norm(attended, self.gain).transpose(1, 2).flatten(2))
