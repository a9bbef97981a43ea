"""SD-Turbo as a one-step network: encode, one call of the UNet at t = 999, the clean latent, decode.

Read from a diffusers folder or from the single .safetensors file that ComfyUI keeps in ``models/checkpoints``. The
configurations are those that stabilityai published with SD-Turbo (Stable Diffusion 2.1), so nothing is looked up.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL, ModelMixin, UNet2DConditionModel
from diffusers.loaders.single_file_utils import (
    convert_ldm_unet_checkpoint,
    convert_ldm_vae_checkpoint,
    convert_open_clip_checkpoint,
)
from torch import nn
from transformers import CLIPTextModelWithProjection

from ...lib.diffusion.noise_schedule import stable_diffusion_schedule
from . import clip_text, sd_vae
from .checkpoint import Part, Tensors, read_part
from .fit import filled
from .precision import settle_precision

UNET = {
    "sample_size": 64,
    "block_out_channels": (320, 640, 1280, 1280),
    "layers_per_block": 2,
    "attention_head_dim": (5, 10, 20, 20),
    "cross_attention_dim": 1024,
    "use_linear_projection": True,
}
VAE = {
    "sample_size": 768,
    "block_out_channels": (128, 256, 512, 512),
    "layers_per_block": 2,
    "latent_channels": 4,
    "down_block_types": ("DownEncoderBlock2D",) * 4,
    "up_block_types": ("UpDecoderBlock2D",) * 4,
}
# OpenCLIP ViT-H without its last layer, whose place the final normalization takes.
TEXT = {
    "hidden_size": 1024, "intermediate_size": 4096, "num_hidden_layers": 23, "num_attention_heads": 16, "projection_dim": 1024,
    "hidden_act": "gelu",
}  # fmt: skip
TEXT_PREFIXES = (
    "cond_stage_model.model.",
    "conditioner.embedders.0.model.",
)  # of Stable Diffusion 2's code and of SDXL's
PADDING = 0  # what the text encoder was trained to see behind the text
TIMESTEP = 999
ALPHA_BAR = stable_diffusion_schedule().left(TIMESTEP + 1)

ADVICE = (
    "Choose stabilityai/sd-turbo (Stability AI Community License, 5.2 GB): sd_turbo.safetensors from ComfyUI's "
    "models/checkpoints, or the folder with unet/, vae/ and text_encoder/ in diffusers format."
)


class SDTurbo(nn.Module):
    """The UNet and the VAE. Pictures are ``[B, 3, H, W]`` in -1..1, latents ``[B, 4, H / 8, W / 8]``, both float32."""

    def __init__(self, unet: UNet2DConditionModel, vae: AutoencoderKL):
        super().__init__()
        self.unet, self.vae = unet, vae
        # Follows the network; its weights may stay in main memory until they are used.
        self.register_buffer("place", torch.empty(0), persistent=False)

    @property
    def device(self) -> torch.device:
        """Where it computes."""
        return self.place.device

    def encode(self, picture: torch.Tensor, noise: torch.Tensor | None = None) -> torch.Tensor:
        """Scaled latent: a draw from the posterior with standard normal noise of the latent's shape, or without it the mean."""
        return sd_vae.encode(self.vae, picture, noise)

    def predict(self, latent: torch.Tensor, positive: torch.Tensor, negative: torch.Tensor, cfg: float) -> torch.Tensor:
        """The noise that the UNet sees in a latent (Face2Scene, section 3.3): z_neg + cfg * (z_pos - z_neg).

        positive, negative: embedded prompts ``[1 or B, N, C]``, of one length. A cfg of 1 asks only the positive branch.
        """
        count = len(latent)
        if cfg == 1:
            return self._noise(latent, positive.expand(count, -1, -1))
        text = torch.cat([negative.expand(count, -1, -1), positive.expand(count, -1, -1)])
        away, towards = self._noise(latent.repeat(2, 1, 1, 1), text).chunk(2)
        return away + cfg * (towards - away)

    def clean(self, latent: torch.Tensor, noise: torch.Tensor) -> torch.Tensor:
        """x0: the scaled latent without the predicted noise."""
        return (latent - math.sqrt(1 - ALPHA_BAR) * noise) / math.sqrt(ALPHA_BAR)

    def decode(self, latent: torch.Tensor) -> torch.Tensor:
        """A scaled latent's picture; a large one is in main memory."""
        return sd_vae.decode_latent(self.vae, latent).clamp(-1, 1)

    def _noise(self, latent: torch.Tensor, text: torch.Tensor) -> torch.Tensor:
        dtype = self.unet.dtype
        return self.unet(latent.to(dtype), TIMESTEP, encoder_hidden_states=text.to(latent.device, dtype)).sample.float()


