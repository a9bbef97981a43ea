"""The preview of a training run: a face restored with the current weights, and the loss so far."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image, ImageDraw, ImageFont

from ...lib.degradation.families import FAMILIES
from ...lib.pictures.files import to_pil
from ...lib.vocabulary import Conditions, Persona, Reference
from ...models.shared.diffusion_restorer import DiffusionRestorer
from .methods import Settings
from .presets import steps_in_all

STRIDES = 8  # of a preview: few enough to be quick, enough to see a face emerge
SIDE, CURVE, LINE = 192, 72, 20  # pixels: of a picture, the height of the curve, and of the line of words
PAPER, INK, FAINT = (250, 250, 248), (40, 40, 40), (205, 205, 200)


def training_sheet(pictures: Sequence[torch.Tensor], losses: Sequence[float], words: str) -> Image.Image:
    """pictures: ``[3, S, S]`` in 0..1 beside each other, the curve of the losses of all steps below, and words."""
    row = F.interpolate(torch.stack(list(pictures)), (SIDE, SIDE), mode="bicubic", antialias=True)
    page = Image.new("RGB", (SIDE * len(pictures), SIDE + CURVE + LINE), PAPER)
    page.paste(to_pil(torch.cat(list(row), -1)), (0, 0))
    draw = ImageDraw.Draw(page)
    draw.text((6, SIDE + CURVE + 2), words, INK, ImageFont.load_default(12))
    draw.line((0, SIDE + CURVE, page.width, SIDE + CURVE), FAINT)
    if len(losses) > 1:
        # Single steps are noisy because of their time step; the mean of a tenth of them shows the trend.
        window = max(len(losses) // 10, 1)
        means = np.convolve(losses, np.full(window, 1 / window), "valid")
        across = np.linspace(4, page.width - 4, len(means))
        spread = (means - means.min()) / max(float(np.ptp(means)), 1e-12)
        down = SIDE + CURVE - 6 - (CURVE - 12) * spread
        draw.line(list(zip(across.tolist(), down.tolist(), strict=True)), INK, 2)
    return page


class Watch:
    """Reports a training run to ``update(done, total, picture)``: the progress at every step, and a sheet on request.

    restorer: the base being trained; album: ``[N, 3, S, S]`` in 0..1; words: shown before the first step.
    """

    def __init__(
        self,
        restorer: DiffusionRestorer,
        album: torch.Tensor,
        settings: Settings,
        words: str,
        update: Callable[..., None],
    ):
        def small(pictures):
            return F.interpolate(pictures, (restorer.native_size,) * 2, mode="area")

        self.restorer = replace(restorer, steps=min(restorer.steps, STRIDES))
        self.references = tuple(Reference("", face, np.zeros((5, 2))) for face in album)
        self.face = small(album[:1])
        self.damaged = small(FAMILIES[settings.damage](settings.seed).apply(album[:1]))
        self.total = steps_in_all(settings)
        self.words, self.update = words, update
        self.step, self.losses = 0, []

    def start(self) -> None:
        """The face, damaged and original, before training."""
        self.update(0, self.total, training_sheet([self.damaged[0], self.face[0]], [], self.words))

    def report(self, step: int, total: int, losses: Mapping[str, float]) -> None:
        self.step = step
        self.losses.append(losses["noise"])
        self.update(step, total)

    @torch.no_grad()
    def show(self, persona: Persona) -> None:
        """The face damaged, restored with the current weights, and original."""
        restored = self.restorer.restore(self.damaged, Conditions(self.references, persona))
        recent = np.mean(self.losses[-max(len(self.losses) // 10, 1) :])
        words = f"step {self.step} of {self.total}, loss {recent:.4f}"
        self.update(
            self.step, self.total, training_sheet([self.damaged[0], restored[0], self.face[0]], self.losses, words)
        )
