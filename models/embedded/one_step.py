"""The embedded one-step restorer: a small U-Net that attends to degradation tokens through cross-attention.

Pixel-unshuffle replaces the VAE of the full-size model. Every operation is local (normalization is over
channels, never over the picture), so that a tiled result equals the untiled one wherever tiles overlap enough.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

from .mapnet import TOKENS

POSITIONS = 16384  # that attend at once: what is computed for them stays in the cache


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
        # In place: to get memory for another map of this size takes longer than to fill it.
        return self.conv2(F.silu(self.conv1(self.norm(x)), inplace=True)).add_(x)


class TokenAttention(nn.Module):
    """x + attention of every position to the degradation tokens. Starts as the identity.

    Tokens are few and positions many. So everything that is the same for all positions is multiplied first: the keys with
    the weights of the query, the values with those of the output.
    """

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
        height, width = x.shape[-2:]
        score, offset, told = (matrix.to(x.dtype) for matrix in self._matrices(tokens))

        def attend(rows: torch.Tensor) -> torch.Tensor:
            normed = F.layer_norm(rows, rows.shape[-1:], eps=self.norm.eps)
            # Positions last: a softmax over so few neighboring numbers is slow.
            scores = torch.baddbmm(offset, score, normed.mT).unflatten(1, (self.heads, -1))
            return torch.baddbmm(rows, scores.softmax(2).flatten(1, 2).mT, told)

        parts = x.permute(0, 2, 3, 1).flatten(1, 2).split(POSITIONS, 1)
        # Under autocast, the softmax would copy its numbers into float32 and back.
        with torch.autocast(x.device.type, enabled=False):
            return torch.cat([attend(rows) for rows in parts], 1).mT.unflatten(-1, (height, width))

    def _matrices(self, tokens: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Normalized position to scores ``[B, heads * T, C]`` and their offsets ``[B, heads * T, 1]``; weights of the tokens to
        what is added to the position ``[B, heads * T, C]``. float32.
        """
        query, query_bias = self.query.weight.float().flatten(1), self.query.bias.float()
        key, value = (
            t.unflatten(-1, (self.heads, -1)).transpose(1, 2)
            for t in F.linear(tokens.float(), self.key_value.weight.float(), self.key_value.bias.float()).chunk(2, -1)
        )  # [B, heads, T, d] each
        key = key * key.shape[-1] ** -0.5
        score = key @ query.unflatten(0, (self.heads, -1))
        offset = key @ query_bias.view(self.heads, -1, 1) + score @ self.norm.bias.float()[:, None]
        # The weights of each head add up to 1, so that the bias can lie in what they weigh.
        told = (
            value @ self.out.weight.float().flatten(1).T.unflatten(0, (self.heads, -1))
            + self.out.bias.float() / self.heads
        )
        return (score * self.norm.weight.float()).flatten(1, 2), offset.flatten(1, 2), told.flatten(1, 2)


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

    def in_precision(self, dtype: torch.dtype) -> OneStepNet:
        """Itself, so that all but its first layer computes in ``dtype``: bfloat16 cannot tell the 256 levels of a picture apart."""
        for part in self.children():
            if part is not self.stem:
                part.to(dtype)
        return self

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
        inside = F.pixel_unshuffle(padded, self.unshuffle).contiguous(memory_format=torch.channels_last)
        x = self.stem(inside).to(self.head.weight)
        skips = []
        for encode, down in zip(self.encoder[:-1], self.down, strict=True):
            x = encode(x, tokens)
            skips.append(x)
            x = down(x)
        x = self.encoder[-1](x, tokens)
        for decode, up, merge in reversed(list(zip(self.decoder, self.up, self.merge, strict=True))):
            x = F.pixel_shuffle(up(x), 2)
            x = decode(merged(merge, x, skips.pop()), tokens)
        return image + F.pixel_shuffle(self.head(x).to(image.dtype), self.unshuffle)[..., :height, :width]


def merged(merge: nn.Conv2d, x: torch.Tensor, skip: torch.Tensor) -> torch.Tensor:
    """The 1x1 convolution of both maps ``[B, C, H, W]``, one upon the other, without laying them so in memory."""
    own, other = merge.weight.chunk(2, 1)
    return F.conv2d(x, own, merge.bias).add_(F.conv2d(skip, other))
