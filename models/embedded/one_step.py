"""The embedded one-step restorer: a small U-Net that attends to degradation tokens through cross-attention.

Pixel-unshuffle replaces the VAE of the full-size model. Every operation is local (normalization is over
channels, never over the picture), so that a tiled result equals the untiled one wherever tiles overlap enough.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

from .mapnet import TOKENS


class ChannelNorm(nn.LayerNorm):
    """Layer normalization over the channels of ``[B, C, H, W]``."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return super().forward(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class ResidualBlock(nn.Module):
    """x + conv(SiLU(conv(norm(x))))."""

    def __init__(self, channels: int):
        super().__init__()
        self.norm = ChannelNorm(channels)
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.conv2(F.silu(self.conv1(self.norm(x))))


class TokenAttention(nn.Module):
    """x + attention of every position to the degradation tokens. Starts as the identity."""

    def __init__(self, channels: int, token_width: int, heads: int):
        super().__init__()
        self.heads = heads
        self.norm = ChannelNorm(channels)
        self.query = nn.Conv2d(channels, channels, 1)
        self.key_value = nn.Linear(token_width, 2 * channels)
        self.out = nn.Conv2d(channels, channels, 1)
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.out.bias)

    def forward(self, x: torch.Tensor, tokens: torch.Tensor) -> torch.Tensor:
        batch, channels, height, width = x.shape
        query = self.query(self.norm(x)).permute(0, 2, 3, 1).reshape(batch, height * width, self.heads, -1)
        key, value = (t.unflatten(-1, (self.heads, -1)) for t in self.key_value(tokens).chunk(2, -1))
        # So few keys that the plain form beats a fused kernel: training steps are a seventh shorter.
        scores = torch.einsum("bnhd,bthd->bhnt", query, key) * query.shape[-1] ** -0.5
        attended = torch.einsum("bhnt,bthd->bnhd", scores.softmax(-1), value).reshape(batch, height, width, channels)
        return x + self.out(attended.permute(0, 3, 1, 2))


class Level(nn.Module):
    """Residual blocks at one resolution, followed by attention to the tokens."""

    def __init__(self, channels: int, blocks: int, token_width: int, heads: int):
        super().__init__()
        self.blocks = nn.ModuleList(ResidualBlock(channels) for _ in range(blocks))
        self.attention = TokenAttention(channels, token_width, heads)

    def forward(self, x: torch.Tensor, tokens: torch.Tensor) -> torch.Tensor:
        for block in self.blocks:
            x = block(x)
        return self.attention(x, tokens)


class OneStepNet(nn.Module):
    """``[B, 3, H, W]`` in 0..1 and tokens ``[B, 21, token_width]`` to the restored picture, any H and W.

    channels, blocks: per resolution, from 1 / unshuffle downwards by halves; blocks counts either side.
    Without tokens, learned null tokens are used: blind restoration.
    """

    def __init__(
        self,
        channels: tuple[int, ...] = (48, 96, 144),
        blocks: tuple[int, ...] = (1, 2, 2),
        unshuffle: int = 2,
        token_width: int = 192,
        heads: int = 4,
    ):
        super().__init__()
        self.unshuffle = unshuffle
        self.multiple = unshuffle * 2 ** (len(channels) - 1)
        inside = 3 * unshuffle**2

        def level(c, n):
            return Level(c, n, token_width, heads)

        pairs = list(zip(channels, channels[1:], strict=False))
        self.stem = nn.Conv2d(inside, channels[0], 3, padding=1)
        self.encoder = nn.ModuleList(level(c, n) for c, n in zip(channels, blocks, strict=True))
        self.down = nn.ModuleList(nn.Conv2d(a, b, 2, 2) for a, b in pairs)
        self.up = nn.ModuleList(nn.Conv2d(b, a * 4, 1) for a, b in pairs)
        self.merge = nn.ModuleList(nn.Conv2d(2 * a, a, 1) for a, _ in pairs)
        self.decoder = nn.ModuleList(level(c, n) for c, n in zip(channels[:-1], blocks[:-1], strict=True))
        self.head = nn.Conv2d(channels[0], inside, 3, padding=1)
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)
        self.null_tokens = nn.Parameter(torch.randn(TOKENS, token_width) * 0.02)
        self.negative_prompt = nn.Parameter(torch.zeros(token_width))

    def forward(
        self, image: torch.Tensor, tokens: torch.Tensor | None = None, negative: torch.Tensor | bool = False
    ) -> torch.Tensor:
        """negative: ``[B, 1, 1]`` or one for all; where true the prompt asks for the damaged picture (guidance away from it)."""
        height, width = image.shape[-2:]
        if tokens is None:
            tokens = self.null_tokens.expand(len(image), -1, -1)
        tokens = tokens + self.negative_prompt * torch.as_tensor(negative, device=image.device)
        # Replication and not reflection: it exists for every size, down to one pixel.
        padded = F.pad(image, (0, -width % self.multiple, 0, -height % self.multiple), mode="replicate")
        x = self.stem(F.pixel_unshuffle(padded, self.unshuffle).contiguous(memory_format=torch.channels_last))
        skips = []
        for encode, down in zip(self.encoder[:-1], self.down, strict=True):
            x = encode(x, tokens)
            skips.append(x)
            x = down(x)
        x = self.encoder[-1](x, tokens)
        for decode, up, merge in reversed(list(zip(self.decoder, self.up, self.merge, strict=True))):
            x = F.pixel_shuffle(up(x), 2)
            x = decode(merge(torch.cat([x, skips.pop()], 1)), tokens)
        return image + F.pixel_shuffle(self.head(x), self.unshuffle)[..., :height, :width]
