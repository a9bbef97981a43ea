"""What the spectra of a pair say about blur and noise, on the astronaut."""

from __future__ import annotations

import math

import pytest
import torch
from kornia.filters import gaussian_blur2d
from personal_restore.models.embedded.fadex import FaDeX
from personal_restore.models.embedded.pair_spectrum import FLOOR, WINDOW, pair_spectrum


@pytest.fixture(scope="module")
def crops(astronaut) -> torch.Tensor:
    """Two places of one photograph, ``[2, 3, 192, 192]``."""
    return torch.stack([astronaut[0, :, 20:212, 130:322], astronaut[0, :, 300:492, 200:392]])


def spectra(good: torch.Tensor, bad: torch.Tensor) -> torch.Tensor:
    """``[B, 3, 2, 32, 17]``: transfer function, residual and power, of Y and of Cb with Cr."""
    return pair_spectrum(torch.cat([good, bad], 1)).unflatten(1, (3, 2))


def test_equal_pictures_have_a_flat_transfer_function_and_no_residual(crops):
    transfer, residual, power = spectra(crops, crops)[:, :, 0].unbind(1)
    strong = power > math.log(100 * FLOOR) / 7 + 1
    assert strong.float().mean() > 0.2
    assert transfer[strong].min() > 0.98 and transfer.max() <= 1
    assert residual[strong].max() < math.log(3 * FLOOR) / 7 + 1


@pytest.mark.parametrize("sigma", [0.8, 1.5])
def test_a_blur_shows_as_its_transfer_function(crops, sigma):
    blurred = gaussian_blur2d(crops, (25, 25), (sigma, sigma))
    across = spectra(crops, blurred)[:, 0, 0, 0, :9]  # along the rows, up to half of Nyquist
    frequency = torch.arange(9) / WINDOW
    expected = torch.exp(-2 * (math.pi * sigma * frequency) ** 2)
    assert (across.mean(0) - expected)[1:].abs().max() < 0.1


def test_a_wider_blur_has_a_narrower_transfer_function(crops):
    widths = [
        float(spectra(crops, gaussian_blur2d(crops, (41, 41), (sigma, sigma)))[:, 0, 0].clamp(min=0).sum())
        for sigma in (1.0, 2.0, 3.0, 4.0, 5.0)
    ]
    assert widths == sorted(widths, reverse=True) and widths[-1] < 0.9 * widths[-2]


@pytest.mark.parametrize("sigma", [5, 20])
def test_noise_shows_as_its_variance_whatever_the_picture(crops, sigma):
    noisy = crops + torch.randn(crops.shape, generator=torch.Generator().manual_seed(1)) * sigma / 255
    residual = ((spectra(crops, noisy)[:, 1, 0] - 1) * 7).exp()  # of Y: the weights' squares add up to .447
    expected = 0.447 * (sigma / 255) ** 2
    assert (residual.mean((1, 2)) / expected - 1).abs().max() < 0.1


def test_a_pair_smaller_than_a_window_is_read_too():
    assert FaDeX((4, 6, 8), spectrum=True).eval()(torch.rand(1, 6, 20, 17)).isfinite().all()


def test_an_untrained_spectrum_changes_nothing():
    net = FaDeX((4, 6, 8), spectrum=True).eval()
    pair = torch.rand(1, 6, 64, 64)
    assert torch.equal(net(pair), net.E(pair))
