"""InstantRestore from a checkpoint in the published form to restored faces, on tiny random networks; and its node."""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np
import pytest
import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from personal_restore.lib.diffusion import lora
from personal_restore.lib.diffusion.noise_schedule import stable_diffusion_schedule
from personal_restore.lib.vocabulary import Conditions, Reference, Restorer, UserError
from personal_restore.models.instantrestore import network as instantrestore
from personal_restore.models.instantrestore.restorer import InstantRestoreRestorer
from personal_restore.nodes.instantrestore import InstantRestoreRestorer as Node
from personal_restore.tests import tiny_s3diff as tiny
from transformers import CLIPTextConfig, CLIPTextModel

TEXT = instantrestore.TEXT | {
    "hidden_size": tiny.WIDTH, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2,
}  # fmt: skip
RANK = 4


def adapted(network: torch.nn.Module, side: str) -> dict[str, torch.Tensor]:
    """Puts adapters on the network, which then is what must come out of the file. Its tensors as peft names them."""
    adapters = lora.attach(network, ["to_k", "to_q", "to_v", "to_out.0", "conv1", "conv_in"], RANK)
    for layer in adapters.values():
        layer.scale = 0.5
        torch.nn.init.normal_(layer.up.weight, std=0.2)
    layers = {
        name: value for name, value in network.state_dict().items() if not name.endswith(("up.weight", "down.weight"))
    }
    layers = {re.sub(r"\.base\.(weight|bias)$", r".base_layer.\1", name): value for name, value in layers.items()}
    return layers | lora.weights(adapters, {"unet": "default", "vae": "vae_skip"}[side])


@pytest.fixture(scope="module")
def checkpoint() -> dict:
    """As the published trainer writes it, from several cards; and the networks it was made of."""
    torch.manual_seed(0)
    unets = [UNet2DConditionModel.from_config(tiny.UNET) for _ in range(2)]
    vaes = [AutoencoderKL.from_config(tiny.VAE) for _ in range(2)]
    text = CLIPTextModel(CLIPTextConfig(vocab_size=49408, **TEXT)).state_dict()
    text = {name if name.startswith("text_model.") else f"text_model.{name}": value for name, value in text.items()}
    parts = {
        "unet.module": adapted(unets[0], "unet"),
        "vae": adapted(vaes[0], "vae"),
        "original_unet": unets[1].state_dict(),
        "original_vae": vaes[1].state_dict(),
        "text_encoder": text | {"text_model.embeddings.position_ids": torch.arange(77)[None]},
    }
    tensors = {f"net.{part}.{name}": value for part, own in parts.items() for name, value in own.items()}
    return {
        "state_dict": tensors,
        "cfg": {"model": {"use_adain": True, "train_input": False}, "data": {"data_root": "/somewhere"}},
        "made of": (unets[0].eval(), vaes[0].eval()),
    }


@pytest.fixture(scope="module")
def path(checkpoint, tmp_path_factory):
    path = tmp_path_factory.mktemp("instantrestore") / "final_model_ckpt.pt"
    torch.save({name: value for name, value in checkpoint.items() if name != "made of"}, path)
    return path


@pytest.fixture(scope="module")
def net(path) -> instantrestore.InstantRestore:
    return instantrestore.load_instantrestore(path, tiny.UNET, tiny.VAE, TEXT)


@pytest.fixture
def restorer(net) -> InstantRestoreRestorer:
    return InstantRestoreRestorer(lambda: net, native_size=64)


@pytest.fixture(scope="module")
def album(astronaut) -> tuple[Reference, ...]:
    pictures = astronaut[0, :, 40:104, 170:234], astronaut[0, :, 60:124, 190:254].flip(1), torch.rand(3, 64, 64)
    return tuple(Reference(f"{n}", picture, np.zeros((5, 2))) for n, picture in enumerate(pictures))


@pytest.fixture(scope="module")
def face(astronaut) -> torch.Tensor:
    return astronaut[..., 60:124, 190:254].contiguous()


@torch.no_grad()
def test_fused_adapters_do_what_they_did_beside_their_layers(net, checkpoint):
    unet, vae = checkpoint["made of"]
    unet.enable_freeu(**instantrestore.FREE_U)
    latent, text = torch.randn(1, 4, 16, 16), torch.randn(1, 7, tiny.WIDTH)
    torch.testing.assert_close(net.unet(latent, 249, text).sample, unet(latent, 249, text).sample, atol=1e-4, rtol=1e-4)
    picture = torch.rand(1, 3, 64, 64)
    torch.testing.assert_close(
        net.vae.encode(picture).latent_dist.mean, vae.encode(picture).latent_dist.mean, atol=1e-4, rtol=1e-4
    )


