"""Restoration by Generation: add noise to the damaged picture, then generate, unguided, from a constrained prior.

Restoration by Generation with Constrained Priors (CVPR 2024), sections 3 and 4; the constraint is a persona: weights of the
denoiser fine-tuned on an album.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from diffusers import DDPMScheduler, UNet2DModel
from torch.func import functional_call

from ..vocabulary import Conditions, UserError


@dataclass(frozen=True)
class GenerationRestorer:
    """load() gives the epsilon-predicting denoiser; base names it, for the personas that were tuned from it.

    steps: how many of the schedule's 1000 steps of noise are added and removed again (K; 200 at 256 px, 300 at 512 px).
    """

    load: Callable[[], UNet2DModel]
    base: str
    native_size: int | None
    steps: int = 200
    name: str = "generation"
    scale: int = 1
    tileable: bool = False
    needs_references: bool = False

    def restore(self, image: torch.Tensor, conditions: Conditions) -> torch.Tensor:
        """``[B, 3, S, S]`` to the same. Same seed, same picture; zero steps give the input back."""
        if self.steps == 0:
            return image
        net, persona = self.load(), conditions.persona
        if persona is not None and persona.base != self.base:
            raise UserError(
                f"The persona was made for {persona.base!r}, this restorer is {self.base!r}. Load the model it belongs to."
            )
        tuned = {} if persona is None else {name: value.to(net.device) for name, value in persona.tensors.items()}
        schedule = DDPMScheduler(num_train_timesteps=1000, beta_start=1e-4, beta_end=0.02, clip_sample=True)
        generator = torch.Generator().manual_seed(conditions.seed)
        clean = image.to(net.device) * 2 - 1
        noise = torch.randn(clean.shape, generator=generator).to(clean)
        x = schedule.add_noise(clean, noise, torch.full((len(clean),), self.steps - 1))
        for done, t in enumerate(range(self.steps - 1, -1, -1), 1):
            predicted = functional_call(net, tuned, (x, t)).sample
            x = schedule.step(predicted, t, x, generator=generator).prev_sample
            conditions.progress(done, self.steps)
        return ((x + 1) / 2).clamp(0, 1).to(image)
