"""SDXL and FaceMe's public files in a size for tests: same topology, narrow, random."""

from __future__ import annotations

import re
from pathlib import Path

import torch
from diffusers import AutoencoderKL, ControlNetModel, UNet2DConditionModel
from personal_restore.models.faceme import network as faceme
from personal_restore.models.shared import sdxl
from personal_restore.tests.stability_names import open_clip, unet_name, vae_entry
from safetensors.torch import save_file
from transformers import CLIPTextConfig, CLIPTextModelWithProjection, CLIPVisionConfig

IDENTITY = 6
TEXT = {
    "hidden_size": 16,
    "intermediate_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "projection_dim": 16,
}
VISION = faceme.VISION | TEXT | {"patch_size": 56}
NARROW = {
    "block_out_channels": (8, 8, 16), "norm_num_groups": 4, "transformer_layers_per_block": (1, 1, 2),
    "attention_head_dim": (2, 2, 2), "cross_attention_dim": 32, "addition_time_embed_dim": 8,
    "projection_class_embeddings_input_dim": 16 + 6 * 8,
}  # fmt: skip
TOPOLOGY = sdxl.Topology(
    sdxl.UNET | NARROW,
    sdxl.VAE | {"block_out_channels": (8, 8, 8, 16), "norm_num_groups": 4},
    sdxl.CLIP_L | TEXT,
    sdxl.CLIP_G | TEXT,
)
CONTROLNET = faceme.CONTROLNET | NARROW | {"conditioning_embedding_out_channels": (4, 4, 8, 8)}


def parts(topology: sdxl.Topology = TOPOLOGY) -> dict[str, torch.nn.Module]:
    """The four parts of SDXL by their folder's name."""
    return {
        "unet": UNet2DConditionModel.from_config(topology.unet),
        "vae": AutoencoderKL.from_config(topology.vae),
        "text_encoder": CLIPTextModelWithProjection(CLIPTextConfig(vocab_size=49408, **topology.text_encoder)),
        "text_encoder_2": CLIPTextModelWithProjection(CLIPTextConfig(vocab_size=49408, **topology.text_encoder_2)),
    }


def single_file(networks: dict[str, torch.nn.Module]) -> dict[str, torch.Tensor]:
    """Under the names of Stability's own file."""
    named = {}
    for name, tensor in networks["unet"].state_dict().items():
        if name.startswith("add_embedding."):
            place = {"linear_1": "0", "linear_2": "2"}[name.split(".")[1]]
            named[f"model.diffusion_model.label_emb.0.{place}.{name.rpartition('.')[2]}"] = tensor
        else:
            # Here the first block of the decoder has attention too, so its upsampler comes third.
            named[re.sub(r"(output_blocks\.2)\.1\.(conv)", r"\1.2.\2", unet_name(name))] = tensor
    named |= dict(vae_entry(name, tensor) for name, tensor in networks["vae"].state_dict().items())
    for name, tensor in networks["text_encoder"].state_dict().items():
        if name != "text_projection.weight":
            named[f"conditioner.embedders.0.transformer.{name}"] = tensor
    return {
        name: tensor.contiguous()
        for name, tensor in (named | open_clip(networks["text_encoder_2"], "conditioner.embedders.1.model.")).items()
    }


def write_public_files(folder: Path) -> faceme.Files:
    """All that FaceMe needs, but for ArcFace, with random weights."""
    torch.manual_seed(0)
    controlnet = ControlNetModel.from_config(CONTROLNET)
    encoder = faceme.PhotoMakerEncoder(CLIPVisionConfig(**VISION), 16)
    mix = faceme.Mix(32, IDENTITY)
    for network in (controlnet, encoder, mix):
        for tensor in network.parameters():
            torch.nn.init.normal_(tensor, std=0.2)  # the connections of a fresh ControlNet are zero
    files = faceme.Files(
        folder / "base.safetensors",
        folder / "controlnet.safetensors",
        folder / "mix.safetensors",
        folder / "photomaker.bin",
    )
    base = parts()
    for name, tensor in base["unet"].named_parameters():
        if "attn2" in name:
            torch.nn.init.normal_(tensor)  # else nothing so small would listen to its text
    save_file(single_file(base), files.base)
    save_file(controlnet.state_dict(), files.controlnet)
    save_file(mix.state_dict(), files.mix)
    adapter = {
        "unet.down_blocks.1.attentions.0.transformer_blocks.0.attn1.processor.to_q_lora.down.weight": torch.ones(4, 8)
    }
    position_ids = {"vision_model.embeddings.position_ids": torch.arange(17)[None]}
    torch.save({"id_encoder": encoder.state_dict() | position_ids, "lora_weights": adapter}, files.photomaker)
    return files
