"""Training pairs: crops of procedural pictures and their damaged versions, drawn from seeds.

Crops of one group come from different pictures and went through the same operator: one to restore, one to read the damage from.
"""

from __future__ import annotations

import logging
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import torch
from torch.utils.data import Dataset
from tqdm import tqdm

from ..lib.degradation.families import FAMILIES
from ..lib.degradation.recipe import Recipe
from ..lib.storage.whole import whole
from ..models.embedded.gauge import DamageGauge
from . import procedural

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class DataConfig:
    """mixture: family -> share of the draws; crop: side in pixels; pictures: in the bank."""

    mixture: tuple[tuple[str, float], ...] = (
        *(("trial", 0.34), ("uncompressed", 0.25), ("s3diff", 0.04), ("s3diff_x2", 0.06), ("s3diff_x4", 0.05)),
        *(("pfstorer_light", 0.04), ("pfstorer_heavy", 0.04), ("mild", 0.08), ("light", 0.06), ("clean", 0.04)),
    )
    crop: int = 128
    pictures: int = 900
    seed: int = 0


def bank(folder: Path, config: DataConfig) -> np.ndarray:
    """All procedural pictures, uint8 ``[N, S, S, 3]``, memory-mapped; drawn once and stored in ``folder``."""
    path = folder / f"bank-{config.seed}-{config.pictures}.npy"
    if not path.is_file():
        seeds = range(config.seed * 10**6, config.seed * 10**6 + config.pictures)
        with ProcessPoolExecutor() as pool:
            pictures = list(
                tqdm(pool.map(procedural.draw_picture, seeds, chunksize=8), "procedural pictures", len(seeds))
            )
        with whole(path) as partial, partial.open("wb") as file:
            np.save(file, np.stack(pictures))
    return np.load(path, mmap_mode="r")


def draw_recipe(config: DataConfig, rng: np.random.Generator) -> Recipe:
    names, shares = zip(*config.mixture, strict=True)
    return FAMILIES[rng.choice(names, p=shares)](int(rng.integers(2**62)))


class Groups(Dataset):
    """Item i: two clean crops ``[2, 3, S, S]``, their damaged versions, the operator's label and true scalars ``[4]``.

    Endless by construction: the index is the seed. halved: so many items, the first ones, have crops of half the side.
    """

    MARGIN = 16  # cropped at random after the damage, so that JPEG's grid has every phase and no border effects remain

    def __init__(self, pictures: np.ndarray, config: DataConfig, length: int, halved: int = 0):
        self.pictures, self.config, self.length, self.halved = pictures, config, length, halved

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
        rng = np.random.default_rng((self.config.seed, index))
        recipe = draw_recipe(self.config, rng)
        side = self.config.crop // 2 if index < self.halved else self.config.crop
        clean = torch.stack([self._crop(rng, side + self.MARGIN) for _ in range(2)])
        damaged = recipe.apply(clean)
        top, left = rng.integers(0, self.MARGIN + 1, 2)
        window = np.s_[..., top : top + side, left : left + side]
        return {
            "clean": clean[window],
            "damaged": damaged[window],
            "label": torch.tensor(index),
            "scalars": self.describe(recipe),
        }

    def describe(self, recipe: Recipe) -> torch.Tensor:
        return torch.tensor(DamageGauge.targets(recipe.summary()))

    def _crop(self, rng: np.random.Generator, side: int) -> torch.Tensor:
        picture = self.pictures[rng.integers(len(self.pictures))]
        # Photographs are softer and flatter than drawn pictures: half of the crops are enlarged, a third lose contrast.
        inside = round(side / rng.uniform(1, 3)) if rng.random() < 0.5 else side
        top, left = rng.integers(0, picture.shape[0] - inside + 1, 2)
        crop = np.array(picture[top : top + inside, left : left + inside])
        if inside != side:
            crop = cv2.resize(crop, (side, side), interpolation=cv2.INTER_CUBIC)
        crop = np.rot90(crop, int(rng.integers(4)))[:, :: rng.choice([-1, 1])]
        crop = (crop.astype(np.float32) / 255) ** np.float32(np.exp(rng.normal(0, 0.25)))
        if rng.random() < 0.35:
            mean = crop.mean((0, 1))
            crop = mean + (crop - mean) * np.float32(rng.uniform(0.2, 1))
        return torch.from_numpy(np.ascontiguousarray(crop[..., rng.permutation(3)])).permute(2, 0, 1)
