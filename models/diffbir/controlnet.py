"""DiffBIR's ControlNet: Stable Diffusion's encoder once more, shown the damaged picture's latent beside the noisy one.

diffbir/model/controlnet.py of XPixelGroup/DiffBIR, under its parameter names: v1_face.pth, v1_general.pth, v2.pth and
DiffBIR_v2.1.pt load as they are. The spatial transformers are diffusers', whose names are the published ones already.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from diffusers import Transformer2DModel
from torch import nn

from ..shared.public_weights import load_public
from ..shared.residual_blocks import (
    ResidualBlock,
    Shrink,
    Stage,
    StagedNetwork,
    TimestepEmbedding,
    encoder_stages,
    zeroed,
)


class DiffBIRControlNet(StagedNetwork):
    """Arguments are named as in DiffBIR's configurations; the defaults are those of all its published files.

    attention_resolutions: factors by which the latent has shrunk where a transformer follows every residual block.
    """

    def __init__(
        self,
        in_channels: int = 4,
        hint_channels: int = 4,
        model_channels: int = 320,
        channel_mult: Sequence[int] = (1, 2, 4, 4),
        num_res_blocks: int = 2,
        attention_resolutions: Sequence[int] = (4, 2, 1),
        num_head_channels: int = 64,
        transformer_depth: int = 1,
        context_dim: int = 1024,
        use_linear_in_transformer: bool = True,
    ):
        super().__init__()
        widths = [model_channels * multiple for multiple in channel_mult]

        def residual(inside: int, outside: int) -> ResidualBlock:
            return ResidualBlock(inside, outside, 4 * model_channels)

        def transformer(width: int) -> Transformer2DModel:
            return Transformer2DModel(
                num_attention_heads=width // num_head_channels,
                attention_head_dim=num_head_channels,
                in_channels=width,
                num_layers=transformer_depth,
                cross_attention_dim=context_dim,
                use_linear_projection=use_linear_in_transformer,
            )

        def attention(width: int, factor: int) -> list[nn.Module]:
            return [transformer(width)] if factor in attention_resolutions else []

        self.time_embed = TimestepEmbedding(model_channels)
        first = nn.Conv2d(in_channels + hint_channels, model_channels, 3, padding=1)
        self.input_blocks, outputs = encoder_stages(first, widths, num_res_blocks, residual, attention, Shrink)
        inner = widths[-1]
        self.middle_block = Stage(residual(inner, inner), transformer(inner), residual(inner, inner))
        # Nested once, as published: zero_convs.N.0.weight
        self.zero_convs = nn.ModuleList(nn.Sequential(zeroed(nn.Conv2d(width, width, 1))) for width in outputs)
        self.middle_block_out = nn.Sequential(zeroed(nn.Conv2d(inner, inner, 1)))

    def forward(
        self, x: torch.Tensor, hint: torch.Tensor, timesteps: torch.Tensor, context: torch.Tensor
    ) -> list[torch.Tensor]:
        """What to add to the UNet's skip connections, first to last, and, last of the list, to its middle: 12 + 1 maps.

        x: noisy latent ``[B, 4, h, w]``; hint: latent of the cleaned picture, ``0.18215 * mode``, ``[B, 4, h, w]``;
        timesteps: index 0..999, ``[B]``; context: text embedding ``[B, 77, 1024]``, that of the empty prompt in DiffBIR.
        Output n is ``[B, width, h / 2**level, w / 2**level]``; a control strength multiplies it.
        """
        embedded = self.time_embed(timesteps)
        h = torch.cat([x, hint], 1)
        outputs = []
        for stage, zero_conv in zip(self.input_blocks, self.zero_convs, strict=True):
            h = self.run(stage, h, embedded, context)
            outputs.append(zero_conv(h))
        return [*outputs, self.middle_block_out(self.run(self.middle_block, h, embedded, context))]


def load_diffbir_controlnet(path: Path, **config) -> DiffBIRControlNet:
    """A published ControlNet for inference; config as DiffBIR's configuration has it, none for the published files.

    Raises UserError, naming file and tensor, if it is missing, damaged or of another shape.
    """
    return load_public(DiffBIRControlNet(**config), path, "v1_face.pth, v2.pth or DiffBIR_v2.1.pt of DiffBIR")
