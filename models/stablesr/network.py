"""StableSR (Wang et al. 2024): Stable Diffusion 2.1 in whose residual blocks the damaged picture scales and shifts what they compute.

ldm/modules/diffusionmodules/openaimodel.py and ldm/modules/spade.py of IceClear/StableSR. Its UNet is Stable Diffusion's, frozen;
what it learned is the control: `StructureEncoder`. PFStorer's base is this, tuned on faces. A published file, such as
stablesr_000117.ckpt, holds all of it; those made for web interfaces hold the control alone.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from diffusers.models.resnet import ResnetBlock2D
from torch import nn
from torch.utils.checkpoint import checkpoint

from ...lib.vocabulary import UserError
from ..shared import stable_diffusion
from ..shared.checkpoint import checkpoint_tensors
from ..shared.clip_words import ClipWords
from ..shared.fit import check_fit
from ..shared.residual_blocks import (
    GROUPS,
    ResidualBlock,
    SelfAttention,
    Shrink,
    Stage,
    StagedNetwork,
    TimestepEmbedding,
    encoder_stages,
)
from ..shared.stable_diffusion import PUBLIC, StableDiffusion, Topology

Modulate = Callable[[torch.Tensor], torch.Tensor]

HIDDEN = 128  # channels inside a Modulation
# The residual blocks of Stable Diffusion's UNet by their published names, from the first to the last, and how often the latent has
# been halved there.
PLACES = (
    *(f"input_blocks.{n}.0" for n in (1, 2, 4, 5, 7, 8, 10, 11)),
    *("middle_block.0", "middle_block.2"),
    *(f"output_blocks.{n}.0" for n in range(12)),
)
LEVELS = 0, 0, 1, 1, 2, 2, 3, 3, 3, 3, 3, 3, 3, 2, 2, 2, 1, 1, 1, 0, 0, 0
ENCODER = "structcond_stage_model."
SPADES = tuple(f"model.diffusion_model.{place}.spade." for place in PLACES)

ADVICE = (
    "Choose stablesr_000117.ckpt, stablesr_768v_000139.ckpt or stablesr_turbo.ckpt of StableSR, or one of its files "
    "for web interfaces."
)


class Modulation(nn.Module):
    """SPADE (Park et al. 2019): the features, normalized, times 1 + gamma(guide), plus beta(guide)."""

    def __init__(self, width: int, guide: int):
        super().__init__()
        self.param_free_norm = nn.GroupNorm(GROUPS, width)  # called so, but it has parameters
        self.mlp_shared = nn.Sequential(nn.Conv2d(guide, HIDDEN, 3, padding=1), nn.ReLU())
        self.mlp_gamma = nn.Conv2d(HIDDEN, width, 3, padding=1)
        self.mlp_beta = nn.Conv2d(HIDDEN, width, 3, padding=1)

    def forward(self, x: torch.Tensor, guide: torch.Tensor, strength: float | torch.Tensor = 1.0) -> torch.Tensor:
        """``[B, width, h, w]`` and ``[B, guide, h, w]`` to the former's shape. strength: 0 gives x, 1 all of it, exactly."""
        seen = self.mlp_shared(guide)
        modulated = self.param_free_norm(x) * (1 + self.mlp_gamma(seen)) + self.mlp_beta(seen)
        return torch.lerp(x, modulated.to(x), strength.to(x) if isinstance(strength, torch.Tensor) else strength)


class StructureEncoder(StagedNetwork):
    """The time-aware encoder, half a UNet that is shown the damaged picture's latent, and the modulation of every residual block.

    Arguments are named as in StableSR's configurations; the defaults are those of all its published files. widths: of the UNet that
    is modulated, per level.
    """

    def __init__(
        self,
        in_channels: int = 4,
        model_channels: int = 256,
        out_channels: int = 256,
        num_res_blocks: int = 2,
        attention_resolutions: Sequence[int] = (4, 2, 1),
        channel_mult: Sequence[int] = (1, 1, 2, 2),
        num_heads: int = 4,
        widths: Sequence[int] = (320, 640, 1280, 1280),
    ):
        super().__init__()
        own = [model_channels * multiple for multiple in channel_mult]

        def residual(inside: int, outside: int) -> ResidualBlock:
            return ResidualBlock(inside, outside, 4 * model_channels)

        def attention(width: int, factor: int) -> list[nn.Module]:
            return [SelfAttention(width, num_heads)] if factor in attention_resolutions else []

        self.time_embed = TimestepEmbedding(model_channels)
        first = nn.Conv2d(in_channels, model_channels, 3, padding=1)
        self.input_blocks, _ = encoder_stages(first, own, num_res_blocks, residual, attention, Shrink)
        inner = own[-1]
        self.middle_block = Stage(residual(inner, inner), SelfAttention(inner, num_heads), residual(inner, inner))
        self.fea_tran = nn.ModuleList(residual(width, out_channels) for width in own)
        self.spade = nn.ModuleList(Modulation(widths[level], out_channels) for level in LEVELS)

    def forward(self, hint: torch.Tensor, timesteps: torch.Tensor) -> list[torch.Tensor]:
        """What it sees at every level, ``[B, 256, h / 2**level, w / 2**level]``, the finest first.

        hint: latent of the damaged picture, ``0.18215 * mode``, ``[B, 4, h, w]``; timesteps: the UNet's, index 0..999, ``[B]``.
        """
        embedded = self.time_embed(timesteps)
        h, seen = hint, []
        for stage in self.input_blocks:
            if isinstance(stage[0], Shrink):
                seen.append(h)
            h = self.run(stage, h, embedded)
        seen.append(self.run(self.middle_block, h, embedded))
        return [self.run(block, one, embedded) for block, one in zip(self.fea_tran, seen, strict=True)]

    def modulations(self, guides: Sequence[torch.Tensor], strength: float | torch.Tensor) -> list[Modulate]:
        """What is to be done in each residual block of the UNet, of what `forward` gave."""
        return [
            partial(one, guide=guides[level], strength=strength) for one, level in zip(self.spade, LEVELS, strict=True)
        ]


