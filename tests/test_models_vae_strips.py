"""The VAE in strips is the VAE in one piece, and holds less at once."""

from __future__ import annotations

from copy import deepcopy

import pytest
import torch
from diffusers import AutoencoderKL
from personal_restore.models.shared import sd_turbo, sd_vae, vae_strips
from personal_restore.tests import tiny_s3diff as tiny

ROUNDING = dict(atol=1e-4, rtol=0)  # of sums in another order, on values around 1


@pytest.fixture(scope="module")
def vae() -> AutoencoderKL:
    torch.manual_seed(0)
    net = AutoencoderKL.from_config(tiny.VAE).eval().requires_grad_(False)
    for layer in net.modules():
        if isinstance(layer, torch.nn.GroupNorm):
            torch.nn.init.normal_(layer.weight, 1, 0.3)
            torch.nn.init.normal_(layer.bias, 0, 0.3)
    return net


def scene(height: int, width: int) -> torch.Tensor:
    """[2, 3, height, width] in -1..1: brightness and noise that differ from strip to strip."""
    rows = torch.linspace(-0.9, 0.9, height)[:, None]
    noise = torch.randn(2, 3, height, width, generator=torch.Generator().manual_seed(1))
    return (rows + 0.3 * rows * noise).clamp(-1, 1)


@pytest.mark.parametrize("strip", [1, 600, 5000])
def test_strips_change_nothing(vae, strip, monkeypatch):
    """Strips of one row up to many: in float64, where the order of sums shows least, nothing else is left."""
    monkeypatch.setattr(vae_strips, "STRIP", strip)
    exact, picture = deepcopy(vae).double(), scene(136, 72).double()
    posterior = exact.encode(picture).latent_dist
    torch.testing.assert_close(vae_strips.moments(exact, picture), posterior.parameters, atol=1e-11, rtol=0)
    latent = posterior.mean
    torch.testing.assert_close(
        vae_strips.decode_in_strips(exact, latent), exact.decode(latent).sample, atol=1e-11, rtol=0
    )


def test_strips_in_bfloat16_are_as_exact_as_one_piece(vae, monkeypatch):
    monkeypatch.setattr(vae_strips, "STRIP", 600)
    half, latent = deepcopy(vae).bfloat16(), vae.encode(scene(128, 64)).latent_dist.mean
    exact = vae.decode(latent).sample

    def error(picture):
        return (picture.float() - exact).square().mean().sqrt()

    assert error(vae_strips.decode_in_strips(half, latent.bfloat16())) < 1.2 * error(
        half.decode(latent.bfloat16()).sample
    )


def test_statistics_of_each_strip_alone_would_be_another_picture(vae):
    """What makes the whole map's statistics necessary: halves that are decoded apart differ by more than rounding."""
    latent = vae.encode(scene(128, 64)).latent_dist.mean
    apart = torch.cat([vae.decode(half).sample for half in latent.chunk(2, 2)], 2)
    assert (apart - vae.decode(latent).sample)[:, :, :32].abs().max() > 1e-2


@pytest.mark.slow
def test_large_pictures_go_through_in_strips_of_bounded_size(vae, monkeypatch):
    """2048x2048 through the narrow VAE: no layer but the attention, which sees the latent, gets more than a strip."""
    monkeypatch.setattr(vae_strips, "STRIP", 2**15)
    turbo = sd_turbo.SDTurbo(tiny.turbo().unet, vae)
    largest = 0

    def note(layer, args):
        nonlocal largest
        largest = max(largest, args[0].shape[-2] * args[0].shape[-1])

    convolutions = [
        layer for layer in vae.modules() if isinstance(layer, torch.nn.Conv2d) and layer.kernel_size == (3, 3)
    ]
    hooks = [layer.register_forward_pre_hook(note) for layer in convolutions]
    monkeypatch.setattr(vae.encoder.mid_block.attentions[0], "forward", lambda x: x)
    monkeypatch.setattr(vae.decoder.mid_block.attentions[0], "forward", lambda x: x)
    latent = turbo.encode(scene(2048, 2048)[:1])
    assert latent.shape == (1, 4, 256, 256)
    assert turbo.decode(latent).shape == (1, 3, 2048, 2048)
    for hook in hooks:
        hook.remove()
    # After the enlarging upsampler's four times a strip, with the two rows beside it.
    assert largest <= 4 * (2**15 + 2 * 1024)


def test_the_restorers_network_takes_strips_above_its_limit_only(vae, monkeypatch):
    turbo, picture = sd_turbo.SDTurbo(tiny.turbo().unet, vae), scene(128, 64)
    noise = torch.randn(2, 4, 16, 8, generator=torch.Generator().manual_seed(0))
    latent = turbo.encode(picture, noise)
    whole = turbo.decode(latent)
    monkeypatch.setattr(sd_vae, "WHOLE", 128 * 64 - 1)
    monkeypatch.setattr(vae, "encode", None)
    monkeypatch.setattr(vae, "decode", None)
    torch.testing.assert_close(turbo.encode(picture, noise), latent, **ROUNDING)
    torch.testing.assert_close(turbo.decode(latent), whole, **ROUNDING)
