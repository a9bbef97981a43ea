"""Trains the finder on the samples of ``samples.py``, and measures it on those that it never saw."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.data import Dataset

from ...lib.vocabulary import Place
from ...models.old_photo.apply import find_damage, mask_of
from ...models.old_photo.finder import Finder
from ..loop import Schedule, train_loop
from ..randomness import seeded
from .crops import DAMAGED, any_crop, any_way_round, damaged_crop
from .pictures import HELD_BACK
from .samples import opened_samples

SIDE = 256
SCHEDULE = Schedule(steps=16000, batch=8, learning_rate=1e-3, warmup=200, workers=0)
FAINT = 0.08  # up to this share of a pixel is undamaged; from here to DAMAGED it is not counted
# Near damage a pixel more or less is no fault.
NEAR, NEAR_WEIGHT = 2, 0.25
THRESHOLDS = (0.3, 0.5, 0.6, 0.7, 0.8, 0.85, 0.9, 0.92, 0.94, 0.95, 0.96, 0.97, 0.98, 0.99)
MOST_FOUND = 4e-4  # share of the pixels of undamaged samples
FRAMED = 0.08  # share of the crops that get a border
# Damage is rare: its pixels count more, and a share of the crops is sought where there is some.
RARE, SOUGHT = 4.0, 0.6


class Damaged(Dataset):
    """Crops of the samples, turned and mirrored, some lighter or darker."""

    def __init__(self, shards: list[np.ndarray], length: int, seed: int):
        self.shards, self.length, self.seed = shards, length, seed

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> dict[str, np.ndarray]:
        rng = np.random.default_rng((self.seed, index))
        wanted = damaged_crop if rng.random() < SOUGHT else any_crop
        crop = any_way_round(wanted(self.shards, rng, SIDE)[..., :4], rng)
        if rng.random() < FRAMED:
            frame(crop, rng)
        return {"picture": crop[:3], "damage": crop[3:]}


def frame(crop: np.ndarray, rng: np.random.Generator) -> None:
    """A straight border of one tone, as scans and films have, on some sides of ``[4, S, S]``, in place; it is no damage."""
    tone = rng.integers(0, 256) + rng.integers(-6, 7, (3, 1, 1))
    for view in (crop, crop[:, ::-1], crop.swapaxes(1, 2), crop.swapaxes(1, 2)[:, ::-1]):
        if rng.random() < 0.6:
            width = int(rng.integers(1, 9))
            view[:3, :width] = tone.clip(0, 255)
            view[3, :width] = 0


def targets(damage: Tensor) -> tuple[Tensor, Tensor]:
    """Which pixels are damaged, and how much each counts, from the local damage ``[B, 1, H, W]`` in 0..1."""
    wanted = (damage >= DAMAGED).float()
    near = F.max_pool2d(wanted, 2 * NEAR + 1, 1, NEAR) - wanted
    weight = (1 + (RARE - 1) * wanted) * (1 - (1 - NEAR_WEIGHT) * near)
    return wanted, torch.where((damage > FAINT) & (damage < DAMAGED), 0.0, weight)


def finding_loss(finder: Callable[[Tensor], Tensor], batch: dict[str, Tensor]) -> dict[str, Tensor]:
    """Cross-entropy and 1 - Dice of a batch (Milletari et al. 2016), with weights; and its F1 at one half."""
    wanted, weight = targets(batch["damage"].float() / 255)
    logits = finder(batch["picture"].float() / 255).float()
    entropy = (weight * F.binary_cross_entropy_with_logits(logits, wanted, reduction="none")).sum() / weight.sum()
    found = weight * logits.sigmoid()
    dice = 1 - (2 * (found * wanted).sum() + 1) / (found.sum() + (weight * wanted).sum() + 1)
    with torch.no_grad():
        hard = (weight > 0) * (logits > 0)
        f1 = 2 * (hard * wanted).sum() / (hard.sum() + wanted.sum()).clamp(min=1)
    return {"loss": entropy + 0.3 * dice, "entropy": entropy.detach(), "dice": dice.detach(), "f1": f1}


def train_finder(
    samples: Path,
    work: Path,
    place: Place,
    schedule: Schedule = SCHEDULE,
    report: Callable[[int, int], None] = lambda done, total: None,
) -> tuple[Finder, dict]:
    """Trains or resumes in ``work`` on the shards in ``samples``, see `samples.write_samples`. Returns the finder and where it comes from,
    with its figures on samples that it never saw."""
    shards = opened_samples(samples)[HELD_BACK:]
    with seeded(schedule.seed):
        finder = Finder().to(memory_format=torch.channels_last)
    optimizer = torch.optim.AdamW(finder.parameters(), schedule.learning_rate, weight_decay=1e-4)

    def data(length: int) -> Dataset:
        return Damaged(shards, length, schedule.seed)

    finder = train_loop(work, finder, optimizer, data, finding_loss, schedule, place, report).cpu().eval()
    held_back = finder_quality(finder, np.concatenate(opened_samples(samples)[:HELD_BACK]))
    threshold = calibrate(finder, held_back)
    figures = {"threshold": threshold, "held_back": held_back}
    return finder, {"samples": len(shards), "schedule": asdict(schedule), **figures}


def calibrate(finder: Finder, figures: dict[str, list[float]]) -> float:
    """Shifts the finder so that one half is the lowest threshold at which hardly anything is found in undamaged samples; of none, the
    highest. Returns what it was before. figures: see `finder_quality`."""
    good = [float(threshold) for threshold, row in figures.items() if row[-1] <= MOST_FOUND]
    threshold = min(good, default=max(THRESHOLDS))
    with torch.no_grad():
        finder.net.head.bias -= math.log(threshold / (1 - threshold))
    return threshold


def finder_quality(finder: Finder, samples: np.ndarray) -> dict[str, list[float]]:
    """By threshold: precision and recall within ``NEAR`` pixels, F1, and the share of pixels found in undamaged samples.

    samples: uint8 ``[N, S, S, C]``, see `samples.write_samples`. Faint damage counts neither as found nor as missed.
    """
    pictures = torch.from_numpy(np.ascontiguousarray(samples[..., :3])).permute(0, 3, 1, 2)
    damage = torch.from_numpy(np.ascontiguousarray(samples[..., 3]))[:, None].float() / 255
    found = torch.cat([find_damage(one.float() / 255, lambda: finder) for one in pictures.split(8)])
    truth = damage >= DAMAGED
    faint, undamaged = (damage > FAINT) & ~truth, damage.amax((1, 2, 3)) <= FAINT
    rows = {}
    for threshold in THRESHOLDS:
        chosen = mask_of(found, threshold, 0) > 0
        right = (chosen & with_near(truth) & ~faint).sum() / (chosen & ~faint).sum().clamp(min=1)
        seen = (truth & with_near(chosen)).sum() / truth.sum().clamp(min=1)
        f1 = 2 * right * seen / (right + seen).clamp(min=1e-6)
        rows[f"{threshold:g}"] = [round(float(x), 4) for x in (right, seen, f1, chosen[undamaged].float().mean())]
    return rows


def with_near(mask: Tensor) -> Tensor:
    """A mask of bools ``[B, 1, H, W]`` with what is within ``NEAR`` pixels."""
    return F.max_pool2d(mask.float(), 2 * NEAR + 1, 1, NEAR) > 0
