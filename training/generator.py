"""Unconditional training of the prior of Restoration by Generation (Ding et al. 2024, supplement F and table 1).

guided-diffusion's recipe: its hybrid loss, Adam at a constant rate, and a moving average of the weights, which is what is kept.
"""

from __future__ import annotations

import copy
import importlib.metadata
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ..lib.vocabulary import Place
from ..models.gen2res.adm_unet import SIZES, ADMUNet, save_generator
from ..models.gen2res.pixel_diffusion import PixelDiffusion
from .faces_folder import FaceFiles
from .loop import Schedule, train_loop
from .randomness import seeded

DECAY = 0.9999  # of the moving average, guided-diffusion's; early on it follows faster
SMALL = {
    "image_size": 64,
    "num_channels": 32,
    "num_res_blocks": 1,
    "attention_resolutions": "16",
    "channel_mult": "1,2,2",
}
# Flags, steps and batch of each model; the published ones are table 1's.
MODELS: dict[str, tuple[dict[str, Any], int, int]] = {
    "small, 64 px": (SMALL, 20_000, 16),
    "published, 256 px": (SIZES[256], 200_000, 256),
    "published, 512 px": (SIZES[512], 2_320_000, 32),
}


@dataclass(frozen=True)
class Config:
    """flags: of `ADMUNet`; schedule: the paper's rate does not fall."""

    flags: dict[str, Any] = field(default_factory=dict)
    schedule: Schedule = Schedule(steps=200_000, batch=256, learning_rate=1e-4, warmup=0, decays=False)


class GeneratorLoss(nn.Module):
    """The hybrid loss on a batch of pictures; ``average`` holds the moving average of the network's weights."""

    def __init__(self, network: ADMUNet):
        super().__init__()
        self.network = network.train().requires_grad_()
        self.average = copy.deepcopy(network).eval().requires_grad_(False)
        self.register_buffer("seen", torch.zeros((), dtype=torch.long))

    def forward(self, batch: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """batch: ``picture`` ``[B, 3, S, S]`` in 0..1."""
        self.follow()
        diffusion = PixelDiffusion(self.network)
        clean = diffusion.encode(batch["picture"])
        noise = torch.randn_like(clean)
        t = torch.randint(len(diffusion.schedule.alphas_cumprod), (len(clean),), device=clean.device)
        left = diffusion.left(clean, t)
        noisy = left.sqrt() * clean + (1 - left).sqrt() * noise
        return {"loss": diffusion.loss(self.network(noisy, t).sample, noise, t, clean).mean()}

    @torch.no_grad()
    def follow(self) -> None:
        """average <- decay * average + (1 - decay) * network, before each step."""
        decay = min(DECAY, (1 + int(self.seen)) / (10 + int(self.seen)))
        for mean, own in zip(self.average.parameters(), self.network.parameters(), strict=True):
            mean.lerp_(own, 1 - decay)
        self.seen += 1


def train_generator(
    folder: Path,
    config: Config,
    files: list[Path],
    place: Place,
    report: Callable[[int, int], None] = lambda done, total: None,
) -> Path:
    """Trains or resumes in ``folder``, and writes the model there."""
    schedule, side = config.schedule, config.flags.get("image_size", 256)
    with seeded(schedule.seed):
        task = GeneratorLoss(ADMUNet(**config.flags)).to(place.device)
    learnt = list(task.network.parameters())
    optimizer = torch.optim.Adam(learnt, schedule.learning_rate)
    drawn = partial(_faces, files, side, schedule.seed)
    task = train_loop(folder, task, optimizer, drawn, lambda module, batch: module(batch), schedule, place, report)
    task.follow()
    provenance = {
        "trained_by": "Train Generator",
        "config": asdict(config),
        "data": f"{len(files)} pictures",
        "versions": {name: importlib.metadata.version(name) for name in ("torch", "accelerate", "diffusers")},
    }
    target = folder / "generator.safetensors"
    save_generator(target, task.average, config.flags, provenance)
    return target


def _faces(files: list[Path], side: int, seed: int, length: int) -> FaceFiles:
    return FaceFiles(files, side, length, seed=seed)
