"""SDXL from a diffusers folder and from ComfyUI's single file, with tiny networks of the same topology."""

from __future__ import annotations

import pytest
import torch
from personal_restore.lib.vocabulary import UserError
from personal_restore.models.shared import sdxl
from personal_restore.tests import tiny_sdxl as tiny
from safetensors.torch import save_file

TOKENS = 320, 1125, 539, 1710, 269


@pytest.fixture(scope="module")
def parts() -> dict[str, torch.nn.Module]:
    torch.manual_seed(0)
    return {name: network.eval().requires_grad_(False) for name, network in tiny.parts().items()}


@pytest.fixture(scope="module", params=["single file", "folder"])
def path(request, parts, tmp_path_factory):
    folder = tmp_path_factory.mktemp("sdxl")
    if request.param == "single file":
        save_file(tiny.single_file(parts), folder / "sdxl.safetensors")
        return folder / "sdxl.safetensors"
    for name, network in parts.items():
        network.save_pretrained(folder / name)
    return folder


def test_both_forms_give_the_same_networks(path, parts):
    for network, part in zip(sdxl.load_sdxl(path, tiny.TOPOLOGY), ("unet", "vae"), strict=True):
        ours, theirs = network.state_dict(), parts[part].state_dict()
        assert ours.keys() == theirs.keys() and all(torch.equal(ours[name], theirs[name]) for name in ours)
        assert not network.training and not any(one.requires_grad for one in network.parameters())


def test_text_is_embedded_as_by_the_pipeline_of_diffusers(path, parts):
    prompt = sdxl.embed_text(path, TOKENS, tiny.TOPOLOGY)
    assert prompt.words.shape == (1, 77, 32) and prompt.pooled.shape == (1, 16)
    for part, fill, place in (("text_encoder", 49407, slice(0, 16)), ("text_encoder_2", 0, slice(16, 32))):
        ids = torch.tensor([[49406, *TOKENS, 49407] + [fill] * 70])
        out = parts[part](ids, output_hidden_states=True)
        torch.testing.assert_close(prompt.words[..., place], out.hidden_states[-2], atol=1e-6, rtol=0)
    torch.testing.assert_close(prompt.pooled, out.text_embeds, atol=1e-6, rtol=0)


def test_the_full_size_has_the_published_names_and_number_of_parameters():
    with torch.device("meta"):
        parts = tiny.parts(sdxl.PUBLIC)
    stored = tiny.single_file(parts)

    def count(start):
        return sum(one.numel() for name, one in stored.items() if name.startswith(start))

    assert count("model.diffusion_model.") == 2_567_463_684
    assert count("conditioner.embedders.0.") == 123_060_480 and count("conditioner.embedders.1.") == 694_659_840
    assert stored["model.diffusion_model.output_blocks.2.2.conv.weight"].shape == (1280, 1280, 3, 3)
    for part, (prefix, convert) in sdxl.SINGLE_FILE.items():
        given = {name: tensor for name, tensor in stored.items() if name.startswith(prefix)}
        found = convert(given, parts[part], getattr(sdxl.PUBLIC, part))
        wanted = parts[part].state_dict()
        if part == "text_encoder":
            wanted.pop("text_projection.weight")
        assert {k: v.shape for k, v in found.items() if v is not None} == {k: v.shape for k, v in wanted.items()}


def test_what_is_not_sdxl_is_refused_by_name(tmp_path):
    save_file({"model.diffusion_model.input_blocks.0.0.weight": torch.zeros(1)}, tmp_path / "sd.safetensors")
    with pytest.raises(UserError, match="sd.safetensors.*SDXL"):
        sdxl.load_sdxl(tmp_path / "sd.safetensors")
    with pytest.raises(UserError, match="the text_encoder is missing"):
        sdxl.embed_text(tmp_path / "sd.safetensors", TOKENS)
    (tmp_path / "broken.safetensors").write_bytes(b"nothing")
    with pytest.raises(UserError, match="broken.safetensors cannot be read"):
        sdxl.load_sdxl(tmp_path / "broken.safetensors")
    with pytest.raises(UserError, match="gone.ckpt does not exist"):
        sdxl.load_sdxl(tmp_path / "gone.ckpt")
    with pytest.raises(UserError, match="unet/ has no diffusion_pytorch_model"):
        sdxl.load_sdxl(tmp_path)
