"""The names of tensors in Stability's own files, from those of diffusers and transformers."""

from __future__ import annotations

import re

import torch

RESNET = {
    "norm1": "in_layers.0", "conv1": "in_layers.2", "norm2": "out_layers.0", "conv2": "out_layers.3",
    "time_emb_proj": "emb_layers.1", "conv_shortcut": "skip_connection",
}  # fmt: skip
UNET_TOP = {
    "time_embedding.linear_1": "time_embed.0", "time_embedding.linear_2": "time_embed.2",
    "conv_in": "input_blocks.0.0", "conv_norm_out": "out.0", "conv_out": "out.2",
}  # fmt: skip


def unet_name(name: str) -> str:
    """The name in Stability's own files, for two layers per block."""
    for ours, theirs in UNET_TOP.items():
        if name.startswith(f"{ours}."):
            return f"model.diffusion_model.{theirs}{name.removeprefix(ours)}"
    side, block, kind, index, rest = re.fullmatch(
        r"(down_blocks|mid_block|up_blocks)\.?(\d*)\.(resnets|attentions|downsamplers|upsamplers)\.(\d)\.(.+)", name
    ).groups()
    index = int(index)
    if kind == "resnets":
        part, _, last = rest.rpartition(".")
        rest = f"{RESNET[part]}.{last}"
    place = {"resnets": 0, "attentions": 1}.get(kind)
    if side == "mid_block":
        where = f"middle_block.{2 * index if kind == 'resnets' else 1}"
    elif side == "down_blocks":
        where = f"input_blocks.{1 + 3 * int(block) + index}.{place}" if place is not None else ""
        if kind == "downsamplers":
            where, rest = f"input_blocks.{3 + 3 * int(block)}.0", rest.replace("conv", "op")
    elif kind == "upsamplers":
        where = f"output_blocks.{3 * int(block) + 2}.{1 if block == '0' else 2}"
    else:
        where = f"output_blocks.{3 * int(block) + index}.{place}"
    return f"model.diffusion_model.{where}.{rest}"


def vae_entry(name: str, tensor: torch.Tensor) -> tuple[str, torch.Tensor]:
    """Name and tensor in Stability's own files, for four levels; attention is made of 1x1 convolutions there."""
    name = re.sub(r"up_blocks\.(\d)", lambda found: f"up.{3 - int(found[1])}", name.replace("down_blocks", "down"))
    name = re.sub(r"mid_block\.resnets\.(\d)", lambda found: f"mid.block_{int(found[1]) + 1}", name)
    name = (
        name.replace("resnets", "block").replace("conv_shortcut", "nin_shortcut").replace("conv_norm_out", "norm_out")
    )
    name = name.replace("downsamplers.0", "downsample").replace("upsamplers.0", "upsample")
    if "attentions" in name:
        name = name.replace("mid_block.attentions.0", "mid.attn_1").replace("to_out.0", "proj_out")
        name = name.replace("group_norm", "norm").replace("to_", "")
        tensor = tensor[..., None, None] if tensor.ndim == 2 else tensor
    return f"first_stage_model.{name}", tensor


def open_clip(encoder: torch.nn.Module, prefix: str) -> dict[str, torch.Tensor]:
    """A text encoder of transformers under OpenCLIP's names."""
    tensors, named = encoder.state_dict(), {}
    renamed = {
        "text_model.embeddings.position_embedding.weight": "positional_embedding",
        "text_model.embeddings.token_embedding.weight": "token_embedding.weight",
        "text_model.final_layer_norm.": "ln_final.", "text_model.encoder.layers.": "transformer.resblocks.",
        "self_attn.out_proj": "attn.out_proj", "layer_norm": "ln_", "mlp.fc1": "mlp.c_fc", "mlp.fc2": "mlp.c_proj",
    }  # fmt: skip
    for name, tensor in tensors.items():
        for ours, theirs in renamed.items():
            name = name.replace(ours, theirs)
        if "q_proj" in name:
            source = name.replace("transformer.resblocks.", "text_model.encoder.layers.")
            joined = torch.cat([tensors[source.replace("q_proj", f"{one}_proj")] for one in "qkv"])
            named[re.sub(r"self_attn\.q_proj\.", "attn.in_proj_", name)] = joined
        elif "k_proj" not in name and "v_proj" not in name:
            named[name] = tensor
    named["text_projection"] = named.pop("text_projection.weight").T
    return {f"{prefix}{name}": tensor for name, tensor in named.items()}
