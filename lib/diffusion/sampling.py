"""Ancestral sampling, free or guided."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import torch

from .noise_schedule import NoiseSchedule, ReverseStep

# A noisy picture [B, C, H, W] and its time step to the predicted noise, with or without a learned variance, [B, C or 2C, H, W].
Denoise = Callable[[torch.Tensor, int], torch.Tensor]


def noise_steps(denoise: float, total: int = 1000) -> int:
    """ComfyUI's denoise, 0..1, as steps of noise, 0..total: K of Restoration by Generation."""
    return round(denoise * total)


class Guidance(Protocol):
    """What pushes the picture at some of the steps: Restoration by Generation has one, `SkipGuidance`.

    scale: how much of the gradient is taken off; exact: it passes through the network.
    """

    @property
    def scale(self) -> float: ...
    @property
    def every(self) -> int: ...
    @property
    def exact(self) -> bool: ...

    def acts(self, t: int) -> bool:
        """Whether time step t is guided."""

    def push(
        self, denoise: Denoise, schedule: NoiseSchedule, x: torch.Tensor, t: int, goal: torch.Tensor
    ) -> tuple[ReverseStep, torch.Tensor]:
        """The reverse step at x, and the gradient of the distance to goal; ``[B, C, H, W]``."""


@torch.no_grad()
def generate(
    denoise: Denoise,
    x: torch.Tensor,
    steps: int,
    schedule: NoiseSchedule,
    draw: Callable[[], torch.Tensor],
    guidance: Guidance | None = None,
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
