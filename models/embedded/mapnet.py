"""MapNet: from a FaDeX map of any size to 21 degradation tokens (Face2Scene, section 3.3 and supplement 7.2)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

from ...lib.vocabulary import UserError
from .degradation_attention import DegradationAttention

GRIDS = (4, 2, 1)
TOKENS = sum(side * side for side in GRIDS)
# Which of the 21 a restorer sees: those of the paper's Table 6 (all, global, global and intermediate), and each other scale alone.
TOKEN_SETS = {
    "all 21": slice(0, TOKENS),
    "1 global": slice(20, TOKENS),
    "5 global and intermediate": slice(16, TOKENS),
    "4 intermediate": slice(16, 20),
    "16 local": slice(0, 16),
}


def with_tokens(text: torch.Tensor, tokens: torch.Tensor) -> torch.Tensor:
    """Embedded text ``[B, N, C]`` and degradation tokens ``[1 or B, T, C]`` to one context ``[B, N + T, C]``.

    Raises UserError if their widths differ.
    """
    if text.shape[-1] != tokens.shape[-1]:
        raise UserError(
            f"The degradation tokens are {tokens.shape[-1]} numbers wide, but the encoded prompt is {text.shape[-1]}: "
            "they belong to different models. Estimate the degradation with the extractor that was trained with this "
            "model."
        )
    return torch.cat([text, tokens.to(text).expand(len(text), -1, -1)], 1)


class MapNet(nn.Module):
    """Overlapping patch embedding, degradation attention, pooling to 4x4, 2x2 and 1x1, one MLP per scale.

    The embedding halves Z. Where that leaves fewer than 4x4 places, neighboring local tokens are the same.

    Defaults are the paper's: 256 channels in, 512 embedded, four heads per branch, tokens as wide as SD's text.
    """

    def __init__(
        self, channels: int = 256, embedding: int = 512, width: int = 256, heads: int = 4, token_width: int = 1024
    ):
        super().__init__()
        self.embed = nn.Conv2d(channels, embedding, 3, 2, 1)
        self.norm = nn.LayerNorm(embedding)
        self.attention = DegradationAttention(embedding, width, heads)
        self.heads = nn.ModuleList(
            nn.Sequential(
                nn.Linear(width, token_width), nn.GELU(), nn.Linear(token_width, token_width), nn.LayerNorm(token_width)
            )
            for _ in GRIDS
        )

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """Z ``[B, C, h, w]``, h and w at least 1, to ``[B, 21, token_width]``: 16 local, 4 intermediate, 1 global."""
        return torch.cat([head(cells) for head, cells in zip(self.heads, self.pooled(features), strict=True)], 1)

    def pooled(self, features: torch.Tensor) -> list[torch.Tensor]:
        """The cells before the MLPs: ``[B, 16, width]``, ``[B, 4, width]``, ``[B, 1, width]``."""
        grid = self.embed(features)
        attended = self.attention(self.norm(grid.flatten(2).transpose(1, 2)))
        spatial = attended.transpose(1, 2).unflatten(-1, grid.shape[-2:])
        return [F.adaptive_avg_pool2d(spatial, side).flatten(2).transpose(1, 2) for side in GRIDS]
