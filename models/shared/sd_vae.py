"""Pictures to the scaled latents that Stable Diffusion works in, and back, whole or, where large, in strips."""

from __future__ import annotations

import torch
from diffusers import AutoencoderKL
from diffusers.models.autoencoders.vae import DiagonalGaussianDistribution

from . import vae_strips

LATENT_SCALE = 0.18215
WHOLE = 1024**2  # pixels up to which the VAE works in one piece


def encode(vae: AutoencoderKL, picture: torch.Tensor, noise: torch.Tensor | None = None) -> torch.Tensor:
    """``[B, 3, H, W]`` in -1..1 to a scaled latent, float32 ``[B, 4, H / 8, W / 8]``: a draw from the posterior with standard
    normal noise of the latent's shape, or without it the mean.
    """
    picture = picture.to(vae.dtype)
    if picture[0, 0].numel() > WHOLE:
        posterior = DiagonalGaussianDistribution(vae_strips.moments(vae, picture))
    else:
        posterior = vae.encode(picture).latent_dist
    latent = posterior.mean.float()
    if noise is not None:
        latent = latent + posterior.std.float() * noise.to(latent)
    return latent * LATENT_SCALE


def decode_latent(vae: AutoencoderKL, latent: torch.Tensor) -> torch.Tensor:
    """A scaled latent's picture, float32 ``[B, 3, H, W]``, about -1..1; a large one is in main memory."""
    latent = (latent / LATENT_SCALE).to(vae.dtype)
    if latent[0, 0].numel() * 64 > WHOLE:
        return vae_strips.decode_in_strips(vae, latent).float()
    return vae.decode(latent).sample.float()
