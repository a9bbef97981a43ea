"""Stable Diffusion XL: network, VAE and the two text encoders, from a diffusers folder or from ComfyUI's single file.

The configurations are those that stabilityai published with SDXL (Podell et al. 2023), so nothing is looked up.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from accelerate import init_empty_weights
from diffusers import AutoencoderKL, UNet2DConditionModel
from diffusers.loaders.single_file_utils import (
    convert_ldm_clip_checkpoint,
    convert_ldm_unet_checkpoint,
    convert_ldm_vae_checkpoint,
    convert_open_clip_checkpoint,
)
from torch import nn

from . import clip_text
from .checkpoint import Part, Tensors, read_part
from .fit import filled

Config = dict[str, Any]

UNET: Config = {
    "sample_size": 128,
    "block_out_channels": (320, 640, 1280),
    "layers_per_block": 2,
    "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
    "up_block_types": ("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
    "transformer_layers_per_block": (1, 2, 10),
    "attention_head_dim": (5, 10, 20),
    "cross_attention_dim": 2048,
    "use_linear_projection": True,
    "addition_embed_type": "text_time",
    "addition_time_embed_dim": 256,
    "projection_class_embeddings_input_dim": 2816,
}
VAE: Config = {
    "sample_size": 1024,
    "block_out_channels": (128, 256, 512, 512),
    "layers_per_block": 2,
    "latent_channels": 4,
    "scaling_factor": 0.13025,
    "down_block_types": ("DownEncoderBlock2D",) * 4,
    "up_block_types": ("UpDecoderBlock2D",) * 4,
}
CLIP_L: Config = {
    "hidden_size": 768, "intermediate_size": 3072, "num_hidden_layers": 12, "num_attention_heads": 12, "projection_dim": 768,
    "hidden_act": "quick_gelu",
}  # fmt: skip
CLIP_G: Config = {
    "hidden_size": 1280, "intermediate_size": 5120, "num_hidden_layers": 32, "num_attention_heads": 20, "projection_dim": 1280,
    "hidden_act": "gelu",
}  # fmt: skip
PADDING = clip_text.END, 0  # what each text encoder was trained to see behind the text

ADVICE = "Choose an SDXL checkpoint: one .safetensors file in models/checkpoints, or a folder in diffusers format."


@dataclass(frozen=True)
class Topology:
    """The four configurations, by the names of their folders in diffusers format."""

    unet: Config
    vae: Config
    text_encoder: Config
    text_encoder_2: Config


@dataclass(frozen=True)
class Prompt:
    """Embedded text: words ``[1, 77, 2048]``, the last but one layer of both encoders; pooled ``[1, 1280]``, of the second."""

    words: torch.Tensor
    pooled: torch.Tensor


PUBLIC = Topology(UNET, VAE, CLIP_L, CLIP_G)


def load_sdxl(path: Path, topology: Topology = PUBLIC) -> tuple[UNet2DConditionModel, AutoencoderKL]:
    """Both in evaluation mode on the CPU, in the precision of the file.

    Raises UserError that names the file, and the tensor that does not fit.
    """
    networks = []
    for kind, part in ((UNet2DConditionModel, "unet"), (AutoencoderKL, "vae")):
        config = getattr(topology, part)
        with init_empty_weights():
            network = kind.from_config(config)
        networks.append(filled(network, _tensors(path, part, network, config), f"{path.name} ({part})", ADVICE))
    return tuple(networks)


@torch.no_grad()
def embed_text(path: Path, tokens: Sequence[int], topology: Topology = PUBLIC) -> Prompt:
    """The text of a checkpoint for token ids without start and end, in float32; the encoders are not kept.

    Raises UserError as `load_sdxl`.
    """
    words = []
    for part, fill in zip(("text_encoder", "text_encoder_2"), PADDING, strict=True):
        config = getattr(topology, part)
        empty = clip_text.empty_encoder(config)
        tensors = _tensors(path, part, empty, config)
        encoder = clip_text.encoder(empty, tensors, f"{path.name} ({part})", ADVICE)
        out = encoder(clip_text.text(tokens, fill), output_hidden_states=True)
        words.append(out.hidden_states[-2])
    return Prompt(torch.cat(words, -1), out.text_embeds)


def _tensors(path: Path, part: str, network: nn.Module, config: Config) -> Tensors:
    """One part of a checkpoint under the names of diffusers and transformers."""
    prefix, convert = SINGLE_FILE[part]
    return read_part(path, Part(part, prefix, lambda stored: convert(stored, network, config)), "SDXL", ADVICE)


# Where a single file keeps a part, and what brings (tensors, network, configuration) to the names of the network.
SINGLE_FILE: dict[str, tuple[str, Callable[[Tensors, nn.Module, Config], Tensors]]] = {
    "unet": ("model.diffusion_model.", lambda stored, network, config: convert_ldm_unet_checkpoint(stored, config)),
    "vae": ("first_stage_model.", lambda stored, network, config: convert_ldm_vae_checkpoint(stored, config)),
    "text_encoder": (
        "conditioner.embedders.0.transformer.",
        lambda stored, network, config: convert_ldm_clip_checkpoint(stored),
    ),
    "text_encoder_2": (
        "conditioner.embedders.1.model.",
        lambda stored, network, config: convert_open_clip_checkpoint(network, stored, "conditioner.embedders.1.model."),
    ),
}
