"""Undamaged pictures for training on old photographs: drawn scenes, made-up people and small public-domain portraits.

There are few real photographs among them, and small ones, so that they are composed: crops at random scales, people in front of drawn
scenes, other sharpness, tone, grain and compression.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import cv2
import numpy as np
from PIL import Image
from tqdm import tqdm

from ...lib.storage.whole import whole
from ...lib.vocabulary import UserError
from ..album.photographs import read_photograph
from ..procedural import draw_picture
from .lookalikes import draw_lookalikes

SIDE = 320
SHARD = 64  # pictures a file
HELD_BACK = 2  # shards that are never trained on
# Share of each kind of picture: drawn alone, a photograph of a person, people in front of a scene, a larger photograph. Drawn scenes are
# few, since their small shapes look like dust.
KINDS = {"drawn": 0.05, "person": 0.2, "composed": 0.15, "scene": 0.6}
# Of the larger photographs: how many are left as sharp as they are, and the least side of a crop, as a share of SIDE; the largest is
# the whole photograph.
AS_THEY_ARE, LEAST_CROP = 0.5, 0.8
# Photographs in the scikit-image wheel, in the public domain or under CC0. The astronaut is not among them: she is for tests.
SAMPLES = (
    *(
        "camera.png",
        "chelsea.png",
        "coffee.png",
        "rocket.jpg",
        "motorcycle_left.png",
        "coins.png",
        "brick.png",
        "grass.png",
    ),
    *("gravel.png", "hubble_deep_field.jpg", "clock_motion.png", "page.png", "text.png", "moon.png"),
)
DRAWN_BEHIND = 0.3  # share of the scenes behind people that are drawn
SAMPLE = 0.15  # share of them among the larger photographs
# Share of the pictures with drawn things that resemble damage and are none. With more, the finder learns that marks are mostly things.
LOOKALIKES = 0.12
MONOCHROME = 0.5  # share in gray or sepia


@dataclass(frozen=True)
class Sources:
    """Pictures on disk. made_up: from ``album.made_up_people``; portraits: small public-domain photographs; scenes: larger ones."""

    made_up: Sequence[Path]
    portraits: Sequence[Path]
    scenes: tuple[Path, ...]

    def draw(self, rng: np.random.Generator) -> np.ndarray:
        """Float32 ``[H, W, 3]`` in 0..1 of one person."""
        group = self.made_up if rng.random() < 0.6 else self.portraits
        return read_photograph(group[rng.integers(len(group))]).astype(np.float32) / 255


def undamaged(sources: Sources, rng: np.random.Generator) -> np.ndarray:
    """One picture, float32 ``[SIDE, SIDE, 3]`` in 0..1."""
    kind = str(rng.choice(list(KINDS), p=list(KINDS.values())))
    if kind == "drawn":
        picture = _scene(rng)
    elif kind == "scene":
        picture = _photograph(sources, rng)
        if rng.random() < AS_THEY_ARE:
            return picture
    elif kind == "person":
        picture = _crop(sources.draw(rng), rng, least=96)
    else:
        picture = _composed(sources, rng)
    if rng.random() < LOOKALIKES:
        picture = draw_lookalikes(picture, rng)
    return finished_print(picture, rng)


def _photograph(sources: Sources, rng: np.random.Generator) -> np.ndarray:
    """A part of a larger photograph, mostly reduced, so that it is as sharp as photographs are."""
    folder = Path(importlib.util.find_spec("skimage").origin).parent / "data"
    samples = [folder / name for name in SAMPLES]
    path = (
        samples[rng.integers(len(samples))]
        if rng.random() < SAMPLE
        else rng.choice(sources.scenes, p=_by_pixels(sources.scenes))
    )
    picture = read_photograph(path).astype(np.float32) / 255
    most = min(picture.shape[:2])
    wanted = np.exp(rng.uniform(*np.log([LEAST_CROP * SIDE, max(most, LEAST_CROP * SIDE)])))
    return _crop(picture, rng, least=int(min(most, wanted)), most=int(min(most, 1.3 * wanted)))


@cache
def _by_pixels(photographs: tuple[Path, ...]) -> np.ndarray:
    """How often each is drawn: as its pixels are many, since more can be cut out of it."""
    pixels = []
    for path in photographs:
        with Image.open(path) as file:
            pixels.append(file.width * file.height)
    return np.array(pixels) / sum(pixels)


def _scene(rng: np.random.Generator) -> np.ndarray:
    picture = draw_picture(int(rng.integers(1 << 40)), SIDE).astype(np.float32) / 255
    return _crop(picture, rng, least=110) if rng.random() < 0.6 else picture


def _crop(picture: np.ndarray, rng: np.random.Generator, least: int, most: int | None = None) -> np.ndarray:
    """A square of ``least`` to ``most`` pixels (None: as large as it is), enlarged or reduced to SIDE, and maybe turned."""
    most = min(picture.shape[:2]) if most is None else most
    inside = int(np.exp(rng.uniform(np.log(min(least, most)), np.log(most))))
    top, left = (int(rng.integers(0, side - inside + 1)) for side in picture.shape[:2])
    crop = picture[top : top + inside, left : left + inside]
    kind = cv2.INTER_AREA if inside > SIDE else cv2.INTER_CUBIC
    crop = cv2.resize(crop, (SIDE, SIDE), interpolation=kind).clip(0, 1)
    if rng.random() < 0.15:
        crop = np.rot90(crop, int(rng.integers(1, 4)))
    return np.ascontiguousarray(crop[:, :: rng.choice([-1, 1])])


def _composed(sources: Sources, rng: np.random.Generator) -> np.ndarray:
    """One to three people, each in an oval or a frame, on a scene."""
    canvas = _scene(rng) if rng.random() < DRAWN_BEHIND else _photograph(sources, rng)
    for _ in range(int(rng.integers(1, 4))):
        person = sources.draw(rng)
        height = int(rng.uniform(60, 260))
        width = max(8, round(height * person.shape[1] / person.shape[0]))
        person = cv2.resize(person, (width, height), interpolation=cv2.INTER_AREA)
        mask = np.zeros((height, width), np.float32)
        if rng.random() < 0.6:
            cv2.ellipse(mask, (width // 2, height // 2), (int(width * 0.42), int(height * 0.46)), 0, 0, 360, 1.0, -1)
        else:
            mask[2:-2, 2:-2] = 1
        mask = cv2.GaussianBlur(mask, (0, 0), rng.uniform(0.5, 0.06 * height))
        top, left = (int(rng.integers(-side // 3, SIDE - side // 2)) for side in (height, width))
        y0, x0, y1, x1 = max(top, 0), max(left, 0), min(top + height, SIDE), min(left + width, SIDE)
        own = np.s_[y0 - top : y1 - top, x0 - left : x1 - left]
        region = canvas[y0:y1, x0:x1]
        region += mask[own][..., None] * (person[own] - region)
    return canvas


def finished_print(picture: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Another sharpness, tone, grain and compression. ``[H, W, 3]`` in 0..1 to the same."""
    if rng.random() < 0.5:
        picture = cv2.GaussianBlur(picture, (0, 0), rng.uniform(0.3, 1.6))
    if rng.random() < 0.35:
        picture = picture + rng.uniform(0.2, 1.2) * (picture - cv2.GaussianBlur(picture, (0, 0), rng.uniform(0.7, 2)))
    picture = picture.clip(0, 1) ** np.exp(rng.normal(0, 0.3))
    low, high = rng.uniform(0, 0.15), rng.uniform(0.8, 1)
    picture = low + (high - low) * picture
    if rng.random() < MONOCHROME:
        tint = 1 + rng.uniform(0, 0.35) * np.array([1, 0.35, -0.9]) * (rng.random() < 0.5)
        picture = picture.mean(2, keepdims=True) * tint
    if rng.random() < 0.6:
        size = rng.uniform(0, 0.05) * (1 if rng.random() < 0.3 else 0.5)
        grain = rng.standard_normal((*picture.shape[:2], 1 if rng.random() < 0.6 else 3))
        grain = cv2.GaussianBlur(grain.astype(np.float32), (0, 0), rng.uniform(0.3, 1.2)).reshape(grain.shape)
        picture = picture + size * grain / (grain.std() + 1e-6)
    picture = picture.clip(0, 1).astype(np.float32)
    if rng.random() < 0.4:
        picture = _compressed(picture, int(rng.integers(55, 97)))
    return picture


