"""FaceMe as a PR_RESTORER: an aligned face, generated anew from the damaged face and an album."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import torch
from diffusers import DDPMScheduler

from ...lib.pictures.color import color_fix
from ...lib.vocabulary import Conditions
from ..shared.batches import one_by_one

if TYPE_CHECKING:
    from .network import FaceMe

# SDXL's schedule; FaceMe's script steps through it as DDPM.
SCHEDULE = {
    "beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear", "timestep_spacing": "leading",
    "steps_offset": 1, "clip_sample": False,
}  # fmt: skip
LAST = 999


@dataclass(frozen=True, eq=False)
class FaceMeRestorer:
    """load() returns the network on its device; identify(crop ``[3, S, S]``) the unit embedding ``[512]`` of antelopev2's ArcFace.

    steps, cfg: of FaceMe's script. color: ``wavelet``, ``adain``, or None to leave the colors as they come out.
    """

    load: Callable[[], FaceMe]
    identify: Callable[[torch.Tensor], np.ndarray]
    steps: int = 50
    cfg: float = 5.0
    color: str | None = "wavelet"
    name: str = "FaceMe"
    native_size: int | None = 512
    scale: int = 1
    tileable: bool = False
    needs_references: bool = True

    @torch.no_grad()
    def restore(self, image: torch.Tensor, conditions: Conditions) -> torch.Tensor:
        """``[B, 3, S, S]`` in 0..1 to the same, one face at a time. The same seed and album give the same face."""
        net = self.load()
        crops = torch.stack([one.crop for one in conditions.references])
        identities = torch.from_numpy(np.stack([self.identify(crop) for crop in crops]))
        person = net.person(crops.to(net.words), identities)
        return one_by_one(partial(self._restore_one, net, person), image, conditions)

    def _restore_one(
        self, net: FaceMe, person: torch.Tensor, face: torch.Tensor, conditions: Conditions
    ) -> torch.Tensor:
        scheduler = DDPMScheduler(**SCHEDULE)
        scheduler.set_timesteps(self.steps)
        # Drawn on the CPU, so that a seed gives the same noise on every device.
        generator = torch.Generator().manual_seed(conditions.seed)
        damaged = face.to(net.words) * 2 - 1
        shape = 1, 4, face.shape[-2] // 8, face.shape[-1] // 8
        latent = net.encode(damaged, torch.randn(shape, generator=generator))
        # As published: noise of the last time step, though the first step of the denoising is an earlier one.
        noise = torch.randn(shape, generator=generator).to(latent)
        latent = scheduler.add_noise(latent, noise, torch.tensor([LAST]))
        for step, time in enumerate(scheduler.timesteps.tolist(), 1):
            noise = net.predict(latent, time, damaged, person, self.cfg)
            latent = scheduler.step(noise, time, latent, generator=generator).prev_sample
            conditions.progress(step, self.steps)
        out = (net.decode(latent) / 2 + 0.5).cpu()
        if self.color is not None:
            out = color_fix(out, face.cpu(), self.color)
        return out.clamp(0, 1)
