"""guided-diffusion's UNet (ADM, "Diffusion Models Beat GANs on Image Synthesis"), the pixel-space prior of Restoration by
Generation, under its published parameter names: gen2res's ``base_256.pt`` loads as it is.
"""

from __future__ import annotations

import json
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
from diffusers.models.unets.unet_2d import UNet2DOutput
from torch import nn

from ...lib.storage.tensors import opened_tensors, write_tensors
from ...lib.vocabulary import UserError
from ..shared.public_weights import advice, load_public, read_public
from ..shared.residual_blocks import (
    GROUPS,
    Grow,
    ResidualBlock,
    SelfAttention,
    Shrink,
    Stage,
    StagedNetwork,
    TimestepEmbedding,
    encoder_stages,
    zeroed,
)

# guided_diffusion/script_util.py: what an empty channel_mult stands for.
MULTIPLES = {512: "0.5,1,1,2,2,4,4", 256: "1,1,2,2,4,4", 128: "1,1,2,3,4", 64: "1,2,3,4"}

# Flags of the two models of the paper's table 1, by the size of their pictures; the first is base_256.pt.
SIZES: dict[int, dict[str, Any]] = {
    256: {},
    512: {"image_size": 512, "num_channels": 256, "num_head_channels": 64, "attention_resolutions": "32,16,8"},
}
KIND = "generator"


class ADMUNet(StagedNetwork):
    """Arguments are named and written like the flags that guided-diffusion's checkpoints are published with.

    image_size fixes only where attention sits: at pictures of ``image_size / r`` for r of attention_resolutions (such as
    "32,16,8"); any picture whose sides halve evenly will do. num_head_channels -1: num_heads heads of any width.
    learn_sigma: the output is (noise, variance between its bounds) instead of the noise alone.
    The defaults are those of gen2res, hence of base_256.pt; its paper's table 1 says heads of 128 channels, its code one head.
    """

    def __init__(
        self,
        image_size: int = 256,
        num_channels: int = 128,
        num_res_blocks: int = 2,
        num_heads: int = 1,
        num_head_channels: int = -1,
        attention_resolutions: str = "16",
        channel_mult: str = "",
        dropout: float = 0.1,
        use_scale_shift_norm: bool = True,
        resblock_updown: bool = True,
        learn_sigma: bool = True,
    ):
        super().__init__()
        widths = [int(float(m) * num_channels) for m in (channel_mult or MULTIPLES[image_size]).split(",")]
        factors = {image_size // int(resolution) for resolution in attention_resolutions.split(",")}

        def residual(inside: int, outside: int, resample: nn.Module | None = None) -> ResidualBlock:
            return ResidualBlock(inside, outside, 4 * num_channels, dropout, use_scale_shift_norm, resample)

        def attend(width: int) -> SelfAttention:
            return SelfAttention(width, num_heads if num_head_channels == -1 else width // num_head_channels)

        def attention(width: int, factor: int) -> list[nn.Module]:
            return [attend(width)] if factor in factors else []

        def shrink(width: int) -> nn.Module:
            return residual(width, width, nn.AvgPool2d(2)) if resblock_updown else Shrink(width)

        def grow(width: int) -> nn.Module:
            return residual(width, width, nn.Upsample(scale_factor=2.0)) if resblock_updown else Grow(width)

        self.time_embed = TimestepEmbedding(num_channels)
        first = nn.Conv2d(3, widths[0], 3, padding=1)
        self.input_blocks, skips = encoder_stages(first, widths, num_res_blocks, residual, attention, shrink)
        inner = widths[-1]
        self.middle_block = Stage(residual(inner, inner), attend(inner), residual(inner, inner))
        self.output_blocks = nn.ModuleList()
        for level, outside in reversed(list(enumerate(widths))):
            for index in range(num_res_blocks + 1):
                layers = [residual(inner + skips.pop(), outside), *attention(outside, 2**level)]
                if level > 0 and index == num_res_blocks:
                    layers.append(grow(outside))
                self.output_blocks.append(Stage(*layers))
                inner = outside
        last = nn.Conv2d(inner, 6 if learn_sigma else 3, 3, padding=1)
        self.out = nn.Sequential(nn.GroupNorm(GROUPS, inner), nn.SiLU(), zeroed(last))

    def forward(self, x: torch.Tensor, timestep: torch.Tensor | int) -> UNet2DOutput:
        """As diffusers' UNet2DModel is called. x: noisy pictures ``[B, 3, H, W]`` around -1..1; timestep: index 0..999, for
        all or ``[B]``. ``sample`` is ``[B, 6, H, W]``: predicted noise and, -1..1, the place of the variance in its range.
        """
        embedded = self.time_embed(torch.as_tensor(timestep, device=x.device).expand(len(x)))
        skips = []
        for stage in self.input_blocks:
            x = self.run(stage, x, embedded)
            skips.append(x)
        x = self.run(self.middle_block, x, embedded)
        for stage in self.output_blocks:
            x = self.run(stage, torch.cat([x, skips.pop()], 1), embedded)
        return UNet2DOutput(sample=self.out(x))


def load_adm_unet(path: Path, **flags) -> ADMUNet:
    """A published guided-diffusion checkpoint for inference; flags are those it was trained with, none for base_256.pt.

    Raises UserError, naming file and tensor, if it is missing, damaged or of another shape.
    """
    return load_public(ADMUNet(**flags), path, "base_256.pt of gen2res, or a checkpoint that fits the flags given,")


def save_generator(path: Path, network: ADMUNet, flags: dict[str, Any], provenance: dict[str, Any]) -> None:
    """A trained prior as one file, with the flags that it is built from."""
    texts = {"kind": KIND, "flags": json.dumps(flags), "provenance": json.dumps(provenance)}
    write_tensors(path, network.state_dict(), texts)


def read_flags(path: Path) -> dict[str, Any]:
    """The flags of a file that `save_generator` wrote or, of one that guided-diffusion wrote, those of `SIZES` that have its width.

    Raises UserError for another file.
    """
    what = "a model from Train Generator, or one of guided-diffusion for pictures of 256 or 512 px,"
    if path.suffix == ".safetensors":
        with suppress(LookupError, ValueError), opened_tensors(path) as file:
            if file.metadata["kind"] == KIND:
                return dict(json.loads(file.metadata["flags"]))
    else:
        first = read_public(path, what).get("time_embed.0.weight", torch.empty(0, 0))
        for flags in SIZES.values():
            if first.shape[-1] == flags.get("num_channels", 128):
                return flags
    raise UserError(f"{path.name} is no face model that is known here. {advice(what)}")
