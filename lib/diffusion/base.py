"""The interface that a diffusion model must offer for `DiffusionRestorer` and for every persona method."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from contextlib import nullcontext

import torch
import torch.nn.functional as F
from torch import nn

from .noise_schedule import NoiseSchedule


class Diffusion(nn.Module, ABC):
    """unet, control and text are the base system of Dual-Pivot Tuning: G, E and the text encoder. A model may lack the last two.

    unet: called as ``unet(noisy, t, text, down_block_additional_residuals=, mid_block_additional_residual=).sample``.
    control: called as ``control(noisy, hint, t, text)``; what it gives goes to the skips and, the last, to the middle. One that
    steers otherwise comes with a `steered` of its own.
    text: has ``rows``, the embedding of every word ``[W, C]``, ``row(word)``, ``indices(prompts)`` ``[B, T]``, ``end``, the index
    that ends a text, and is called as ``text(indices, learnt)``.
    cleaner: ``[B, 3, H, W]`` in 0..1 to the same, a restorer that takes most of the damage away before the control looks (DiffBIR's
    first stage); not part of the weights. Without one the damaged picture itself is shown.

    native_size: side of the faces it is trained on; multiple: sides of a picture are multiples of this; places: where PFStorer's
    blocks go in the UNet; velocity: the UNet predicts sqrt(left) * noise - sqrt(1 - left) * clean (Salimans and Ho 2022) instead
    of the noise; large: too large to be trained without saving memory.
    """

    native_size: int
    multiple: int
    places: tuple[str, ...] = ()
    velocity = False
    large = False
    unet: nn.Module

    def __init__(self):
        super().__init__()
        self.register_buffer("place", torch.empty(0), persistent=False)
        self.control: nn.Module | None = None
        self.text: nn.Module | None = None
        self.cleaner: Callable[[torch.Tensor], torch.Tensor] = lambda picture: picture

    @property
    def device(self) -> torch.device:
        """Where it computes; its weights may be elsewhere, see `bridge.keep`."""
        return self.place.device

    @property
    @abstractmethod
    def schedule(self) -> NoiseSchedule:
        """That it was trained with."""

    @abstractmethod
    def encode(self, picture: torch.Tensor) -> torch.Tensor:
        """``[B, 3, H, W]`` in 0..1 to a latent ``[B, C, h, w]``, in float32. The same picture gives the same latent."""

    @abstractmethod
    def decode(self, latent: torch.Tensor) -> torch.Tensor:
        """A latent's picture ``[B, 3, H, W]``, about 0..1."""

    def prompt(self, text: str, count: int = 1, learnt: tuple[int, torch.Tensor] | None = None) -> torch.Tensor | None:
        """Embedded text ``[count, T, D]``; None if the model takes no text. learnt: a row and what stands in its place, ``[C]``."""
        if self.text is None:
            return None
        return self.text(self.text.indices([text]), learnt).expand(count, -1, -1)

    def silence(self, count: int) -> torch.Tensor:
        """The empty prompt, which the control always receives (Dual-Pivot Tuning; DiffBIR)."""
        return self.prompt("", count)

    def forward(
        self,
        noisy: torch.Tensor,
        t: torch.Tensor,
        text: torch.Tensor | None,
        hint: torch.Tensor | None = None,
        strength: float | torch.Tensor = 1.0,
    ) -> torch.Tensor:
        """Predicted noise, of the shape and precision of noisy. t: index of the time step ``[B]``; text: `prompt`; hint: latent of
        the cleaned picture.

        strength: of the control, 0..1, one for all or ``[B, 1, 1, 1]``. Without a hint or with strength 0 the UNet is alone.
        """
        half = self.half_precision
        with torch.autocast(noisy.device.type, half) if half else nullcontext():
            shown, told = self.shown(noisy, t), None if hint is None else self.told(hint)
            alone = told is None or self.control is None or (not isinstance(strength, torch.Tensor) and strength == 0)
            if alone:
                predicted = self.predict(shown, t, text, {})
            else:
                predicted = self.steered(shown, told, t, text, strength)
        return self.noise(predicted.to(noisy.dtype), noisy, t)

    def steered(
        self,
        shown: torch.Tensor,
        told: torch.Tensor,
        t: torch.Tensor,
        text: torch.Tensor | None,
        strength: float | torch.Tensor,
    ) -> torch.Tensor:
        """What the UNet predicts under the control: of a ControlNet, what it adds to the skips and to the middle."""
        parts = [strength * part for part in self.control(shown, told, t, self.silence(len(shown)))]
        added = {"down_block_additional_residuals": parts[:-1], "mid_block_additional_residual": parts[-1]}
        return self.predict(shown, t, text, added)

    def shown(self, noisy: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        """The networks' input for a noisy latent."""
        return noisy

    def told(self, hint: torch.Tensor) -> torch.Tensor:
        """The control's input for the cleaned picture's latent."""
        return hint

    def predict(self, shown: torch.Tensor, t: torch.Tensor, text: torch.Tensor | None, added: dict) -> torch.Tensor:
        return self.unet(shown, t, text, **added).sample

    def noise(self, predicted: torch.Tensor, noisy: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        """The noise in a latent, of what the UNet predicts."""
        if not self.velocity:
            return predicted
        left = self.left(noisy, t)
        return (1 - left).sqrt() * noisy + left.sqrt() * predicted

    def left(self, latent: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        """Share of the clean picture's variance that is left at time steps ``[B]``, ``[B, 1, 1, 1]``, as a factor of latent."""
        return self.schedule.alphas_cumprod.to(latent)[t.cpu()].view(-1, 1, 1, 1).to(latent.device)

    def loss(self, predicted: torch.Tensor, noise: torch.Tensor, t: torch.Tensor, clean: torch.Tensor) -> torch.Tensor:
        """What the model was trained with, per picture: squared error of the noise ``[B, C, h, w]`` or, where it predicts the
        velocity, of that, so that no time step dominates: ``[B]``. clean: the latent under the noise.
        """
        error = (predicted.float() - noise).square().mean((1, 2, 3))
        return error / self.left(noise, t).flatten() if self.velocity else error

    def enable_gradient_checkpointing(self) -> None:
        """Saves memory in training: the networks recompute activations in the backward pass."""
        for part in (self.unet, self.control):
            if part is not None:  # a model may have no control
                part.enable_gradient_checkpointing()

    @property
    def half_precision(self) -> torch.dtype | None:
        """The base's half precision, if it uses one; trained weights are in single precision regardless."""
        kinds = {weight.dtype for part in (self.unet, self.control) if part is not None for weight in part.parameters()}
        return next((kind for kind in (torch.bfloat16, torch.float16) if kind in kinds), None)


def fitted(net: Diffusion, pictures: torch.Tensor) -> torch.Tensor:
    """Resizes ``[N, 3, S, S]`` in 0..1 to the size of the net and moves it to the net's device."""
    side = net.native_size
    if pictures.shape[-2:] != (side, side):
        pictures = F.interpolate(pictures, (side, side), mode="bicubic", antialias=True).clamp(0, 1)
    return pictures.to(net.device)
