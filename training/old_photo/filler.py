"""Trains the filler: undamaged pictures with free-form holes, of which only the surroundings are shown.

No mask is exact: half of the holes leave some of the damage that they hide around them.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import cv2
import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from ...lib.vocabulary import Place
from ...models.old_photo.apply import fill_damage
from ...models.old_photo.filler import Filler, smoothly_filled
from ..loop import Schedule, train_loop
from ..randomness import seeded
from .holes import draw_holes
from .pictures import HELD_BACK, SHARD, opened_pictures

SIDE = 128
TESTED = 128  # crops
SCHEDULE = Schedule(steps=5200, batch=16, learning_rate=1e-3, warmup=150, workers=0)
# Shares of the holes that leave some damage around them, and that are a pixel wider than it.
SMEARED, WIDER = 0.5, 0.35
# Below this an error counts in squares: noise cannot be guessed.
SMALL = 0.01


class Holed(Dataset):
    """Crops of the pictures, turned, mirrored and recolored, each with holes."""

    def __init__(self, pictures: list[np.ndarray], length: int, seed: int):
        self.pictures, self.length, self.seed = pictures, length, seed

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> dict[str, np.ndarray]:
        rng = np.random.default_rng((self.seed, index))
        picture = self.pictures[rng.integers(len(self.pictures))][rng.integers(SHARD)]
        top, left = rng.integers(0, picture.shape[0] - SIDE + 1, 2)
        crop = picture[top : top + SIDE, left : left + SIDE]
        crop = np.rot90(crop, int(rng.integers(4)))[:, :: rng.choice([-1, 1])][..., rng.permutation(3)]
        holes = draw_holes(rng, SIDE)
        truth = np.ascontiguousarray(crop.transpose(2, 0, 1))
        shown = smeared(truth, holes, rng) if rng.random() < SMEARED else truth
        if rng.random() < WIDER:
            holes = cv2.dilate(holes, np.ones((3, 3), np.uint8))
        return {"picture": truth, "shown": shown, "holes": holes[None]}


def smeared(picture: np.ndarray, holes: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Uint8 ``[3, S, S]`` with a soft mark, light or dark, that reaches beyond the holes by a pixel or two."""
    soft = cv2.GaussianBlur(holes, (0, 0), rng.uniform(0.4, 1.3)) * np.float32(rng.uniform(0.3, 1))
    tone = 255 * (rng.uniform(0.7, 1) if rng.random() < 0.7 else rng.uniform(0, 0.3)) * rng.uniform(0.8, 1, (3, 1, 1))
    return (picture + soft * (tone - picture)).round().clip(0, 255).astype(np.uint8)


def filling_loss(filler: Callable[[Tensor, Tensor], Tensor], batch: dict[str, Tensor]) -> dict[str, Tensor]:
    """Mean absolute error inside the holes, of the filler and of the smooth filling that it starts from."""
    truth, shown, holes = batch["picture"].float() / 255, batch["shown"].float() / 255, batch["holes"].float()
    smooth = smoothly_filled(shown * (1 - holes), holes)
    filled = filler(smooth, holes).float()
    area = 3 * holes.sum()
    error = holes * (((filled - truth).square() + SMALL**2).sqrt() - SMALL)
    start = holes * (((smooth - truth).square() + SMALL**2).sqrt() - SMALL)
    squared = (holes * (filled - truth)).square().sum((1, 2, 3)) / (3 * holes.sum((1, 2, 3)))
    return {
        "loss": error.sum() / area,
        "smooth": start.sum().detach() / area,
        "psnr": (-10 * (squared + 1e-6).log10()).mean().detach(),
    }


def train_filler(
    pictures: Path,
    work: Path,
    place: Place,
    schedule: Schedule = SCHEDULE,
    report: Callable[[int, int], None] = lambda done, total: None,
) -> tuple[Filler, dict]:
    """Trains or resumes in ``work`` on the shards in ``pictures``, see `pictures.write_pictures`. Returns the filler and
    where it comes from, with its figures on pictures that it never saw."""
    shards = opened_pictures(pictures)[HELD_BACK:]
    with seeded(schedule.seed):
        filler = Filler().to(memory_format=torch.channels_last)
    optimizer = torch.optim.AdamW(filler.parameters(), schedule.learning_rate, weight_decay=1e-4)

    def data(length: int) -> Dataset:
        return Holed(shards, length, schedule.seed)

    filler = train_loop(work, filler, optimizer, data, filling_loss, schedule, place, report).cpu().eval()
    held_back = filler_quality(filler, Holed(opened_pictures(pictures)[:HELD_BACK], TESTED, 1))
    return filler, {"pictures": len(shards), "schedule": asdict(schedule), "held_back": held_back}


def filler_quality(filler: Filler, samples: Holed) -> dict[str, float]:
    """Mean PSNR in dB inside the holes: of the filler, of the smooth filling, and of OpenCV's two ways."""
    rows = []
    for number in range(len(samples)):
        sample = samples[number]
        truth, shown = (torch.from_numpy(sample[name])[None].float() / 255 for name in ("picture", "shown"))
        holes = torch.from_numpy(sample["holes"])[None]
        ways = {
            "filler": fill_damage(shown, holes, 1.0, lambda: filler),
            "smooth": smoothly_filled(shown * (1 - holes), holes),
            "telea": inpainted(shown, holes, cv2.INPAINT_TELEA),
            "navier_stokes": inpainted(shown, holes, cv2.INPAINT_NS),
        }
        errors = {name: (holes * (one - truth)).square().sum() / (3 * holes.sum()) for name, one in ways.items()}
        rows.append({name: -10 * math.log10(float(error) + 1e-10) for name, error in errors.items()})
    return {name: round(float(np.mean([row[name] for row in rows])), 3) for name in rows[0]}


def inpainted(picture: Tensor, holes: Tensor, way: int) -> Tensor:
    """OpenCV's inpainting of ``[1, 3, H, W]`` in 0..1, with a radius of 3 pixels."""
    shown = (picture[0].permute(1, 2, 0) * 255).round().byte().numpy()
    filled = cv2.inpaint(shown, holes[0, 0].byte().numpy(), 3, way)
    return torch.from_numpy(filled).permute(2, 0, 1)[None].float() / 255
