"""Square crops of the samples of ``samples.py``, wherever they fall or where there is damage."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

DAMAGED = 0.3  # share of a pixel that is replaced, from which on it counts as damaged
TRIES = 8  # samples in which damage is sought, at most


def any_crop(shards: Sequence[np.ndarray], rng: np.random.Generator, side: int) -> np.ndarray:
    """``[side, side, C]``, wherever it falls."""
    sample = _any_sample(shards, rng)
    top, left = rng.integers(0, sample.shape[0] - side + 1, 2)
    return sample[top : top + side, left : left + side]


def damaged_crop(shards: Sequence[np.ndarray], rng: np.random.Generator, side: int) -> np.ndarray:
    """``[side, side, C]`` with some damage in it, if one of a few samples has any."""
    for _ in range(TRIES):
        sample = _any_sample(shards, rng)
        places = np.flatnonzero(sample[..., 3] >= DAMAGED * 255)
        if len(places):
            break
    else:
        return any_crop(shards, rng, side)
    place = divmod(int(rng.choice(places)), sample.shape[1])
    top, left = (
        int(np.clip(at - rng.integers(side), 0, most - side)) for at, most in zip(place, sample.shape[:2], strict=True)
    )
    return sample[top : top + side, left : left + side]


def _any_sample(shards: Sequence[np.ndarray], rng: np.random.Generator) -> np.ndarray:
    shard = shards[rng.integers(len(shards))]
    return shard[rng.integers(len(shard))]


def any_way_round(crop: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """``[S, S, C]`` to ``[C, S, S]``, by quarters, half of them mirrored."""
    crop = np.rot90(crop, int(rng.integers(4)))[:, :: rng.choice([-1, 1])]
    return np.ascontiguousarray(crop.transpose(2, 0, 1))
