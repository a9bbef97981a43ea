"""Stable Diffusion with DiffBIR's ControlNet in a size for tests: same topology, narrow, random, nothing in it 0."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from personal_restore.models.diffbir.controlnet import DiffBIRControlNet
from personal_restore.models.shared import clip_text, sd_turbo
from personal_restore.models.shared.clip_words import ClipWords, load_tokenizer
from personal_restore.models.shared.stable_diffusion import StableDiffusion, Topology
from personal_restore.models.stablesr.network import StableSR, StructureEncoder, public_name
from personal_restore.tests import tiny_s3diff

BASE, SIDE, WIDTH = "tiny sd 000", 128, 32
UNET = sd_turbo.UNET | {
    "block_out_channels": (WIDTH,) * 4,
    "attention_head_dim": (1,) * 4,
    "cross_attention_dim": WIDTH,
}
VAE = sd_turbo.VAE | {"block_out_channels": (8, 8, 8, 16), "norm_num_groups": 4}
TEXT = {
    "hidden_size": WIDTH, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 2, "projection_dim": WIDTH,
    "hidden_act": "gelu",
}  # fmt: skip
CONTROL = {"model_channels": WIDTH, "channel_mult": (1,) * 4, "num_head_channels": WIDTH, "context_dim": WIDTH}
STRUCTURE = {
    "model_channels": WIDTH,
    "out_channels": WIDTH,
    "channel_mult": (1,) * 4,
    "num_heads": 2,
    "widths": (WIDTH,) * 4,
}
TOPOLOGY = Topology(UNET, VAE, TEXT)


def write_tokenizer(folder: Path) -> Path:
    """One that spells every word, under CLIP's ids for start and end."""
    signs = [chr(code) for code in range(ord("!"), ord("~") + 1)]
    ids = {sign: index for index, sign in enumerate([*signs, *(f"{one}</w>" for one in signs)])}
    ids |= {"<|startoftext|>": clip_text.START, "<|endoftext|>": clip_text.END}
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "vocab.json").write_text(json.dumps(ids))
    (folder / "merges.txt").write_text("#version: 0.2\n")
    return folder


def base(folder: Path, control: bool = True, **options) -> StableDiffusion:
    """folder: where its tokenizer may be written."""
    return _built(StableDiffusion, folder, (lambda: DiffBIRControlNet(**CONTROL)) if control else None, **options)


def stablesr(folder: Path, **options) -> StableSR:
    """The same network with StableSR's control. folder: as above."""
    return _built(StableSR, folder, lambda: StructureEncoder(**STRUCTURE), **options)


def _built(kind: type[StableDiffusion], folder: Path, side: Callable[[], torch.nn.Module] | None, **options):
    torch.manual_seed(0)
    unet, vae = UNet2DConditionModel.from_config(UNET), AutoencoderKL.from_config(VAE)
    encoder = clip_text.empty_encoder(TEXT).to_empty(device="cpu")
    positions = torch.arange(clip_text.WINDOW)[None]
    for name, value in [*encoder.named_parameters(), *encoder.named_buffers()]:
        value.data = positions if name.endswith("position_ids") else 0.1 * torch.randn(value.shape)
    encoder.text_projection.weight.data = torch.eye(WIDTH)  # unused, and not published
    words = ClipWords(encoder, load_tokenizer(write_tokenizer(folder)))
    control = side() if side else None
    for part in (unet, control) if side else (unet,):
        for parameter in part.parameters():
            if not parameter.any():
                torch.nn.init.normal_(parameter, std=0.05)
    net = kind(unet, vae, words.eval(), control, **options)
    net.native_size = SIDE
    return net


def single_file(net: StableDiffusion, prefix: str) -> dict[str, torch.Tensor]:
    """As Stability publishes its checkpoints, with the text encoder under a prefix."""
    return tiny_s3diff.single_file(sd_turbo.SDTurbo(net.unet, net.vae), net.text.encoder, prefix)


def stablesr_file(net: StableSR) -> dict[str, torch.Tensor]:
    """As StableSR publishes its checkpoints: Stable Diffusion's tensors, and its own under their names."""
    own = {public_name(name): value for name, value in net.control.state_dict().items()}
    return single_file(net, sd_turbo.TEXT_PREFIXES[0]) | own