def _compressed(picture: np.ndarray, quality: int) -> np.ndarray:
    stored = cv2.imencode(
        ".jpg", (picture[..., ::-1] * 255).round().astype(np.uint8), [cv2.IMWRITE_JPEG_QUALITY, quality]
    )[1]
    return cv2.imdecode(stored, cv2.IMREAD_COLOR)[..., ::-1].astype(np.float32) / 255


def write_pictures(sources: Sources, out: Path, shards: range, seed: int = 0) -> None:
    """Files ``shard_<number>.npy`` of ``SHARD`` pictures, uint8 ``[SHARD, SIDE, SIDE, 3]``; those that are there are kept."""
    out.mkdir(parents=True, exist_ok=True)
    for number in tqdm(shards, desc="pictures", disable=None):
        path = out / f"shard_{number:05d}.npy"
        if path.is_file():
            continue
        drawn = [undamaged(sources, np.random.default_rng((seed, number, index))) for index in range(SHARD)]
        with whole(path) as partial, partial.open("wb") as file:
            np.save(file, np.stack([(picture * 255).round().astype(np.uint8) for picture in drawn]))


def opened_pictures(folder: Path) -> list[np.ndarray]:
    """The shards of `write_pictures`, mapped into memory. Raises UserError where there are too few."""
    paths = sorted(folder.glob("shard_*.npy"))
    if len(paths) <= HELD_BACK:
        raise UserError(
            f"{folder} holds {len(paths)} shards of pictures; more than {HELD_BACK} are needed. Draw them first."
        )
    return [np.load(path, mmap_mode="r") for path in paths]
