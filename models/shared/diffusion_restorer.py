"""A latent diffusion model with a ControlNet as a restorer, with or without a persona: DiffBIR as Dual-Pivot Tuning uses it,
PFStorer, and, with no control, Restoration by Generation."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

import torch
import torch.nn.functional as F

from ...lib.diffusion.base import Diffusion
from ...lib.diffusion.noise_schedule import linear_schedule
from ...lib.diffusion.sampling import Guidance, generate, noise_steps
from ...lib.pictures.color import wavelet_fix
from ...lib.pictures.tiles import tiled
from ...lib.vocabulary import Abilities, Conditions, Restorer
from ..personas.wear import check_base, wearing


def classifier_free(negative: torch.Tensor, positive: torch.Tensor, scale: float) -> torch.Tensor:
    """Equations 9 and 10 of PFStorer in terms of ComfyUI's cfg: 0 is the negative side, 1 the positive; above 1 extrapolates.

    Exact at 0, at 1, and if both sides are equal.
    """
    return torch.lerp(negative, positive, scale)


@dataclass(frozen=True)
class DiffusionRestorer:
    """load() returns the model on its device; base is its name, stored in the personas that were trained on it.
    stream() returns it where memory for a part of its weights is enough, if it can: only the layers themselves may then read them.

    denoise: how much noise is added to the damaged (or, with control, the cleaned) picture and removed again, 0..1 of the
    linear schedule's 1000 steps, mapped to equal noise in the model's own; steps: of sampling. control: strength
    of the ControlNet, 0 leaves it out. cfg: 1 runs the model once per step; above 1, it also runs with the negative
    prompt and extrapolates away from it. prompt: added to the persona's.
    blind_negative: the negative side does not see the damaged picture (PFStorer, equation 10), else it does (equation 9).
    skip_guidance: `SkipGuidance`, say, toward the damaged picture, whose `every` counts steps of the 1000, not strides.
    A picture larger than native_size is denoised in tiles of it, which overlap by half.
    """

    load: Callable[[], Diffusion]
    base: str
    native_size: int | None
    denoise: float = 0.4
    steps: int = 25
    control: float = 1.0
    cfg: float = 1.0
    prompt: str = ""
    negative: str = "damaged"
    blind_negative: bool = False
    keep_colors: bool = True
    skip_guidance: Guidance | None = None
    stream: Callable[[], Diffusion] | None = None
    name: str = "diffusion"
    scale: int = 1
    tileable: bool = True
    needs_references: bool = False

    @property
    def abilities(self) -> Abilities:
        """With an adapter as persona it looks at the album."""
        return Abilities(self.base, True, True, True)

    def restore(self, image: torch.Tensor, conditions: Conditions) -> torch.Tensor:
        """``[B, 3, H, W]`` in 0..1 to the same. The same seed gives the same picture; denoise 0 returns the input
        bit for bit.

        Raises UserError for a persona of another model.
        """
        noise = noise_steps(self.denoise)
        if noise == 0:
            return image
        persona, guidance = conditions.persona, self.skip_guidance
        exact = guidance is not None and guidance.exact
        if persona is not None:
            check_base(persona, self.base)
        # A persona changes the weights, and an exact gradient needs them all.
        net = self.load() if self.stream is None or persona is not None or exact else self.stream()
        height, width = image.shape[-2:]
        whole = F.pad(image, (0, -width % net.multiple, 0, -height % net.multiple), mode="replicate")
        if self.control:  # without it, only the damaged picture itself guides the result
            whole = net.cleaner(whole)
        damaged = net.encode(whole.to(net.device))
        own_noise = net.schedule.steps_as_noisy_as(linear_schedule(), noise)
        schedule, times = net.schedule.spaced(own_noise, self.steps)
        generator = torch.Generator().manual_seed(conditions.seed)

        def draw() -> torch.Tensor:
            return torch.randn(damaged.shape, generator=generator).to(damaged)

        crops = [reference.crop for reference in conditions.references]
        references = torch.stack(crops) if crops else None
        said = f"{persona.prompt if persona is not None and conditions.persona_strength else ''} {self.prompt}".strip()
        if guidance is not None and guidance.every:  # as often as without strides, if there are enough of them
            guidance = replace(guidance, every=max(round(guidance.every * len(times) / noise), 1))
        channels, shrink = damaged.shape[1], whole.shape[-1] // damaged.shape[-1]
        tile = max(damaged.shape[-2:]) if self.native_size is None else self.native_size // shrink
        strength, attention = conditions.persona_strength, conditions.persona_attention
        with wearing(net, persona, strength, references, damaged, exact, attention) as predict:

            def predicted(part: torch.Tensor, t: int) -> torch.Tensor:
                x, hint = part[:, :channels], part[:, channels:] if self.control else None
                positive = predict(x, t, said, hint, self.control)
                if self.cfg == 1:
                    return positive
                seen = None if self.blind_negative else hint
                return classifier_free(predict(x, t, self.negative, seen, self.control), positive, self.cfg)

            def denoise(x: torch.Tensor, t: int) -> torch.Tensor:
                """Denoises tile by tile at every step, as in StableSR and PFStorer, so that neighbors agree before the
                next step."""

                def progress(done: int, total: int) -> None:
                    conditions.progress((len(times) - 1 - t) * total + done, len(times) * total)

                given = torch.cat([x, damaged], 1) if self.control else x
                apply = partial(predicted, t=times[t])
                return tiled(apply, given, tile, tile // 2, multiple=net.multiple // shrink, progress=progress).to(x)

            noisy = schedule.add_noise(damaged, len(times), draw())
            latent = generate(denoise, noisy, len(times), schedule, draw, guidance, damaged)
        picture = net.decode(latent).to(image)
        picture = wavelet_fix(picture, whole) if self.keep_colors else picture
        return picture[..., :height, :width].clamp(0, 1)


def first_stage(restorer: Restorer) -> Callable[[torch.Tensor], torch.Tensor]:
    """A restorer as the `cleaner` of a base: DiffBIR's SwinIR, BSRNet and SCUNet are upscale models. Its scale is undone."""

    def clean(picture: torch.Tensor) -> torch.Tensor:
        out = restorer.restore(picture, Conditions())
        if out.shape[-2:] != picture.shape[-2:]:
            out = F.interpolate(out, picture.shape[-2:], mode="bicubic", antialias=True).clamp(0, 1)
        return out

    return clean


def class_pictures(
    restorer: DiffusionRestorer, prompt: str, count: int, steps: int, conditions: Conditions
) -> torch.Tensor:
    """Pictures generated by the base itself from a prompt, ``[count, 3, S, S]`` in 0..1."""
    free = replace(
        restorer, denoise=1.0, steps=steps, control=0.0, cfg=1.0, prompt=prompt, keep_colors=False, skip_guidance=None
    )
    grey = torch.full((count, 3, restorer.native_size, restorer.native_size), 0.5)
    return free.restore(grey, replace(conditions, persona=None))
