"""The pixel-space base: its hybrid loss."""

from __future__ import annotations

import math

import pytest
import torch
from personal_restore.lib.diffusion.noise_schedule import ReverseStep, linear_schedule
from personal_restore.models.gen2res.pixel_diffusion import PixelDiffusion, level_likelihood


class Nothing(torch.nn.Module):
    """Has a parameter, as a network has."""

    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(1))


@pytest.fixture
def net() -> PixelDiffusion:
    return PixelDiffusion(Nothing(), 8, 1)


def given(seed: int = 0):
    generator = torch.Generator().manual_seed(seed)
    clean = torch.rand(2, 3, 8, 8, generator=generator) * 2 - 1
    return clean, torch.randn(clean.shape, generator=generator)


@pytest.mark.parametrize("t", [1, 40, 500, 999])
def test_the_bound_is_0_where_noise_and_variance_are_those_of_the_posterior(net, t):
    clean, noise = given()
    exact = torch.cat([noise, -torch.ones_like(noise)], 1)  # -1: the posterior's own variance
    loss = net.loss(exact, noise, torch.tensor([t, t]), clean)
    torch.testing.assert_close(loss, torch.zeros(2), atol=1e-5, rtol=0)


@pytest.mark.parametrize("t", [3, 300])
def test_the_bound_is_the_divergence_of_two_normal_distributions_in_bits(net, t):
    clean, noise = given()
    found, share = noise + 0.3, torch.full_like(noise, 0.2)
    schedule = linear_schedule()
    left = schedule.left(t + 1)
    noisy = math.sqrt(left) * clean + math.sqrt(1 - left) * noise
    ours = schedule.reverse(noisy, t, torch.cat([found, share], 1))
    unclipped = (noisy - math.sqrt(1 - left) * found) / math.sqrt(left)
    normal = torch.distributions.Normal
    mean = ours.mean + ours.sway * (unclipped - ours.clean)
    before = schedule.left(t)
    variance = (1 - left / before) * (1 - before) / (1 - left)
    true_mean = (noisy * math.sqrt(left / before) * (1 - before) + clean * math.sqrt(before) * (1 - left / before)) / (
        1 - left
    )
    true = normal(true_mean, torch.full_like(mean, math.sqrt(variance)))
    bits = torch.distributions.kl_divergence(true, normal(mean, (ours.log_variance / 2).exp())).mean(
        (1, 2, 3)
    ) / math.log(2)
    loss = net.loss(torch.cat([found, share], 1), noise, torch.tensor([t, t]), clean)
    torch.testing.assert_close(loss, bits + 0.09, rtol=2e-3, atol=1e-5)


def test_the_bound_teaches_the_variance_alone(net):
    clean, noise = given()
    predicted = torch.cat([noise + 0.5, torch.zeros_like(noise)], 1).requires_grad_()
    net.loss(predicted, noise, torch.tensor([100, 0]), clean).sum().backward()
    mean, variance = predicted.grad.chunk(2, 1)
    torch.testing.assert_close(mean, torch.full_like(mean, 2 * 0.5 / mean[0].numel()))
    assert variance[0].any() and variance[1].any()


def test_the_levels_of_a_pixel_share_all_probability():
    levels = torch.linspace(-1, 1, 256).view(1, 1, 16, 16)
    step = ReverseStep(torch.zeros(1), torch.tensor(0.9), torch.tensor(math.log(0.2**2)), 1.0)
    likelihood = level_likelihood(levels, step)
    assert likelihood.exp().sum() == pytest.approx(1, abs=1e-4)
    assert likelihood.flatten().argmax() == 255  # all that lies above the brightest level falls on it


def test_without_a_learned_variance_the_error_is_all(net):
    clean, noise = given()
    loss = net.loss(noise + 0.2, noise, torch.tensor([5, 900]), clean)
    torch.testing.assert_close(loss, torch.full((2,), 0.04))
