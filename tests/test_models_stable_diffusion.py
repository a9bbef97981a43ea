"""Stable Diffusion and DiffBIR as a base: read from public files, hearing words, predicting noise."""

from __future__ import annotations

import json

import pytest
import torch
from diffusers import UNet2DConditionModel
from personal_restore.lib.diffusion.noise_schedule import stable_diffusion_schedule, zero_terminal_schedule
from personal_restore.lib.vocabulary import UserError
from personal_restore.models.shared import clip_text, sd_turbo, stable_diffusion
from personal_restore.models.shared.sd_turbo import TEXT_PREFIXES
from personal_restore.models.shared.stable_diffusion import PREDICTIONS, load_stable_diffusion
from personal_restore.tests import tiny_sd
from safetensors.torch import save_file


@pytest.fixture(scope="module")
def net(tmp_path_factory):
    return tiny_sd.base(tmp_path_factory.mktemp("words"))


@pytest.fixture(scope="module")
def picture(astronaut) -> torch.Tensor:
    return torch.nn.functional.interpolate(astronaut[..., 0:256, 130:386], (128, 128), mode="area")


def write_folder(net, folder, **scheduler):
    net.unet.save_pretrained(folder / "unet")
    net.vae.save_pretrained(folder / "vae")
    net.text.encoder.save_pretrained(folder / "text_encoder")
    tiny_sd.write_tokenizer(folder / "tokenizer")
    if scheduler:
        (folder / "scheduler").mkdir()
        (folder / "scheduler" / "scheduler_config.json").write_text(json.dumps(scheduler))


def assert_same(one, other):
    ours, theirs = one.state_dict(), other.state_dict()
    shared = [name for name in ours if not name.startswith("control.") and "text_projection" not in name]
    assert set(shared) <= theirs.keys() and len(shared) > 700
    assert all(torch.equal(ours[name], theirs[name]) for name in shared)


@pytest.mark.parametrize("prefix", TEXT_PREFIXES)
def test_single_file_and_folder_give_the_same_base(net, tmp_path, prefix):
    write_folder(net, tmp_path / "sd")
    save_file(tiny_sd.single_file(net, prefix), tmp_path / "sd.safetensors")
    folder = load_stable_diffusion(tmp_path / "sd", topology=tiny_sd.TOPOLOGY)
    file = load_stable_diffusion(tmp_path / "sd.safetensors", tmp_path / "sd" / "tokenizer", topology=tiny_sd.TOPOLOGY)
    assert_same(folder, net)
    assert_same(file, net)
    assert not file.training and not any(one.requires_grad for one in file.parameters())
    torch.testing.assert_close(file.prompt("a cat"), net.prompt("a cat"))


def test_what_tells_the_prediction_is_in_the_full_size_network():
    with torch.device("meta"):
        unet = UNet2DConditionModel.from_config(sd_turbo.UNET)
    assert unet.get_parameter(stable_diffusion.TELLTALE).shape == (320,)


def test_what_the_model_predicts_is_read_or_told(net, tmp_path):
    for index, (said, velocity, steps) in enumerate([
        ({"prediction_type": "epsilon"}, False, 1000),
        ({"prediction_type": "v_prediction"}, True, 1000),
        ({"prediction_type": "v_prediction", "rescale_betas_zero_snr": True}, True, 999),
    ]):  # fmt: skip
        folder = tmp_path / str(index)
        write_folder(net, folder, **said)
        found = load_stable_diffusion(folder, topology=tiny_sd.TOPOLOGY)
        assert (found.velocity, len(found.schedule.alphas_cumprod)) == (velocity, steps)
        told = load_stable_diffusion(folder, prediction=PREDICTIONS[3], topology=tiny_sd.TOPOLOGY)
        assert (told.velocity, len(told.schedule.alphas_cumprod)) == (True, 999)
    folder = tmp_path / "silent"
    write_folder(net, folder)
    assert not load_stable_diffusion(folder, topology=tiny_sd.TOPOLOGY).velocity
    with torch.no_grad():
        other = tiny_sd.base(tmp_path / "words")
        bias = other.unet.get_parameter(stable_diffusion.TELLTALE)
        bias.copy_(torch.linspace(-1, 1, len(bias)))
    write_folder(other, tmp_path / "spread")
    assert load_stable_diffusion(tmp_path / "spread", topology=tiny_sd.TOPOLOGY).velocity


def test_what_is_missing_is_said(net, tmp_path):
    write_folder(net, tmp_path / "sd", prediction_type="epsilon")
    with pytest.raises(UserError, match="does not contain vocab.json and merges.txt"):
        load_stable_diffusion(tmp_path / "sd", tmp_path, topology=tiny_sd.TOPOLOGY)
    (tmp_path / "sd" / "scheduler" / "scheduler_config.json").write_text("[")
    with pytest.raises(UserError, match="scheduler_config.json cannot be read"):
        load_stable_diffusion(tmp_path / "sd", topology=tiny_sd.TOPOLOGY)
    tensors = tiny_sd.single_file(net, TEXT_PREFIXES[0])
    without = {name: value for name, value in tensors.items() if not name.startswith("cond_stage_model.")}
    save_file(without, tmp_path / "textless.safetensors")
    with pytest.raises(UserError, match="textless.safetensors contains no tensor cond_stage_model.*text_encoder"):
        load_stable_diffusion(
            tmp_path / "textless.safetensors", tmp_path / "sd" / "tokenizer", topology=tiny_sd.TOPOLOGY
        )


