"""What the finder and the filler learn from: pictures as old prints, scanned, where they are damaged, and what they were before.

Damage is drawn over a square of one, four or nine pictures, which are then taken apart again: so it has the size that it has in
pictures of 320, 640 and 960 pixels.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from ...lib.degradation.layers import LAYERS
from ...lib.degradation.old_photo import draw_old_photo, local_damage
from ...lib.degradation.recipe import Recipe, Step
from ...lib.storage.whole import whole
from ...lib.vocabulary import UserError
from ...models.old_photo.apply import find_damage
from ...models.old_photo.finder import Finder
from .pictures import HELD_BACK, SHARD, opened_pictures

# Pictures along a side of the square, and how often.
SQUARES = {1: 0.4, 2: 0.4, 3: 0.2}
CHANNELS = 7  # of a sample, see `write_samples`
# Shares of the squares without local damage, and of those without any.
UNDAMAGED, UNTOUCHED = 0.2, 0.08
# What changes a pixel by less than so many levels cannot be seen: it counts neither as damaged nor as undamaged, see `finder.targets`.
SEEN, UNCOUNTED = 5 / 255, 0.2
# Of every shard of pictures: how many become hard samples, and the number of their first shard.
HARDEST, HARD_FROM = 8, 10_000


def write_samples(pictures: Path, out: Path, numbers: range, seed: int = 0) -> None:
    """Shards of samples, uint8 ``[N, S, S, 7]``: the damaged print, its local damage of 0 to 255, and the same print without it. Each is of
    the pictures of one shard, in their order, and again from the first one that is not held back; those that are there are kept."""
    shards = opened_pictures(pictures)
    out.mkdir(parents=True, exist_ok=True)
    for number in tqdm(numbers, desc="samples", disable=None):
        path = out / f"shard_{number:05d}.npy"
        if path.is_file():
            continue
        rng = np.random.default_rng((seed, number))
        again = HELD_BACK + (number - HELD_BACK) % (len(shards) - HELD_BACK)
        samples = _damaged_shard(np.array(shards[number if number < HELD_BACK else again]), rng)
        with whole(path) as partial, partial.open("wb") as file:
            np.save(file, samples)


def opened_samples(folder: Path) -> list[np.ndarray]:
    """The shards of `write_samples`, mapped into memory. Raises UserError where there are too few, or older ones."""
    shards = opened_pictures(folder)
    if any(shard.shape[-1] != CHANNELS for shard in shards):
        raise UserError(
            f"{folder} holds samples of an older version, without the undamaged print. Delete them and draw them again."
        )
    return shards


def write_hard_samples(pictures: Path, out: Path, finder: Finder, seed: int = 0) -> None:
    """Shards of undamaged samples in which a finder finds the most (Sung and Poggio 1998): of every shard of pictures that is not held
    back, as old prints without local damage, the ``HARDEST``. Those that are there are kept."""
    shards = opened_pictures(pictures)[HELD_BACK:]
    together = SHARD // HARDEST
    for number in tqdm(range(len(shards) // together), desc="hard samples", disable=None):
        path = out / f"shard_{HARD_FROM + number:05d}.npy"
        if path.is_file():
            continue
        rng = np.random.default_rng((seed, HARD_FROM + number))
        hardest = [_hardest(np.array(one), finder, rng) for one in shards[number * together : (number + 1) * together]]
        with whole(path) as partial, partial.open("wb") as file:
            np.save(file, np.concatenate(hardest))


def _hardest(pictures: np.ndarray, finder: Finder, rng: np.random.Generator) -> np.ndarray:
    samples = []
    for picture in pictures:
        steps = draw_old_photo(rng, float(rng.beta(2, 1.2)), *picture.shape[:2])
        intact = tuple(step for step in steps if step.operator not in LAYERS)
        intact_print = _applied(intact, int(rng.integers(2**31)), picture)
        samples.append(_sample(intact_print, np.zeros(picture.shape[:2]), intact_print))
    shown = torch.from_numpy(np.stack(samples)[..., :3]).permute(0, 3, 1, 2).float() / 255
    wrong = torch.cat([find_damage(some, lambda: finder) for some in shown.split(8)])
    order = (wrong * (wrong > 0.5)).sum((1, 2, 3)).argsort(descending=True)
    return np.stack(samples)[order[:HARDEST].numpy()]


def _damaged_shard(pictures: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    done, out = 0, []
    while done < len(pictures):
        wanted = int(rng.choice(list(SQUARES), p=list(SQUARES.values())))
        along = min(wanted, int((len(pictures) - done) ** 0.5))
        square = pictures[done : done + along**2]
        done += along**2
        out.append(_taken_apart(damaged_square(_put_together(square, along), rng), along))
    return np.concatenate(out)


def _put_together(pictures: np.ndarray, along: int) -> np.ndarray:
    """``[along ** 2, S, S, C]`` to ``[along * S, along * S, C]``."""
    side, channels = pictures.shape[1], pictures.shape[-1]
    grid = pictures.reshape(along, along, side, side, channels).transpose(0, 2, 1, 3, 4)
    return grid.reshape(along * side, along * side, channels)


def _taken_apart(square: np.ndarray, along: int) -> np.ndarray:
    side, channels = square.shape[0] // along, square.shape[-1]
    grid = square.reshape(along, side, along, side, channels).transpose(0, 2, 1, 3, 4)
    return grid.reshape(along**2, side, side, channels)


def damaged_square(square: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Uint8 ``[S, S, 3]`` to ``[S, S, 7]``: damaged, its local damage, and the print without that."""
    side, kind = square.shape[0], rng.random()
    steps = draw_old_photo(rng, float(rng.beta(2, 1.2)), side, side)
    intact = tuple(step for step in steps if step.operator not in LAYERS)
    if kind < UNTOUCHED:
        steps = ()
    elif kind < UNDAMAGED:
        steps = intact
    seed = int(rng.integers(2**31))
    damaged, damage = _applied(steps, seed, square), local_damage(steps, side, side)
    if not damage.any():
        return _sample(damaged, damage, damaged)
    undamaged = _applied(intact, seed, square)
    seen = np.abs(damaged - undamaged).max(2) >= SEEN
    return _sample(damaged, np.where(seen, damage, np.minimum(damage, UNCOUNTED)), undamaged)


def _sample(picture: np.ndarray, damage: np.ndarray, undamaged: np.ndarray) -> np.ndarray:
    return (np.dstack([picture, damage, undamaged]) * 255).round().astype(np.uint8)


def _applied(steps: tuple[Step, ...], seed: int, square: np.ndarray) -> np.ndarray:
    """Uint8 ``[S, S, 3]`` to float32 in 0..1; the same seed gives the same noise, whatever the local damage."""
    picture = torch.from_numpy(square).permute(2, 0, 1)[None].float() / 255
    return Recipe(steps, seed).apply(picture)[0].permute(1, 2, 0).numpy()