def test_the_checkpoint_says_how_attention_is_shared(net, path, checkpoint, tmp_path):
    assert all(one.adain and not one.own for one in net.shared) and len(net.shared) == len(net.recorders) == 9
    other = torch.load(path, weights_only=True) | {"cfg": {"model": {"use_adain": False, "train_input": True}}}
    torch.save(other, tmp_path / "base.pt")
    base = instantrestore.load_instantrestore(tmp_path / "base.pt", tiny.UNET, tiny.VAE, TEXT)
    assert all(one.own and not one.adain for one in base.shared)


def test_same_seed_and_album_same_face_and_the_album_steers(restorer, face, album):
    assert isinstance(restorer, Restorer) and restorer.needs_references
    seen = []
    conditions = Conditions(album, seed=1, progress=lambda done, total: seen.append((done, total)))
    first = restorer.restore(face, conditions)
    assert first.shape == face.shape and first.min() >= 0 and first.max() <= 1
    assert torch.equal(first, restorer.restore(face, conditions)) and seen[-1] == (1, 1)
    for other in (album[:1], album[1:2], album[2:]):
        assert (restorer.restore(face, replace(conditions, references=other)) - first).abs().max() > 1e-3
    assert (restorer.restore(face, replace(conditions, seed=2)) - first).abs().max() > 1e-3
    batch = restorer.restore(torch.cat([face.flip(3), face]), conditions)
    torch.testing.assert_close(batch[1:], first)
    many = replace(conditions, references=album + album)
    assert torch.equal(
        restorer.restore(face, many), restorer.restore(face, replace(many, references=many.references[:4]))
    )


@torch.no_grad()
def test_without_sharing_it_is_plain_one_step_denoising(net, face, album):
    """References of nothing but the picture's own latent would change nothing; here sharing is switched off."""
    generator, picture = torch.Generator().manual_seed(3), face * 2 - 1
    references = album[0].crop[None] * 2 - 1
    shared, net.shared = net.shared, []
    recorders, net.recorders = net.recorders, []
    try:
        out = net(picture, references, generator)
    finally:
        net.shared, net.recorders = shared, recorders
    generator = torch.Generator().manual_seed(3)
    draws = [torch.randn(1, 4, 8, 8, generator=generator) for _ in range(4)]
    posterior, schedule = net.vae.encode(picture).latent_dist, stable_diffusion_schedule()
    latent = schedule.add_noise((posterior.mean + posterior.std * draws[2]) * 0.18215, 250, draws[3])
    left = schedule.left(250)
    clean = (latent - (1 - left) ** 0.5 * net.unet(latent, 249, net.text).sample) / left**0.5
    torch.testing.assert_close(out, net.vae.decode(clean / 0.18215).sample.clamp(-1, 1), atol=1e-5, rtol=0)


def test_other_files_and_no_file_are_named(monkeypatch, tmp_path, path, checkpoint):
    torch.save({"state_dict": checkpoint["state_dict"]}, tmp_path / "x.pt")
    with pytest.raises(UserError, match="x.pt has no state_dict and cfg"):
        instantrestore.load_instantrestore(tmp_path / "x.pt")
    with pytest.raises(UserError, match=r"final_model_ckpt.pt \(unet\): the tensor"):
        instantrestore.load_instantrestore(path)
    monkeypatch.setenv("PR_MODELS_DIR", str(tmp_path))
    assert Node.define_schema().inputs[0].options["options"] == ["x.pt"]
    with pytest.raises(UserError, match="there is no 'none found'.*no license"):
        Node.execute("none found")


def test_the_node_takes_the_users_file(monkeypatch, path, face, album):
    monkeypatch.setenv("PR_MODELS_DIR", str(path.parent))
    monkeypatch.setattr(instantrestore.load_instantrestore, "__defaults__", (tiny.UNET, tiny.VAE, TEXT))
    restorer = Node.execute(path.name).args[0]
    with torch.inference_mode():
        assert restorer.restore(face, Conditions(album)).isfinite().all()
