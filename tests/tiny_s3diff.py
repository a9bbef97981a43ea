"""SD-Turbo, S3Diff's public files and a trained Face2Scene in a size for tests: same topology, narrow, random."""

from __future__ import annotations

from pathlib import Path

import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from personal_restore.lib.diffusion import lora
from personal_restore.models.embedded.weights import Extractor
from personal_restore.models.face2scene import network as face2scene
from personal_restore.models.s3diff.de_net import DegradationEstimator
from personal_restore.models.s3diff.network import ADAPTERS, BLOCKS, BlockModulation
from personal_restore.models.shared import sd_turbo
from personal_restore.tests.stability_names import open_clip, unet_name, vae_entry
from transformers import CLIPTextConfig, CLIPTextModelWithProjection

# As the public training code has them.
TARGETS = {
    "vae": r"^encoder\..*(conv1|conv2|conv_in|conv_shortcut|conv|conv_out|to_k|to_q|to_v|to_out\.0)$",
    "unet": [
        "to_k", "to_q", "to_v", "to_out.0", "conv", "conv1", "conv2", "conv_shortcut", "conv_out",
        "proj_in", "proj_out", "ff.net.2", "ff.net.0.proj",
    ],
}  # fmt: skip
RANKS = {"vae": 3, "unet": 2}
WIDTH = 12  # of the embedded prompts
FACE2SCENE = {
    "adapters": {side: {"rank": RANKS[side], "targets": TARGETS[side]} for side in RANKS},
    "extractor": {"widths": [4, 6, 8], "embedding": 16, "heads": 2, "token_width": WIDTH},
}
UNET = sd_turbo.UNET | {
    "block_out_channels": (8, 8, 16, 16),
    "attention_head_dim": (1, 1, 2, 2),
    "cross_attention_dim": WIDTH,
    "norm_num_groups": 4,
}
TEXT = sd_turbo.TEXT | {
    "hidden_size": WIDTH, "intermediate_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "projection_dim": WIDTH,
}  # fmt: skip
VAE = sd_turbo.VAE | {"block_out_channels": (8, 8, 8, 16), "norm_num_groups": 4}


def turbo(seed: int = 0) -> sd_turbo.SDTurbo:
    torch.manual_seed(seed)
    net = sd_turbo.SDTurbo(UNet2DConditionModel.from_config(UNET), AutoencoderKL.from_config(VAE))
    return net.eval().requires_grad_(False)


def text_encoder() -> CLIPTextModelWithProjection:
    torch.manual_seed(3)
    return CLIPTextModelWithProjection(CLIPTextConfig(vocab_size=49408, **TEXT)).eval().requires_grad_(False)


def single_file(
    turbo: sd_turbo.SDTurbo, encoder: torch.nn.Module | None = None, prefix: str = sd_turbo.TEXT_PREFIXES[0]
) -> dict[str, torch.Tensor]:
    """SD-Turbo as Stability's own file has it, with the layer of the text encoder that is not used."""
    named = {unet_name(name): tensor for name, tensor in turbo.unet.state_dict().items()}
    named |= dict(vae_entry(name, tensor) for name, tensor in turbo.vae.state_dict().items())
    if encoder is not None:
        unused = {
            f"{prefix}transformer.resblocks.23.ln_1.weight": torch.ones(WIDTH),
            f"{prefix}logit_scale": torch.ones(()),
        }
        named |= open_clip(encoder, prefix) | unused
    return {name: tensor.contiguous() for name, tensor in named.items()}


def prompts(seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    return torch.randn(2, 1, 7, WIDTH, generator=torch.Generator().manual_seed(seed)).unbind()


def write_public_files(folder: Path) -> Path:
    """s3diff.pkl, whose path is returned, and de_net.pth, with random weights for `turbo`."""
    base = turbo()
    torch.manual_seed(1)

    def random(tensors):
        return {name: 0.1 * torch.randn(value.shape) for name, value in tensors.items()}

    public = {"w": torch.nn.Parameter(torch.randn(64), requires_grad=False), "state_embeddings": {}}
    for side, network in (("vae", base.vae), ("unet", base.unet)):
        adapters = lora.attach(network, TARGETS[side], RANKS[side])
        public[f"rank_{side}"], public[f"{side}_lora_target_modules"] = RANKS[side], TARGETS[side]
        public[f"state_dict_{side}"] = random(lora.weights(adapters, ADAPTERS[side]))
        modulation = BlockModulation(RANKS[side], BLOCKS[side])
        for part in ("de_mlp", "block_mlp", "fuse_mlp"):
            public[f"state_dict_{side}_{part}"] = random(modulation.get_submodule(part).state_dict())
        public["state_embeddings"][f"state_dict_{side}_block"] = random(modulation.blocks.state_dict())
    replaced = base.unet.conv_in.state_dict()
    public["state_dict_unet"] |= {f"conv_in.{name}": value for name, value in random(replaced).items()}
    torch.save(public, folder / "s3diff.pkl")
    torch.save(DegradationEstimator().state_dict(), folder / "de_net.pth")
    return folder / "s3diff.pkl"


def write_face2scene(path: Path, seed: int = 2) -> Path:
    """A trained model with random weights for `turbo`, as its file."""
    trained = face2scene.adapt(turbo(), FACE2SCENE["adapters"])
    torch.manual_seed(seed)
    tensors = {name: 0.1 * torch.randn(one.shape) for name, one in trained.items()}
    tensors |= {f"extractor.{name}": one for name, one in Extractor(**FACE2SCENE["extractor"]).state_dict().items()}
    tensors |= {f"prompt.{name}": one for name, one in zip(face2scene.PROMPTS, prompts(), strict=True)}
    face2scene.save_face2scene(path, FACE2SCENE, tensors, {"trained_by": "nobody"})
    return path
