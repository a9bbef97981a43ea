"""Training batches for personas: pictures of the album, damaged anew for every step, with noise and a reference."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch

from ...lib.degradation.families import FAMILIES
from ...lib.diffusion.base import Diffusion, fitted


@dataclass(frozen=True)
class Batch:
    """clean, hint, reference: latents ``[B, C, h, w]`` of pictures, of the same pictures damaged and cleaned, and of
    other pictures of the person;
    noise of that shape; t: time steps ``[B]``; silent: bool ``[B]``, True if the prompt is left out.
    """

    clean: torch.Tensor
    hint: torch.Tensor | None
    reference: torch.Tensor
    noise: torch.Tensor
    t: torch.Tensor
    silent: torch.Tensor

    def noisy(self, net: Diffusion) -> torch.Tensor:
        left = net.left(self.clean, self.t)
        return left.sqrt() * self.clean + (1 - left).sqrt() * self.noise


SILENCE = 0.1  # how often an in-context prompt is left out, so that guidance has an unconditional side


@torch.no_grad()
def draw_batch(
    net: Diffusion,
    pictures: torch.Tensor,
    count: int,
    family: str | None,
    seed: int,
    step: int,
    intact: float = 0.0,
) -> Batch:
    """``count`` pictures of ``[N, 3, S, S]``, without repetition if there are enough. The same seed and step give the
    same batch.

    family: of the damage, a name in `FAMILIES`, or None if no hint is needed. Damage is applied at the size of the
    pictures, as in the papers on faces of 512x512, and both pictures are then resized to the size of the net. The
    reference differs from the picture to restore, if there is more than one. intact: how often the hint is the undamaged picture,
    so that a good one is left as it is (PFStorer's p_HQ).
    """
    rng = np.random.default_rng((seed, step))
    chosen = rng.choice(len(pictures), count, replace=count > len(pictures))
    others = (chosen + (rng.integers(1, len(pictures), count) if len(pictures) > 1 else 0)) % len(pictures)
    draws = rng.integers(
        2**62, size=count
    )  # drawn with and without damage, so that all other random draws are the same
    latent = net.encode(fitted(net, pictures[chosen]))
    generator = torch.Generator().manual_seed(int(rng.integers(2**62)))
    batch = Batch(
        clean=latent,
        hint=None,
        reference=net.encode(fitted(net, pictures[others])),
        noise=torch.randn(latent.shape, generator=generator).to(latent),
        t=torch.from_numpy(rng.integers(0, len(net.schedule.alphas_cumprod), count)).to(latent.device),
        silent=torch.from_numpy(rng.random(count) < SILENCE).to(latent.device),
    )
    if family is None:
        return batch
    shown = [
        pictures[[one]].cpu() if whole else FAMILIES[family](int(draw)).apply(pictures[[one]].cpu())
        for one, draw, whole in zip(chosen, draws, rng.random(count) < intact, strict=True)
    ]
    return replace(batch, hint=net.encode(net.cleaner(fitted(net, torch.cat(shown)))))
