"""Restoration by Generation: add noise to the damaged picture, then generate, unguided, from a constrained prior.

Restoration by Generation with Constrained Priors (Ding et al., CVPR 2024), sections 3 and 4; the constraint is a persona:
weights of the denoiser fine-tuned on an album. Where paper and code (adobe-research/gen2res) differ, the form is the code's
and the default the paper's.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import torch
from diffusers import UNet2DModel
from torch.func import functional_call

from ..models.adm_unet import ADMUNet
from ..models.noise_schedule import NoiseSchedule, ReverseStep, linear_schedule
from ..personas.wear import check_base, tuned_weights
from ..vocabulary import Conditions

ALBUM_STEPS, ALBUM_SIZE = 600, 16  # the paper's table 1 and text

# A noisy picture [B, C, H, W] and its time step to the predicted noise, with or without a learned variance, [B, C or 2C, H, W].
Denoise = Callable[[torch.Tensor, int], torch.Tensor]


if TYPE_CHECKING:
    from .diffusion import DiffusionRestorer


@dataclass(frozen=True)
class SkipGuidance:
    """Every so many steps a push towards the damaged picture: equation 6, in the form of the code, where the norm is not squared.

    scale: lambda, how much of the distance's gradient is taken off the picture, which is in -1..1.
    every: n; time steps t with (t + 1) divisible by it are guided, none for 0.
    exact: the gradient passes through the network, which costs a backward pass and the memory for it; else the network is
    taken for the identity, so that the push goes straight to the damaged picture and has the length lambda.
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
        # ComfyUI executes under inference mode, which no gradient enters and no tensor leaves but as a copy.
        with torch.inference_mode(False), torch.enable_grad():
            x, goal = x.clone().requires_grad_(), goal.clone()
            step = schedule.reverse(x, t, denoise(x, t))
            (gradient,) = torch.autograd.grad(torch.linalg.vector_norm(goal - step.clean, dim=(1, 2, 3)).sum(), x)
        return replace(
            step, clean=step.clean.detach(), mean=step.mean.detach(), log_variance=step.log_variance.detach()
        ), gradient


def towards(goal: torch.Tensor, clean: torch.Tensor) -> torch.Tensor:
    """Gradient of the distance to goal with respect to clean, of norm 1 per picture, 0 where they are equal.

    ``clean - scale * towards(goal, clean)`` is the cheap guidance for a sampler that hands out its clean picture.
    """
    difference = clean - goal
    distance = torch.linalg.vector_norm(difference, dim=(1, 2, 3), keepdim=True)
    return difference / distance.where(distance > 0, 1.0)


@torch.no_grad()
def generate(
    denoise: Denoise,
    x: torch.Tensor,
    steps: int,
    schedule: NoiseSchedule,
    draw: Callable[[], torch.Tensor],
    guidance: SkipGuidance | None = None,
    goal: torch.Tensor | None = None,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> torch.Tensor:
    """Ancestral denoising from ``steps`` steps of noise to none. x, goal: ``[B, C, H, W]``, -1..1 but for the noise.

    draw gives standard normal noise of that shape, once per step but the last. goal is what guidance pushes to.
    """
    for done, t in enumerate(range(steps - 1, -1, -1), 1):
        if guidance is not None and guidance.acts(t):
            step, gradient = guidance.push(denoise, schedule, x, t, goal)
            x = step.mean - guidance.scale * gradient
        else:
            step = schedule.reverse(x, t, denoise(x, t))
            x = step.mean
        if t > 0:
            x = x + (step.log_variance / 2).exp() * draw()
        progress(done, steps)
    return x


@dataclass(frozen=True)
class GenerationRestorer:
    """load() gives the denoiser; base names it, for the personas that were tuned from it.

    steps: how much noise is added and removed again, in steps of the linear schedule (K; 200 at 256 px, 300 at 512 px).
    schedule: that of the denoiser, in which as many steps are taken as lead to the same signal-to-noise ratio.
    guidance: None as in the paper; the published script guides, every 10 steps.
    """

    load: Callable[[], UNet2DModel | ADMUNet]
    base: str
    native_size: int | None
    steps: int = 200
    name: str = "generation"
    scale: int = 1
    tileable: bool = False
    needs_references: bool = False
    schedule: NoiseSchedule = field(default_factory=linear_schedule)
    guidance: SkipGuidance | None = None

    def restore(self, image: torch.Tensor, conditions: Conditions) -> torch.Tensor:
        """``[B, 3, S, S]`` to the same. Same seed, same picture; zero steps give the input back."""
        if self.steps == 0:
            return image
        net, persona = self.load(), conditions.persona
        device, tuned = next(net.parameters()).device, {}
        if persona is not None:
            check_base(persona, self.base)
            tuned = tuned_weights(net, persona, conditions.persona_strength)
        if self.guidance is not None and self.guidance.exact:
            tuned = _without_inference({**dict(net.named_parameters()), **dict(net.named_buffers()), **tuned})
        steps = self.schedule.steps_as_noisy_as(linear_schedule(), self.steps)
        generator = torch.Generator().manual_seed(conditions.seed)
        damaged = image.to(device) * 2 - 1

        def draw() -> torch.Tensor:
            return torch.randn(damaged.shape, generator=generator).to(damaged)

        def denoise(x: torch.Tensor, t: int) -> torch.Tensor:
            return functional_call(net, tuned, (x, t)).sample

        noisy = self.schedule.add_noise(damaged, steps, draw())
        x = generate(denoise, noisy, steps, self.schedule, draw, self.guidance, damaged, conditions.progress)
        return ((x + 1) / 2).clamp(0, 1).to(image)


def generative_album(
    restorer: GenerationRestorer | DiffusionRestorer,
    image: torch.Tensor,
    conditions: Conditions,
    count: int = ALBUM_SIZE,
) -> torch.Tensor:
    """Pictures like the damaged one, to tune the denoiser on where there is no album. ``[1, 3, S, S]`` in 0..1 to
    ``[count, 3, S, S]``, with guidance by the restorer's, else the paper's. Seeds count up from that of the conditions.
    """
    maker = replace(restorer, steps=ALBUM_STEPS, guidance=restorer.guidance or SkipGuidance())
    pictures = []
    for index in range(count):

        def progress(done: int, total: int, before: int = index) -> None:
            conditions.progress(before * total + done, count * total)

        pictures.append(maker.restore(image, replace(conditions, seed=conditions.seed + index, progress=progress)))
    return torch.cat(pictures)


def _without_inference(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Copies that gradients may pass, in place of tensors made under inference mode, which they may not."""
    with torch.inference_mode(False):
        return {name: value.clone() if value.is_inference() else value for name, value in tensors.items()}
