"""The training loss of the tiny diffusion base: noise prediction on procedural pictures, with and without the cleaned
picture.

python run.py train tiny --out runs/embedded
"""

from __future__ import annotations

import importlib.metadata
import logging
from dataclasses import asdict, replace
from pathlib import Path

import torch
from torch import nn

from ..lib.vocabulary import Place
from ..models.embedded import weights as embedded
from ..models.embedded.tiny_diffusion import WORDS, TinyDiffusion
from .data import DataConfig, Groups, bank
from .loop import Schedule, train_loop
from .randomness import seeded

log = logging.getLogger(__name__)

SCHEDULE = Schedule(  # a batch counts groups of two pictures
    steps=10000, batch=8, learning_rate=1e-3, seed=11, workers=0
)
MIXTURE = (  # half of it what photographs suffer, half what faces do in the papers
    *(("trial", 0.4), ("mild", 0.05), ("clean", 0.05), ("dual_pivot", 0.15), ("codeformer", 0.15)),
    *(("diffbir", 0.1), ("s3diff_x4", 0.1)),
)
CROP = 64


def caption(pictures: torch.Tensor, damaged: torch.Tensor, keep: torch.Tensor) -> torch.Tensor:
    """Rows of the token table ``[B, 12]`` for what is true of ``[B, 3, H, W]`` in 0..1, in the order of WORDS.

    damaged: bool ``[B]``; keep: bool ``[B, len(WORDS)]``, the words that are not left out.
    """
    mean = pictures.mean((2, 3))
    light = mean.mean(1)
    colour = mean - light[:, None]
    detail = pictures.diff(dim=-1).abs().mean((1, 2, 3)) + pictures.diff(dim=-2).abs().mean((1, 2, 3))
    tinted = [(colour.argmax(1) == channel) & (colour.amax(1) > 0.04) for channel in range(3)]
    grey = (pictures.amax(1) - pictures.amin(1)).mean((1, 2)) < 0.05
    true = [light < 0.3, light > 0.6, grey, *tinted, detail < 0.04, detail > 0.12, ~damaged, damaged]
    said = torch.stack(true, 1) & keep
    rows = torch.zeros(len(pictures), 12, dtype=torch.long)
    for line, words in zip(rows, said.cpu(), strict=True):
        named = 1 + words.nonzero().flatten()
        line[: len(named)] = named
    return rows


class NoiseLoss(nn.Module):
    """E|eps - G(z_t, t, caption, E(z_t, damaged, nothing))|^2 / abar_t.

    alone: share of the pictures without control, so that the UNet is a prior by itself; silent: share without any word, so
    that guidance has an unconditional side; negative: share whose target is the damaged picture, under the word for it.
    """

    def __init__(self, net: TinyDiffusion, alone: float = 0.3, silent: float = 0.2, negative: float = 0.05):
        super().__init__()
        self.net, self.alone, self.silent, self.negative = net, alone, silent, negative

    def forward(self, batch: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        clean, damaged = batch["clean"].flatten(0, 1), batch["damaged"].flatten(0, 1)
        count, place = len(clean), clean.device

        def draw(share, *shape):
            return torch.rand(count, *shape, device=place) < share

        alone, negative = draw(self.alone, 1, 1, 1), draw(self.negative)
        goal = torch.where(negative.view(-1, 1, 1, 1), damaged, clean)
        keep = draw(0.6, len(WORDS)) & ~draw(self.silent)[:, None]
        keep[:, -1] = negative  # what is damaged says so
        text = self.net.text(caption(goal, negative, keep))
        t = torch.randint(0, 1000, (count,), device=place)
        latent = self.net.encode(goal)
        left = self.net.left(latent, t)
        noise = torch.randn_like(latent)
        noisy = left.sqrt() * latent + (1 - left).sqrt() * noise
        hint = self.net.encode(self.net.cleaner(damaged))
        found = self.net(noisy, t, text, hint, (~alone).float())
        error = self.net.loss(found, noise, t, latent)
        alone = alone.flatten()

        def share(chosen):
            return ((error * chosen).sum() / chosen.sum().clamp(min=1)).detach()

        return {"loss": error.mean(), "controlled": share(~alone), "alone": share(alone)}


def train_tiny_diffusion(folder: Path, data: DataConfig, place: Place, schedule: Schedule = SCHEDULE) -> TinyDiffusion:
    """Trains or resumes in ``folder/tiny``; returns the net in its final state. The cleaner is the embedded one-step
    restorer."""
    pictures = bank(folder.parent, data)
    data = replace(data, mixture=MIXTURE, crop=CROP, seed=data.seed + schedule.seed)
    with seeded(schedule.seed):
        task = NoiseLoss(TinyDiffusion())
    draws = Groups(pictures, data, 10**6)  # beyond the training range
    task.net.measure(torch.cat([draws[index]["clean"] for index in range(10**6 - 512, 10**6)]))
    first, _ = embedded.load_embedded(embedded.RESTORER)
    first.requires_grad_(False)
    task.net.cleaner = torch.no_grad()(lambda picture: first.to(picture.device)(picture).clamp(0, 1))
    optimizer = torch.optim.AdamW(task.parameters(), schedule.learning_rate, weight_decay=1e-4, betas=(0.9, 0.98))
    train_loop(
        folder / "tiny",
        task,
        optimizer,
        lambda n: Groups(pictures, data, n),
        lambda module, batch: module(batch),
        schedule,
        place,
    )
    return task.net


def export_tiny_diffusion(net: TinyDiffusion, data: DataConfig, target: Path, schedule: Schedule = SCHEDULE) -> None:
    """Writes the float16 file that the pack ships."""
    provenance = {
        "trained_by": "python run.py train tiny",
        "schedule": asdict(schedule),
        "mixture": dict(MIXTURE),
        "data": "procedural pictures, no photograph",
        "versions": {name: importlib.metadata.version(name) for name in ("torch", "diffusers", "accelerate", "numpy")},
        "licence": "Apache-2.0",
    }
    path = target / "tiny_diffusion.safetensors"
    embedded.save(path, "tiny_diffusion", net, {}, provenance)
    log.info("wrote %s", path)