class ModulatedBlock(ResnetBlock2D):
    """A residual block of diffusers that changes what its convolutions give before that is added to what came in.

    modulation: for the pass of the network that goes on; without one it is diffusers' block.
    """

    modulation: Modulate | None = None

    def forward(self, input_tensor: torch.Tensor, temb: torch.Tensor) -> torch.Tensor:
        return self.under(self.modulation, input_tensor, temb)

    def under(self, modulation: Modulate | None, x: torch.Tensor, temb: torch.Tensor) -> torch.Tensor:
        if modulation is None:
            return super().forward(x, temb)
        h = self.conv1(self.nonlinearity(self.norm1(x)))
        h = h + self.time_emb_proj(self.nonlinearity(temb))[:, :, None, None]
        h = self.conv2(self.dropout(self.nonlinearity(self.norm2(h))))
        return (x if self.conv_shortcut is None else self.conv_shortcut(x)) + modulation(h)


class StableSR(StableDiffusion):
    """The UNet keeps its layers and their names; its residual blocks learn to be modulated. The control takes no text."""

    control: StructureEncoder

    def __init__(
        self,
        unet: UNet2DConditionModel,
        vae: AutoencoderKL,
        text: ClipWords,
        control: StructureEncoder,
        velocity: bool = False,
    ):
        for block in residual_blocks(unet):
            block.__class__ = ModulatedBlock
        super().__init__(unet, vae, text, control, velocity)
        self.native_size = 768 if velocity else 512

    def steered(
        self,
        shown: torch.Tensor,
        told: torch.Tensor,
        t: torch.Tensor,
        text: torch.Tensor | None,
        strength: float | torch.Tensor,
    ) -> torch.Tensor:
        blocks = residual_blocks(self.unet)
        try:
            modulations = self.control.modulations(self.control(told, t), strength)
            for block, modulation in zip(blocks, modulations, strict=True):
                block.modulation = modulation
            return self.predict(shown, t, text, {})
        finally:
            for block in blocks:
                block.modulation = None

    def enable_gradient_checkpointing(self) -> None:
        super().enable_gradient_checkpointing()
        self.unet.enable_gradient_checkpointing(_checkpoint)


def residual_blocks(unet: UNet2DConditionModel) -> list[ResnetBlock2D]:
    """As `PLACES` has them."""
    return [block for part in (*unet.down_blocks, unet.mid_block, *unet.up_blocks) for block in part.resnets]


def _checkpoint(layer: nn.Module, *given) -> torch.Tensor:
    """diffusers' gradient checkpointing. When the gradient comes back the modulation is over, so it is given along."""
    if isinstance(layer, ModulatedBlock):
        return checkpoint(layer.under, layer.modulation, *given, use_reentrant=False)
    return checkpoint(layer, *given, use_reentrant=False)


def load_stablesr(
    path: Path,
    base: Path | None = None,
    tokenizer: Path | None = None,
    topology: Topology = PUBLIC,
    **config,
) -> StableSR:
    """On the CPU, in the precision of the files. base: Stable Diffusion 2.1 for a file that holds the control alone; tokenizer and
    topology as for `stable_diffusion.load_stable_diffusion`; config as StableSR's configuration has it, none for the published files.

    Raises UserError that names the file, and the tensor that does not fit.
    """
    control = load_structure_encoder(path, **config)
    if base is None and not checkpoint_tensors(path, "first_stage_model.quant_conv.", "StableSR", ADVICE):
        raise UserError(
            f"StableSR: {path.name} contains only the control. Also choose the Stable Diffusion 2.1 that it was made "
            "for: base (512), or the 768 version for 768v."
        )
    net = stable_diffusion.load_stable_diffusion(base or path, tokenizer, topology=topology)
    return StableSR(net.unet, net.vae, net.text, control, net.velocity)


def load_structure_encoder(path: Path, **config) -> StructureEncoder:
    """Frozen, in evaluation mode. Raises UserError as `load_stablesr`."""
    with torch.device("meta"):
        empty = StructureEncoder(**config)
    expected = {public_name(name): (name, value) for name, value in empty.state_dict().items()}
    tensors = checkpoint_tensors(path, (ENCODER, *SPADES), "StableSR", ADVICE)
    check_fit({name: value for name, (_, value) in expected.items()}, tensors, f"StableSR: {path.name}", ADVICE)
    empty.load_state_dict({expected[name][0]: value for name, value in tensors.items()}, assign=True)
    return empty.eval().requires_grad_(False)


def public_name(name: str) -> str:
    """Of a tensor of `StructureEncoder` in StableSR's files."""
    if not name.startswith("spade."):
        return ENCODER + name
    _, index, rest = name.split(".", 2)
    return SPADES[int(index)] + rest
