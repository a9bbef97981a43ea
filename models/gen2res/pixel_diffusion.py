"""A diffusion model that works on pixels and takes no text: the prior of Restoration by Generation (Ding et al. 2024)."""

from __future__ import annotations

import math
from dataclasses import replace

import torch
from diffusers import UNet2DModel

from ...lib.diffusion.base import Diffusion
from ...lib.diffusion.noise_schedule import NoiseSchedule, ReverseStep, linear_schedule
from .adm_unet import ADMUNet


class PixelDiffusion(Diffusion):
    """unet: guided-diffusion's (``base_256.pt``), or diffusers' own in pixels; schedule: that it was trained with."""

    large = True

    def __init__(
        self,
        unet: ADMUNet | UNet2DModel,
        native_size: int = 256,
        multiple: int = 32,
        schedule: NoiseSchedule | None = None,
    ):
        super().__init__()
        self.unet, self.native_size, self.multiple = unet, native_size, multiple
        self._schedule = schedule or linear_schedule()

    @property
    def schedule(self) -> NoiseSchedule:
        return self._schedule

    def encode(self, picture: torch.Tensor) -> torch.Tensor:
        return picture * 2 - 1

    def decode(self, latent: torch.Tensor) -> torch.Tensor:
        return (latent + 1) / 2

    def predict(self, noisy: torch.Tensor, t: torch.Tensor, text: None, added: dict) -> torch.Tensor:
        """Noise ``[B, 3, H, W]``, or noise and learned variance ``[B, 6, H, W]`` where the UNet was trained for both."""
        return self.unet(noisy, t).sample

    def loss(self, predicted: torch.Tensor, noise: torch.Tensor, t: torch.Tensor, clean: torch.Tensor) -> torch.Tensor:
        """Squared error of the noise and, with a learned variance, the variational bound, which teaches that alone: L_hybrid of
        Nichol and Dhariwal 2021 in guided-diffusion's weighting, ``[B]``.
        """
        predicted = predicted.float()
        count = noise.shape[1]
        error = super().loss(predicted[:, :count], noise, t, clean)
        if predicted.shape[1] == count:
            return error
        left = self.left(clean, t)
        noisy = left.sqrt() * clean + (1 - left).sqrt() * noise
        frozen = torch.cat([predicted[:, :count].detach(), predicted[:, count:]], 1)
        each = zip(clean.split(1), noisy.split(1), noise.split(1), frozen.split(1), t.tolist(), strict=True)
        return error + torch.stack([self._bound(*one) for one in each])

    def _bound(
        self, clean: torch.Tensor, noisy: torch.Tensor, noise: torch.Tensor, predicted: torch.Tensor, t: int
    ) -> torch.Tensor:
        """The term of the variational bound at one time step in bits per value, of one picture."""
        schedule = replace(self.schedule, limit=None)
        ours = schedule.reverse(noisy, t, predicted)
        if t == 0:
            return -level_likelihood(clean, ours).mean() / math.log(2)
        true = schedule.reverse(noisy, t, noise)
        change = true.log_variance - ours.log_variance
        apart = (true.mean - ours.mean).square() * (-ours.log_variance).exp()
        return 0.5 * (change.exp() - 1 - change + apart).mean() / math.log(2)


def level_likelihood(clean: torch.Tensor, step: ReverseStep) -> torch.Tensor:
    """Logarithm of the probability that a draw from the step falls nearest the value of clean, of the 256 levels in -1..1."""
    spread = (step.log_variance / 2).exp()

    def below(edge):
        return torch.special.ndtr((edge - step.mean) / spread)

    upper = torch.where(clean > 0.999, 1.0, below(clean + 1 / 255))
    lower = torch.where(clean < -0.999, 0.0, below(clean - 1 / 255))
    return (upper - lower).clamp(min=1e-12).log()
