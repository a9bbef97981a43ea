"""SD-Turbo from a diffusers folder and from ComfyUI's single file, with tiny networks of the same topology."""

from __future__ import annotations

import json
import re

import pytest
import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from personal_restore.models import sd_turbo
from personal_restore.tests import tiny_s3diff as tiny
from personal_restore.vocabulary import UserError
from safetensors.torch import save_file

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


def single_file(turbo: sd_turbo.SDTurbo) -> dict[str, torch.Tensor]:
    unet = {unet_name(name): tensor for name, tensor in turbo.unet.state_dict().items()}
    vae = dict(vae_entry(name, tensor) for name, tensor in turbo.vae.state_dict().items())
    text = {"cond_stage_model.model.positional_embedding": torch.zeros(1)}
    return {name: tensor.contiguous() for name, tensor in (unet | vae | text).items()}


def load(path) -> sd_turbo.SDTurbo:
    return sd_turbo.load(path, unet_config=tiny.UNET, vae_config=tiny.VAE)


def assert_same(one: sd_turbo.SDTurbo, other: sd_turbo.SDTurbo):
    ours, theirs = one.state_dict(), other.state_dict()
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)


def test_single_file_and_folder_give_the_same_network(tmp_path):
    turbo = tiny.turbo()
    save_file(single_file(turbo), tmp_path / "sd_turbo.safetensors")
    turbo.unet.save_pretrained(tmp_path / "sd-turbo" / "unet")
    turbo.vae.save_pretrained(tmp_path / "sd-turbo" / "vae", variant="fp16")
    for path in (tmp_path / "sd_turbo.safetensors", tmp_path / "sd-turbo"):
        loaded = load(path)
        assert_same(loaded, turbo)
        assert not loaded.training and not any(one.requires_grad for one in loaded.parameters())
    half = sd_turbo.load(path, torch.bfloat16, tiny.UNET, tiny.VAE)
    assert {one.dtype for one in half.parameters()} == {torch.bfloat16}
    positive, negative = tiny.prompts()
    latent = half.encode(torch.zeros(1, 3, 64, 64), torch.zeros(1, 4, 8, 8))
    picture = half.decode(half.clean(latent, half.predict(latent, positive, negative, 1.1)))
    assert picture.dtype == torch.float32 and picture.shape == (1, 3, 64, 64)


def test_full_size_single_file_has_the_published_names():
    """The names of the published checkpoint become the names and shapes that diffusers' full-size network has."""
    with torch.device("meta"):
        turbo = sd_turbo.SDTurbo(
            UNet2DConditionModel.from_config(sd_turbo.UNET), AutoencoderKL.from_config(sd_turbo.VAE)
        )
    stored = single_file(turbo)
    key = "model.diffusion_model.input_blocks.4.1.transformer_blocks.0.attn2.to_k.weight"
    assert stored[key].shape == (640, 1024)
    assert stored["first_stage_model.encoder.mid.attn_1.q.weight"].shape == (512, 512, 1, 1)
    assert sum(one.numel() for name, one in stored.items() if name.startswith("model.")) == 865_910_724
    part = lambda prefix: {k: v for k, v in stored.items() if k.startswith(prefix)}  # noqa: E731
    unet = sd_turbo.convert_ldm_unet_checkpoint(part("model.diffusion_model."), sd_turbo.UNET)
    vae = sd_turbo.convert_ldm_vae_checkpoint(part("first_stage_model."), sd_turbo.VAE)
    for found, network in ((unet, turbo.unet), (vae, turbo.vae)):
        assert {k: v.shape for k, v in found.items()} == {k: v.shape for k, v in network.state_dict().items()}


def test_what_is_not_sd_turbo_is_refused_by_name(tmp_path):
    file = tmp_path / "model.safetensors"
    stored = single_file(tiny.turbo())
    lacking = "model.diffusion_model.middle_block.2.in_layers.2.weight"
    for tensors, match in [
        ({k: v for k, v in stored.items() if not k.startswith("first_stage_model.")}, "lacks the vae"),
        ({k: v for k, v in stored.items() if k != lacking}, "mid_block.resnets.1.conv1.weight is missing"),
        (stored | {lacking: torch.zeros(3)}, r"mid_block.resnets.1.conv1.weight has the shape \[3\]"),
        ({k: v for k, v in stored.items() if not k.endswith("1.conv.bias")}, r"output_blocks.2.1.conv.bias"),
    ]:
        save_file(tensors, file)
        with pytest.raises(UserError, match=f"model.safetensors.*{match}.*stabilityai/sd-turbo"):
            load(file)
    file.write_bytes(b"broken")
    with pytest.raises(UserError, match="model.safetensors cannot be read"):
        load(file)
    for name, match in [("model.ckpt", "does not exist"), ("empty", r"empty/unet/ has no diffusion_pytorch_model")]:
        (tmp_path / "empty").mkdir(exist_ok=True)
        with pytest.raises(UserError, match=match):
            load(tmp_path / name)
    (tmp_path / "model.ckpt").write_bytes(b"pickle")
    with pytest.raises(UserError, match="neither a folder nor a .safetensors file"):
        load(tmp_path / "model.ckpt")


def test_prompts_are_embedded_by_the_folders_own_text_encoder(tmp_path):
    from transformers import CLIPTextConfig, CLIPTextModel

    torch.manual_seed(0)
    letters = [chr(code) for code in range(ord("a"), ord("z") + 1)]
    words = [*letters, *(f"{one}</w>" for one in letters), "<|startoftext|>", "<|endoftext|>"]
    tokenizer = tmp_path / "tokenizer"
    tokenizer.mkdir()
    (tokenizer / "vocab.json").write_text(json.dumps({word: index for index, word in enumerate(words)}))
    (tokenizer / "merges.txt").write_text("#version: 0.2\n")
    (tokenizer / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "CLIPTokenizer"}))
    config = CLIPTextConfig(
        vocab_size=len(words), hidden_size=tiny.WIDTH, intermediate_size=16, num_hidden_layers=1,
        num_attention_heads=2, max_position_embeddings=9, eos_token_id=len(words) - 1,
    )  # fmt: skip
    encoder = CLIPTextModel(config).eval()
    with pytest.raises(UserError, match="no text encoder could be read"):
        sd_turbo.embed_prompts(tmp_path, ["blur"])
    encoder.save_pretrained(tmp_path / "text_encoder")
    first, second, long = sd_turbo.embed_prompts(tmp_path, ["sharp", "blur", "a very long text of many letters"])
    assert first.shape == second.shape == long.shape == (1, 9, tiny.WIDTH)
    ids = [words.index("<|startoftext|>"), *map(words.index, ["b", "l", "u", "r</w>"])]
    ids += [words.index("<|endoftext|>")] * (9 - len(ids))
    with torch.no_grad():
        expected = encoder(torch.tensor([ids])).last_hidden_state
    torch.testing.assert_close(second, expected)
