"""Restoration by Generation: add noise to the damaged picture, then generate, unguided, from a constrained prior.

Restoration by Generation with Constrained Priors (Ding et al., CVPR 2024), sections 3 and 4; the constraint is a persona:
weights of the denoiser fine-tuned on an album. Where paper and code (adobe-research/gen2res) differ, the form is the code's
and the default the paper's.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch

from ...lib.diffusion.base import Diffusion
from ...lib.diffusion.noise_schedule import NoiseSchedule, ReverseStep
from ...lib.diffusion.sampling import Denoise
from ...lib.vocabulary import Conditions
from ..shared.diffusion_restorer import DiffusionRestorer

ALBUM_DENOISE, ALBUM_SIZE = 0.6, 16  # the paper's table 1 and text


@dataclass(frozen=True)
class SkipGuidance:
    """Guidance toward the damaged picture every few steps: equation 6, as in the code, where the norm is not squared.

    scale: lambda, the factor of the distance's gradient that is subtracted from the picture, which is in -1..1.
    every: n; time steps t with (t + 1) divisible by it are guided, none for 0.
    exact: the gradient passes through the network, which costs a backward pass and its memory. Otherwise, the network
    is treated as the identity, so that the update points straight to the damaged picture and has the length lambda.
    """

    scale: float = 0.3
    every: int = 20
    exact: bool = True

    def acts(self, t: int) -> bool:
        return self.scale != 0 and self.every > 0 and (t + 1) % self.every == 0

    def push(
        self, denoise: Denoise, schedule: NoiseSchedule, x: torch.Tensor, t: int, goal: torch.Tensor
    ) -> tuple[ReverseStep, torch.Tensor]:
        """The reverse step at x, and the gradient of the distance between goal and predicted clean picture, summed over
        the batch; both ``[B, C, H, W]``, not yet scaled. Where the distance is 0, so is the gradient.
        """
        if not self.exact:
            step = schedule.reverse(x, t, denoise(x, t))
            return step, towards(goal, step.clean)
        # ComfyUI executes under inference mode, which allows no gradients and lets tensors out only as copies.
        with torch.inference_mode(False), torch.enable_grad():
            x, goal = x.clone().requires_grad_(), goal.clone()
            step = schedule.reverse(x, t, denoise(x, t))
            (gradient,) = torch.autograd.grad(torch.linalg.vector_norm(goal - step.clean, dim=(1, 2, 3)).sum(), x)
        return replace(
            step, clean=step.clean.detach(), mean=step.mean.detach(), log_variance=step.log_variance.detach()
        ), gradient


def skip_guidance_of(scale: float) -> SkipGuidance | None:
    """The nodes' single number: how strong each step is; 0 turns guidance off."""
    return SkipGuidance(scale=scale) if scale else None


def towards(goal: torch.Tensor, clean: torch.Tensor) -> torch.Tensor:
    """Gradient of the distance to goal with respect to clean, of norm 1 per picture, 0 where they are equal.

    ``clean - scale * towards(goal, clean)`` is the cheap guidance for a sampler that hands out its clean picture.
    """
    difference = clean - goal
    distance = torch.linalg.vector_norm(difference, dim=(1, 2, 3), keepdim=True)
    return difference / distance.where(distance > 0, 1.0)


def generative_album(
    restorer: DiffusionRestorer,
    image: torch.Tensor,
    conditions: Conditions,
    count: int = ALBUM_SIZE,
) -> torch.Tensor:
    """Pictures similar to the damaged one, for training the denoiser if there is no album. ``[1, 3, S, S]`` in 0..1 to
    ``[count, 3, S, S]``, with the restorer's guidance or, by default, the paper's. Seeds count up from that of the
    conditions.
    """
    maker = replace(restorer, denoise=ALBUM_DENOISE, skip_guidance=restorer.skip_guidance or SkipGuidance())
    pictures = []
    for index in range(count):

        def progress(done: int, total: int, before: int = index) -> None:
            conditions.progress(before * total + done, count * total)

        pictures.append(maker.restore(image, replace(conditions, seed=conditions.seed + index, progress=progress)))
    return torch.cat(pictures)


def generation(
    load: Callable[[], Diffusion],
    base: str,
    native_size: int,
    stream: Callable[[], Diffusion] | None = None,
    denoise: float = 0.2,
    skip_guidance: SkipGuidance | None = None,
) -> DiffusionRestorer:
    """Restoration by Generation as published: no control, every step is taken, and colors are not corrected.

    denoise: K / 1000, 0.2 at 256 px, 0.3 at 512 px. skip_guidance: None as in the paper; the published script uses guidance every 10
    steps.
    """
    return DiffusionRestorer(
        load,
        base,
        native_size,
        denoise,
        steps=1000,
        control=0.0,
        keep_colors=False,
        skip_guidance=skip_guidance,
        stream=stream,
        name="generation",
    )
