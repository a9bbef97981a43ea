"""SD-Turbo from a diffusers folder and from ComfyUI's single file, with tiny networks of the same topology."""

from __future__ import annotations

import pytest
import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from personal_restore.lib.vocabulary import UserError
from personal_restore.models.shared import sd_turbo
from personal_restore.tests import tiny_s3diff as tiny
from personal_restore.tests.stability_names import open_clip
from safetensors.torch import save_file
from transformers import CLIPTextConfig, CLIPTextModelWithProjection


def load(path) -> sd_turbo.SDTurbo:
    return sd_turbo.load_sd_turbo(path, unet_config=tiny.UNET, vae_config=tiny.VAE)


def assert_same(one: sd_turbo.SDTurbo, other: sd_turbo.SDTurbo):
    ours, theirs = one.state_dict(), other.state_dict()
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)


def test_single_file_and_folder_give_the_same_network(tmp_path):
    turbo = tiny.turbo()
    save_file(tiny.single_file(turbo), tmp_path / "sd_turbo.safetensors")
    turbo.unet.save_pretrained(tmp_path / "sd-turbo" / "unet")
    turbo.vae.save_pretrained(tmp_path / "sd-turbo" / "vae", variant="fp16")
    for path in (tmp_path / "sd_turbo.safetensors", tmp_path / "sd-turbo"):
        loaded = load(path)
        assert_same(loaded, turbo)
        assert not loaded.training and not any(one.requires_grad for one in loaded.parameters())
    half = sd_turbo.load_sd_turbo(path, torch.bfloat16, tiny.UNET, tiny.VAE)
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
    stored = tiny.single_file(turbo)
    key = "model.diffusion_model.input_blocks.4.1.transformer_blocks.0.attn2.to_k.weight"
    assert stored[key].shape == (640, 1024)
    assert stored["first_stage_model.encoder.mid.attn_1.q.weight"].shape == (512, 512, 1, 1)
    assert sum(one.numel() for name, one in stored.items() if name.startswith("model.")) == 865_910_724

    def part(prefix):
        return {k: v for k, v in stored.items() if k.startswith(prefix)}

    unet = sd_turbo.convert_ldm_unet_checkpoint(part("model.diffusion_model."), sd_turbo.UNET)
    vae = sd_turbo.convert_ldm_vae_checkpoint(part("first_stage_model."), sd_turbo.VAE)
    for found, network in ((unet, turbo.unet), (vae, turbo.vae)):
        assert {k: v.shape for k, v in found.items()} == {k: v.shape for k, v in network.state_dict().items()}


def test_what_is_not_sd_turbo_is_refused_by_name(tmp_path):
    file = tmp_path / "model.safetensors"
    stored = tiny.single_file(tiny.turbo())
    lacking = "model.diffusion_model.middle_block.2.in_layers.2.weight"
    for tensors, match in [
        ({k: v for k, v in stored.items() if not k.startswith("first_stage_model.")}, "the vae is missing"),
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
    (tmp_path / "model.pkl").write_bytes(b"pickle")
    with pytest.raises(UserError, match="is not a .safetensors or .ckpt file"):
        load(tmp_path / "model.pkl")
    (tmp_path / "model.ckpt").write_bytes(b"pickle")
    with pytest.raises(UserError, match="model.ckpt is damaged or contains more than plain weights"):
        load(tmp_path / "model.ckpt")


@pytest.mark.parametrize("form", ["folder", *sd_turbo.TEXT_PREFIXES])
def test_known_prompts_are_embedded_by_the_checkpoints_own_text_encoder(form, tmp_path):
    encoder = tiny.text_encoder()
    if form == "folder":
        encoder.save_pretrained(tmp_path / "text_encoder", variant="fp16")
    else:
        tensors = tiny.single_file(tiny.turbo(), encoder, form)
        save_file(tensors, tmp_path / "sd_turbo.safetensors")
    path = tmp_path if form == "folder" else tmp_path / "sd_turbo.safetensors"
    sharp, blurred = (1400, 268, 9977), tuple(range(100, 175))
    for tokens, found in zip((sharp, blurred), sd_turbo.embed_prompts(path, (sharp, blurred), tiny.TEXT), strict=True):
        ids = torch.tensor([[49406, *tokens, 49407] + [0] * (75 - len(tokens))])
        torch.testing.assert_close(found, encoder(ids).last_hidden_state, atol=1e-6, rtol=0)


def test_a_checkpoint_without_a_text_encoder_is_refused_by_name(tmp_path):
    save_file({"model.diffusion_model.x": torch.zeros(1)}, tmp_path / "unet.safetensors")
    with pytest.raises(
        UserError, match=r"unet.safetensors contains no tensor cond.*\* or conditioner.*the text_encoder is missing"
    ):
        sd_turbo.embed_prompts(tmp_path / "unet.safetensors", [(1,)])


def test_the_full_size_text_encoder_has_the_published_names():
    """OpenCLIP ViT-H as Stable Diffusion 2 carries it, whose 24th layer and projection diffusers leaves out."""
    with torch.device("meta"):
        whole = CLIPTextModelWithProjection(
            CLIPTextConfig(vocab_size=49408, **sd_turbo.TEXT | {"num_hidden_layers": 24})
        )
        used = CLIPTextModelWithProjection(CLIPTextConfig(vocab_size=49408, **sd_turbo.TEXT))
    for prefix in sd_turbo.TEXT_PREFIXES:
        stored = open_clip(whole, prefix)
        assert stored[f"{prefix}transformer.resblocks.0.attn.in_proj_weight"].shape == (3072, 1024)
        found, wanted = sd_turbo._text(stored, used), used.state_dict()
        wanted.pop("text_projection.weight")
        assert {k: v.shape for k, v in found.items()} == {k: v.shape for k, v in wanted.items()}
