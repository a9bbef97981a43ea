"""How much noise a diffusion process has added after each of its steps, and one step of its reversal.

DDPM (Ho et al. 2020) and, for learned variances, Nichol and Dhariwal 2021, equation 15, as guided-diffusion computes them
(gaussian_diffusion.py of openai/guided-diffusion). K counts steps of noise, 0 is the clean picture; the time step index that
a network sees is t = K - 1.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import cache

import torch


@dataclass(frozen=True)
class ReverseStep:
    """What a prediction at time step t says about the step before it; pictures are ``[B, C, H, W]``.

    clean: the predicted clean picture; mean, log_variance: of the normal distribution to draw from; sway: by how much
    mean moves when clean moves by 1.
    """

    clean: torch.Tensor
    mean: torch.Tensor
    log_variance: torch.Tensor
    sway: float


@dataclass(frozen=True, eq=False)
class NoiseSchedule:
    """alphas_cumprod: share of the clean picture's variance that is left after step t, float64 ``[T]``, falling.

    limit: clean pictures are known to lie within -limit..limit; None if nothing is known, as of a VAE's latents.
    """

    alphas_cumprod: torch.Tensor
    limit: float | None = 1.0

    def left(self, steps: int) -> float:
        """That share after ``steps`` steps, 0..T."""
        return float(self.alphas_cumprod[steps - 1]) if steps else 1.0

    def sigma(self, steps: int) -> float:
        """Standard deviation of the noise after ``steps`` steps beside a picture of unchanged contrast; 0 after none."""
        return math.sqrt(1 / self.left(steps) - 1)

    def divergence(self, steps: int) -> float:
        """KL(q || q') of the noisy versions of two pictures after ``steps`` steps, at least 1, per squared difference of a value of
        theirs (Restoration by Generation, supplement, equation 3). It falls with more noise, which makes pictures alike."""
        left = self.left(steps)
        return left / (2 * (1 - left))

    def entropy(self, steps: int) -> float:
        """H of a value of a noisy picture after ``steps`` steps, at least 1, in nats (equation 5 there). It rises with more noise,
        which leaves more open."""
        return 0.5 * math.log(2 * math.pi * (1 - self.left(steps))) + 0.5

    def sigmas(self, steps: int) -> torch.Tensor:
        """From sigma(steps) down to 0, float32 ``[steps + 1]``: what ComfyUI calls SIGMAS."""
        return torch.tensor([self.sigma(count) for count in range(steps, -1, -1)])

    def steps_as_noisy_as(self, other: NoiseSchedule, steps: int) -> int:
        """How many steps here end nearest the signal-to-noise ratio, in logarithms, of so many steps of another schedule."""
        if steps == 0:
            return 0
        ratios = (self.alphas_cumprod / (1 - self.alphas_cumprod)).log()
        return int((ratios + 2 * math.log(other.sigma(steps))).abs().argmin()) + 1

    def spaced(self, steps: int, count: int) -> tuple[NoiseSchedule, list[int]]:
        """The way down from ``steps`` in at most ``count`` equal strides: a schedule of its own, and the time step of each of its
        steps in this one, which is what the network is told.
        """
        indices = torch.linspace(0, steps - 1, min(count, steps)).round().long()
        if count == 1:
            indices = torch.tensor([steps - 1])
        return replace(self, alphas_cumprod=self.alphas_cumprod[indices]), indices.tolist()

    def add_noise(self, clean: torch.Tensor, steps: int, noise: torch.Tensor) -> torch.Tensor:
        """q_sample: the picture after ``steps`` steps; noise: standard normal, of the picture's shape. 0 gives it back."""
        if steps == 0:
            return clean
        left = self.left(steps)
        return math.sqrt(left) * clean + math.sqrt(1 - left) * noise

    def reverse(self, x: torch.Tensor, t: int, prediction: torch.Tensor) -> ReverseStep:
        """p_mean_variance: from t to t - 1. x: ``[B, C, H, W]``; the predicted clean picture is clipped to the limit.

        prediction: the noise ``[B, C, H, W]``, or noise and learned variance ``[B, 2C, H, W]``, the latter -1 for the
        smallest possible (the posterior's) and 1 for the largest (beta).
        """
        left, left_before = self.left(t + 1), self.left(t)
        beta = 1 - left / left_before
        noise = prediction[:, : x.shape[1]]
        clean = (x - math.sqrt(1 - left) * noise) / math.sqrt(left)
        if self.limit is not None:
            clean = clean.clamp(-self.limit, self.limit)
        sway = beta * math.sqrt(left_before) / (1 - left)
        mean = sway * clean + math.sqrt(1 - beta) * (1 - left_before) / (1 - left) * x
        # 0 at t = 0, where guided-diffusion takes the next one, if there is one.
        smallest = math.log(max(self._posterior_variance(min(max(t, 1), len(self.alphas_cumprod) - 1)), 1e-20))
        if prediction.shape[1] == x.shape[1]:
            log_variance = torch.full_like(x, smallest)
        else:
            share = (prediction[:, x.shape[1] :] + 1) / 2
            log_variance = share * math.log(beta) + (1 - share) * smallest
        return ReverseStep(clean, mean, log_variance, sway)

    def _posterior_variance(self, t: int) -> float:
        left, left_before = self.left(t + 1), self.left(t)
        return (1 - left / left_before) * (1 - left_before) / (1 - left)


@cache
def linear_schedule() -> NoiseSchedule:
    """1000 steps, beta from 1e-4 to 0.02: DDPM, guided-diffusion, gen2res."""
    return NoiseSchedule((1 - torch.linspace(1e-4, 0.02, 1000, dtype=torch.float64)).cumprod(0))


@cache
def stable_diffusion_schedule() -> NoiseSchedule:
    """1000 steps, square root of beta from that of 0.00085 to that of 0.012: Stable Diffusion, DiffBIR, PFStorer."""
    roots = torch.linspace(math.sqrt(0.00085), math.sqrt(0.012), 1000, dtype=torch.float64)
    return NoiseSchedule((1 - roots.square()).cumprod(0))


@cache
def zero_terminal_schedule() -> NoiseSchedule:
    """Stable Diffusion's, stretched so that nothing is left after its last step (Lin et al. 2024, algorithm 1): DiffBIR 2.1.

    999 steps: at the thousandth, noise that a network predicts says nothing of the picture.
    """
    roots = stable_diffusion_schedule().alphas_cumprod.sqrt()
    roots = (roots - roots[-1]) * roots[0] / (roots[0] - roots[-1])
    return NoiseSchedule(roots[:-1].square())