def test_words_become_tokens_and_one_of_them_can_be_learnt(net):
    indices = net.text.indices(["a photo of *", "", "sks " * 100])
    assert indices.shape == (3, 77)
    assert indices[0, 0] == clip_text.START and indices[1].tolist() == [clip_text.START, clip_text.END] + [0] * 75
    assert indices[2, 76] == net.text.end and (indices[2] == net.text.end).sum() == 1
    star = net.text.row("*")
    assert (indices[0] == star).sum() == 1
    assert torch.equal(net.prompt("a photo of *", 2)[1], net.text(indices[:1])[0])
    own = net.text.rows[star]
    torch.testing.assert_close(net.prompt("a photo of *", 1, (star, own)), net.prompt("a photo of *"))
    word = torch.nn.Parameter(own + 1.0)
    heard = net.prompt("a photo of *", 1, (star, word))
    assert not torch.equal(heard, net.prompt("a photo of *"))
    assert torch.equal(heard[:, 0], net.prompt("a photo of *")[:, 0])  # what comes before hears nothing of it
    heard.square().sum().backward()
    assert word.grad.any()
    assert torch.equal(net.prompt("cat", 1, (star, word)), net.prompt("cat"))


def test_the_latent_is_the_scaled_mode_and_the_same_every_time(net, picture):
    """Test 34."""
    latent = net.encode(picture.repeat(2, 1, 1, 1))
    mode = net.vae.encode(picture * 2 - 1).latent_dist.mode()
    assert latent.shape == (2, 4, 16, 16)
    torch.testing.assert_close(latent[1:], 0.18215 * mode)
    assert torch.equal(latent[0], latent[1]) and torch.equal(latent[:1], net.encode(picture))
    assert net.decode(latent).shape == (2, 3, 128, 128)


@torch.no_grad()
def test_the_control_hears_nothing_and_can_be_left_out(net, picture):
    """Tests 32 and 33."""
    latent, t = net.encode(picture), torch.tensor([500])
    noisy = torch.randn(latent.shape)
    seen = []
    handle = net.control.register_forward_hook(lambda module, given, out: seen.append(out))
    said, other = (net(noisy, t, net.prompt(words), latent) for words in ("cat", "dog"))
    handle.remove()
    assert all(torch.equal(a, b) for a, b in zip(*seen, strict=True))
    assert torch.equal(net.silence(1), net.prompt(""))
    assert not torch.equal(said, other)
    alone = net.unet(noisy, t, net.prompt("cat")).sample
    for given in ((None, 1.0), (latent, 0.0), (latent, torch.zeros(1, 1, 1, 1))):
        assert torch.equal(net(noisy, t, net.prompt("cat"), *given), alone)
    assert not torch.equal(said, alone)


@torch.no_grad()
def test_velocity_becomes_noise(tmp_path, picture):
    """A network that gives the true velocity gives the true noise, and its loss is that of the velocity."""
    net = tiny_sd.base(tmp_path, control=False, velocity=True)
    clean, t = net.encode(picture), torch.tensor([700])
    noise = torch.randn(clean.shape)
    left = net.left(clean, t)
    noisy = left.sqrt() * clean + (1 - left).sqrt() * noise
    velocity = left.sqrt() * noise - (1 - left).sqrt() * clean
    net.predict = lambda *given: velocity + 0.1
    found = net(noisy, t, None)
    torch.testing.assert_close(found - 0.1 * left.sqrt(), noise, atol=1e-5, rtol=0)
    torch.testing.assert_close(net.loss(found, noise, t, clean), torch.tensor([0.01]), atol=1e-5, rtol=0)


def test_nothing_is_left_at_the_end_of_the_stretched_schedule():
    """Lin et al. 2024: the first step stays, the last leaves nothing, and every step leaves less than before."""
    plain, stretched = stable_diffusion_schedule().alphas_cumprod, zero_terminal_schedule().alphas_cumprod
    assert stretched[0] == pytest.approx(float(plain[0]), rel=1e-12)
    assert (stretched.diff() < 0).all() and 0 < stretched[-1] < 1e-6
    assert (stretched[1:] < plain[1:-1]).all()


def test_latents_are_not_clipped(net):
    step = net.schedule.spaced(500, 10)[0].reverse(3 * torch.ones(1, 4, 2, 2), 0, torch.zeros(1, 4, 2, 2))
    assert (step.clean > 3).all()
    assert (
        stable_diffusion_schedule().reverse(3 * torch.ones(1, 4, 2, 2), 0, torch.zeros(1, 4, 2, 2)).clean == 1
    ).all()


def test_the_node_offers_the_predictions_that_there_are():
    from personal_restore.nodes import diffbir

    assert diffbir.PREDICTIONS == PREDICTIONS
