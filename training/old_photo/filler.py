"""Trains the filler: old prints with holes, of which only the surroundings are shown.

Some holes hide the drawn damage of the samples, others are free forms. No mask is exact: often some of the damage is left around them.
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
from ...models.old_photo.repeats import repeated
from ..loop import Schedule, train_loop
from ..randomness import seeded
from .crops import any_crop, any_way_round, damaged_crop
from .holes import draw_holes
from .pictures import HELD_BACK
from .samples import opened_samples

SIDE = 128
TESTED = 128  # crops
SCHEDULE = Schedule(steps=5200, batch=16, learning_rate=1e-3, warmup=150, workers=0)
# Share of the crops whose holes hide drawn damage.
DRAWN = 0.6
# From which share of a replaced pixel on the damage is hidden, and how many pixels around it, at least and at most.
HIDDEN, MARGIN = 0.03, (1, 3)
MOST = 0.7  # share of a crop that may be hidden; otherwise the holes are free forms
# Shares of the free-form holes around which some damage is left, and which are wider than it.
SMEARED, WIDER = 0.5, 0.35
# Errors count as if so many more pixels were filled rightly: a hole of few pixels in noise says little.
FEW = 16


class Holed(Dataset):
    """Crops of the samples, turned, mirrored and recolored, each with holes."""

    def __init__(self, shards: list[np.ndarray], length: int, seed: int):
        self.shards, self.length, self.seed = shards, length, seed

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> dict[str, np.ndarray]:
        rng = np.random.default_rng((self.seed, index))
        drawn = rng.random() < DRAWN
        crop = any_way_round((damaged_crop if drawn else any_crop)(self.shards, rng, SIDE), rng)
        damaged, damage, truth = crop[:3], crop[3], crop[4:]
        reach = 2 * int(rng.integers(MARGIN[0], MARGIN[1] + 1)) + 1
        holes = cv2.dilate((damage >= HIDDEN * 255).astype(np.float32), np.ones((reach, reach), np.uint8))
        shown = damaged
        if not (drawn and 0 < holes.mean() < MOST):
            holes = draw_holes(rng, SIDE)
            shown = smeared(truth, holes, rng) if rng.random() < SMEARED else truth
            if rng.random() < WIDER:
                holes = cv2.dilate(holes, np.ones((3, 3), np.uint8))
        order = rng.permutation(3)
        return {"picture": truth[order], "shown": shown[order], "holes": holes[None]}


def smeared(picture: np.ndarray, holes: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Uint8 ``[3, S, S]`` with a soft mark, light or dark, that reaches beyond the holes by a pixel or two."""
    soft = cv2.GaussianBlur(holes, (0, 0), rng.uniform(0.4, 1.3)) * np.float32(rng.uniform(0.3, 1))
    tone = 255 * (rng.uniform(0.7, 1) if rng.random() < 0.7 else rng.uniform(0, 0.3)) * rng.uniform(0.8, 1, (3, 1, 1))
    return (picture + soft * (tone - picture)).round().clip(0, 255).astype(np.uint8)


def filling_loss(filler: Callable[..., Tensor], batch: dict[str, Tensor]) -> dict[str, Tensor]:
    """The root mean square error inside the holes, of pictures in 0..1, averaged over them, see ``FEW``; and the mean PSNR in dB, with that
    of the smooth filling."""
    truth, shown, holes = batch["picture"].float() / 255, batch["shown"].float() / 255, batch["holes"].float()
    with torch.no_grad():
        smooth = smoothly_filled(shown * (1 - holes), holes)
        again, error = repeated(smooth, holes)
    ours, before = (_squared(filled.float(), truth, holes) for filled in (filler(smooth, holes, again, error), smooth))
    psnr, smooth_psnr = (-10 * one.detach().log10().mean() for one in (ours, before))
    return {"loss": ours.sqrt().mean(), "psnr": psnr, "smooth": smooth_psnr}


def _squared(filled: Tensor, truth: Tensor, holes: Tensor) -> Tensor:
    """Squared error inside the holes of each picture, ``[B]``, above 0 for its root's sake."""
    squared = (holes * (filled - truth)).square().sum((1, 2, 3)) / 3
    return squared / (holes.sum((1, 2, 3)) + FEW) + 1e-6


def train_filler(
    samples: Path,
    work: Path,
    place: Place,
    schedule: Schedule = SCHEDULE,
    report: Callable[[int, int], None] = lambda done, total: None,
) -> tuple[Filler, dict]:
    """Trains or resumes in ``work`` on the shards in ``samples``, see `samples.write_samples`. Returns the filler and
    where it comes from, with its figures on samples that it never saw."""
    shards = opened_samples(samples)[HELD_BACK:]
    with seeded(schedule.seed):
        filler = Filler().to(memory_format=torch.channels_last)
    optimizer = torch.optim.AdamW(filler.parameters(), schedule.learning_rate, weight_decay=1e-4)

    def data(length: int) -> Dataset:
        return Holed(shards, length, schedule.seed)

    filler = train_loop(work, filler, optimizer, data, filling_loss, schedule, place, report).cpu().eval()
    held_back = filler_quality(filler, Holed(opened_samples(samples)[:HELD_BACK], TESTED, 1))
    return filler, {"samples": len(shards), "schedule": asdict(schedule), "held_back": held_back}


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