def load_sd_turbo(
    path: Path,
    dtype: torch.dtype = torch.float32,
    unet_config: dict[str, Any] = UNET,
    vae_config: dict[str, Any] = VAE,
) -> SDTurbo:
    """The network in evaluation mode on the CPU. path: a diffusers folder, or a single .safetensors checkpoint.

    Raises UserError that names the file, and the tensor that does not fit.
    """
    return _turbo(*networks(path, "SD-Turbo", ADVICE, unet_config, vae_config)).to(dtype)


def load_settled(path: Path) -> SDTurbo:
    """The network in the precision that suits the device and the user."""
    turbo = load_sd_turbo(path)
    settle_precision([turbo.unet], [turbo.vae], torch.float16)
    return turbo


def networks(
    path: Path, model: str, advice: str, unet_config: dict[str, Any] = UNET, vae_config: dict[str, Any] = VAE
) -> tuple[UNet2DConditionModel, AutoencoderKL]:
    """UNet and VAE of a folder or a single file of this architecture, in the precision of the file.

    Raises UserError that begins with the model's name or names the tensor that does not fit.
    """
    unet = Part("unet", "model.diffusion_model.", lambda stored: _unet(stored, unet_config))
    vae = Part("vae", "first_stage_model.", lambda stored: convert_ldm_vae_checkpoint(stored, vae_config))
    return (
        _built(UNet2DConditionModel, unet_config, read_part(path, unet, model, advice), f"{path.name} (UNet)", advice),
        _built(AutoencoderKL, vae_config, read_part(path, vae, model, advice), f"{path.name} (VAE)", advice),
    )


def assemble(
    unet: Tensors, vae: Tensors, unet_config: dict[str, Any], vae_config: dict[str, Any], where: str
) -> SDTurbo:
    """The network around tensors under diffusers' names, which it keeps. Raises UserError if they do not fit."""
    return _turbo(
        _built(UNet2DConditionModel, unet_config, unet, f"{where} (UNet)", ADVICE),
        _built(AutoencoderKL, vae_config, vae, f"{where} (VAE)", ADVICE),
    )


def _turbo(unet: UNet2DConditionModel, vae: AutoencoderKL) -> SDTurbo:
    return SDTurbo(unet, vae).eval().requires_grad_(False)


@torch.no_grad()
def embed_prompts(path: Path, prompts: Sequence[Sequence[int]], config: dict[str, Any] = TEXT) -> list[torch.Tensor]:
    """Embedded prompts, float32 ``[1, 77, 1024]`` each, of token ids without start and end. The text encoder is not kept.

    Raises UserError as `load_sd_turbo`.
    """
    encoder = text_encoder(path, "SD-Turbo", ADVICE, config)
    return [encoder(clip_text.text(tokens, PADDING)).last_hidden_state for tokens in prompts]


def text_encoder(path: Path, model: str, advice: str, config: dict[str, Any] = TEXT) -> CLIPTextModelWithProjection:
    """Of a folder or a single file of this architecture, in float32. Raises UserError that begins with the model's name."""
    empty = clip_text.empty_encoder(config)
    part = Part("text_encoder", TEXT_PREFIXES, lambda stored: _text(stored, empty))
    return clip_text.encoder(empty, read_part(path, part, model, advice), f"{path.name} (text_encoder)", advice)


def _unet(stored: Tensors, config: dict[str, Any]) -> Tensors:
    plain = {name: tensor for name, tensor in stored.items() if ".spade." not in name}  # StableSR's, among them
    return convert_ldm_unet_checkpoint(plain, config)


def _text(stored: Tensors, empty: CLIPTextModelWithProjection) -> Tensors:
    first, second = TEXT_PREFIXES
    # Under the first prefix diffusers leaves out the last layer, which was not trained with.
    named = {first + name.removeprefix(first).removeprefix(second): tensor for name, tensor in stored.items()}
    return convert_open_clip_checkpoint(empty, named, first)


def _built(kind: type[ModelMixin], config: dict[str, Any], tensors: Tensors, where: str, advice: str) -> Any:
    with torch.device("meta"):
        empty = kind.from_config(config)
    return filled(empty, tensors, where, advice)
