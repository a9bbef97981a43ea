"""Repeating pixels and convolving them in one layer."""

from __future__ import annotations

import pytest
import torch
from diffusers.models.upsampling import Upsample2D
from personal_restore.models.shared import sd_vae, vae_strips
from personal_restore.models.shared.upsampling import FusedUpsampling, fuse_upsampling
from personal_restore.tests import tiny_s3diff as tiny
from torch import nn


@pytest.mark.parametrize("size", [(1, 1), (5, 7), (8, 8)])
def test_the_fused_layer_gives_what_the_two_gave(size):
    torch.manual_seed(0)
    block = nn.ModuleDict({"up": Upsample2D(6, use_conv=True, out_channels=4)}).requires_grad_(False)
    x = torch.randn(2, 6, *size)
    expected = block["up"](x)
    fuse_upsampling(block)
    assert isinstance(block["up"], FusedUpsampling)
    torch.testing.assert_close(block["up"](x), expected, atol=1e-5, rtol=1e-5)


def test_sd_turbo_decodes_as_before_with_every_doubling_of_its_vae_fused():
    turbo, fused = tiny.turbo(), tiny.turbo()
    fuse_upsampling(fused.vae)
    assert sum(isinstance(layer, FusedUpsampling) for layer in fused.vae.modules()) == 3
    assert not any(isinstance(layer, Upsample2D) for layer in fused.vae.modules())
    torch.manual_seed(0)
    latent = torch.randn(1, 4, 16, 8)
    torch.testing.assert_close(fused.decode(latent), turbo.decode(latent), atol=1e-5, rtol=1e-4)


def test_a_large_latent_is_decoded_in_strips_by_fused_layers_too(monkeypatch):
    turbo, fused = tiny.turbo(), tiny.turbo()
    fuse_upsampling(fused.vae)
    torch.manual_seed(0)
    latent = torch.randn(1, 4, 16, 8)
    expected = turbo.decode(latent)
    monkeypatch.setattr(sd_vae, "WHOLE", 64)
    monkeypatch.setattr(vae_strips, "STRIP", 100)
    torch.testing.assert_close(fused.decode(latent), expected, atol=2e-5, rtol=0)


def test_a_layer_that_something_else_has_changed_is_left_alone():
    block = nn.ModuleDict({"up": Upsample2D(6, use_conv=True)})
    block["up"].conv = nn.Sequential(block["up"].conv)
    fuse_upsampling(block)
    assert isinstance(block["up"], Upsample2D)
