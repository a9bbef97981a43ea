"""The blocks that guided-diffusion, latent diffusion and DiffBIR share, under the parameter names all three publish.

guided_diffusion/unet.py of openai/guided-diffusion; ldm/modules/diffusionmodules/openaimodel.py of latent diffusion.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from diffusers import Transformer2DModel
from diffusers.models.embeddings import get_timestep_embedding
from torch import nn
from torch.utils.checkpoint import checkpoint

GROUPS = 32


class TimestepEmbedding(nn.Sequential):
    """Sinusoids of the time step, then two linear layers: ``[B]`` to ``[B, 4 * width]``."""

    def __init__(self, width: int):
        super().__init__(nn.Linear(width, 4 * width), nn.SiLU(), nn.Linear(4 * width, 4 * width))

    def forward(self, timesteps: torch.Tensor) -> torch.Tensor:
        first = self[0]
        waves = get_timestep_embedding(timesteps, first.in_features, flip_sin_to_cos=True, downscale_freq_shift=0)
        return super().forward(waves.to(first.weight.dtype))


class ResidualBlock(nn.Module):
    """Two convolutions that listen to the time step, beside a skip connection.

    embedding: width of the time embedding. scale_shift: the step scales and shifts the second normalization instead of
    being added before it. resample: halves or doubles the picture inside the block, without parameters.
    """

    def __init__(
        self,
        inside: int,
        outside: int,
        embedding: int,
        dropout: float = 0.0,
        scale_shift: bool = False,
        resample: nn.Module | None = None,
    ):
        super().__init__()
        self.scale_shift = scale_shift
        self.resample = resample or nn.Identity()
        self.in_layers = nn.Sequential(
            nn.GroupNorm(GROUPS, inside), nn.SiLU(), nn.Conv2d(inside, outside, 3, padding=1)
        )
        self.emb_layers = nn.Sequential(nn.SiLU(), nn.Linear(embedding, outside * (2 if scale_shift else 1)))
        self.out_layers = nn.Sequential(
            nn.GroupNorm(GROUPS, outside),
            nn.SiLU(),
            nn.Dropout(dropout),
            zeroed(nn.Conv2d(outside, outside, 3, padding=1)),
        )
        self.skip_connection = nn.Identity() if inside == outside else nn.Conv2d(inside, outside, 1)

    def forward(self, x: torch.Tensor, embedded: torch.Tensor) -> torch.Tensor:
        """``[B, inside, H, W]`` and ``[B, embedding]`` to ``[B, outside, H', W']``."""
        norm, activation, convolution = self.in_layers
        h = convolution(self.resample(activation(norm(x))))
        step = self.emb_layers(embedded)[..., None, None]
        if self.scale_shift:
            scale, shift = step.chunk(2, 1)
            h = self.out_layers[1:](self.out_layers[0](h) * (1 + scale) + shift)
        else:
            h = self.out_layers(h + step)
        return self.skip_connection(self.resample(x)) + h


class Shrink(nn.Module):
    """A convolution of stride 2."""

    def __init__(self, width: int):
        super().__init__()
        self.op = nn.Conv2d(width, width, 3, stride=2, padding=1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.op(x)


class Grow(nn.Module):
    """Every pixel four times, then a convolution."""

    def __init__(self, width: int):
        super().__init__()
        self.conv = nn.Conv2d(width, width, 3, padding=1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.conv(nn.functional.interpolate(x, scale_factor=2.0, mode="nearest"))


class Stage(nn.Sequential):
    """Layers in a row; residual blocks are also told the time step, transformers the text."""

    def forward(self, x: torch.Tensor, embedded: torch.Tensor, context: torch.Tensor | None = None) -> torch.Tensor:
        for layer in self:
            if isinstance(layer, ResidualBlock):
                x = layer(x, embedded)
            elif isinstance(layer, Transformer2DModel):
                x = layer(x, context, return_dict=False)[0]
            else:
                x = layer(x)
        return x


class StagedNetwork(nn.Module):
    """Can forget what lies within a stage and compute it again for the gradient, under the name that diffusers has for it."""

    saving = False

    def enable_gradient_checkpointing(self) -> None:
        self.saving = True

    def run(self, stage: Stage, *given: torch.Tensor) -> torch.Tensor:
        if self.saving and torch.is_grad_enabled():
            return checkpoint(stage, *given, use_reentrant=False)
        return stage(*given)


def encoder_stages(
    first: nn.Conv2d,
    widths: Sequence[int],
    residual_blocks: int,
    residual: Callable[[int, int], nn.Module],
    attention: Callable[[int, int], list[nn.Module]],
    shrink: Callable[[int], nn.Module],
) -> tuple[nn.ModuleList, list[int]]:
    """The descending half of a UNet, and the width of what each of its stages puts out.

    widths: channels of every level. residual(inside, outside), attention(width, factor by which the picture has shrunk),
    which may give no layer at all, and shrink(width) make the layers.
    """
    width = first.out_channels
    stages, skips = [Stage(first)], [width]
    for level, outside in enumerate(widths):
        for _ in range(residual_blocks):
            stages.append(Stage(residual(width, outside), *attention(outside, 2**level)))
            width = outside
            skips.append(width)
        if level < len(widths) - 1:
            stages.append(Stage(shrink(width)))
            skips.append(width)
    return nn.ModuleList(stages), skips


def zeroed(layer: nn.Module) -> nn.Module:
    """The layer, all its parameters 0: a fresh branch then changes nothing."""
    for parameter in layer.parameters():
        nn.init.zeros_(parameter)
    return layer


class SelfAttention(nn.Module):
    """Attention among all pixels, added to them. Queries, keys and values lie together head by head."""

    def __init__(self, width: int, heads: int):
        super().__init__()
        self.heads = heads
        self.norm = nn.GroupNorm(GROUPS, width)
        self.qkv = nn.Conv1d(width, 3 * width, 1)
        self.proj_out = zeroed(nn.Conv1d(width, width, 1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """``[B, C, H, W]`` to the same."""
        pixels = x.flatten(2)
        # [B, heads, 3 * head width, N] to three of [B, heads, N, head width]
        q, k, v = self.qkv(self.norm(pixels)).unflatten(1, (self.heads, -1)).mT.chunk(3, -1)
        attended = nn.functional.scaled_dot_product_attention(q, k, v)
        return x + self.proj_out(attended.mT.flatten(1, 2)).view_as(x)
