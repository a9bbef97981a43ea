"""What the album's gate learns from: damaged faces of made-up people and old portraits, each with registered album photographs.

A sample goes the way of a photograph in the product: damaged, restored by the scene restorer, its code estimated, its face found
with a detector's errors, its album registered. Samples are kept as bytes in shards of one .npz each.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from tqdm import tqdm

from ...lib.degradation.families import FAMILIES
from ...lib.degradation.recipe import Recipe, Step
from ...lib.degradation.survival import band_survival
from ...lib.faces.align import align, crop_face, take_crop
from ...lib.vocabulary import Conditions, Restorer
from ...models.album.face_mesh import mesh_points
from ...models.album.gate import LEVELS
from ...models.album.restorer import laid_over, working_side
from ...models.embedded.estimate import estimate_code
from ...models.embedded.weights import Extractor
from . import photographs
from .second_view import second_view

SIDE = 128  # pixels of a sample
SHARD = 64  # samples a file
# What a sample holds as bytes, and as numbers; the ALBUM's have one picture or number for each reference.
PICTURES = ("album", "confidence", "agreement")
BYTES = ("truth", "photo", "face", *PICTURES, "parts")
NUMBERS = ("survives", "response", "likeness")
ALBUM = (*PICTURES, "likeness")
# Of the people that samples are drawn from, the share that is made up.
MADE_UP = 0.6
REFERENCES = 3
# Share of samples whose whole album shows somebody else, and of those in which one photograph does.
WRONG, MIXED = 0.3, 0.1
FACE_WIDTHS = (14, 150)  # pixels, drawn evenly in octaves
TEMPLATE_FACE = 250  # pixels: width of a face's box on the 512 px template
# Family and how often.
DAMAGE = {
    "trial": 0.27,
    "s3diff_x4": 0.2,
    "s3diff": 0.08,
    "codeformer": 0.15,
    "diffbir": 0.15,
    "mild": 0.05,
    "light": 0.07,
    "clean": 0.03,
}
# These are drawn for aligned crops of 512 px: their lengths shrink with the face.
FACE_FAMILIES = {"codeformer", "diffbir", "dual_pivot", "faceme"}


@dataclass(frozen=True)
class Identity:
    """One person: pictures on disk, aligned crops, and the five landmarks ``[5, 2]`` of each."""

    paths: tuple[Path, ...]
    landmarks: tuple[np.ndarray, ...]


@dataclass(frozen=True)
class Tools:
    """The scene restorer and the extractor of codes, as shipped."""

    general: Restorer
    extractor: Extractor


def made_up(folder: Path) -> list[Identity]:
    """The people of ``made_up_people.make_people``."""
    data = np.load(folder / "people.npz")
    names = [str(name) for name in data["expressions"]]
    return [
        Identity(tuple(folder / f"{number:05d}_{name}.jpg" for name in names), tuple(points))
        for number, points in enumerate(data["landmarks"])
    ]


def portraits(folder: Path) -> list[Identity]:
    """The people of ``portraits.prepare``."""
    data = np.load(folder / "points.npz")
    return [
        Identity((folder / f"{name}.jpg",), (points,)) for name, points in zip(data["ids"], data["points"], strict=True)
    ]


def for_face(recipe: Recipe, pixel: float) -> Recipe:
    """A recipe meant for aligned 512 px crops as it looks at ``pixel`` photograph pixels per pixel of such a crop."""
    steps = []
    for step in recipe.steps:
        p = dict(step.parameters)
        if step.operator == "blur":
            p |= {"sigma_x": p["sigma_x"] * pixel, "sigma_y": p["sigma_y"] * pixel}
        if step.operator == "resize":
            p["scale"] = min(1.0, p["scale"] / pixel)
        steps.append(Step(step.operator, p))
    return replace(recipe, steps=tuple(steps))


def make_samples(people: Path, portraits_folder: Path, tools: Tools, out: Path, shards: int, seed: int = 0) -> None:
    """``shards`` files of ``SHARD`` samples in ``out``; those that are there are kept.

    people, portraits_folder: see ``made_up`` and ``portraits``.
    """
    sources = made_up(people), portraits(portraits_folder)
    out.mkdir(parents=True, exist_ok=True)
    for number in tqdm(range(shards), desc="samples", disable=None):
        path = out / f"shard_{number:05d}.npz"
        if path.is_file():
            continue
        rng = np.random.default_rng((seed, number))
        samples: list[dict[str, np.ndarray]] = []
        while len(samples) < SHARD:
            samples += draw_person_samples(sources[int(rng.random() >= MADE_UP)], tools, rng, 4)
        photographs.write_arrays(
            path, **{name: np.stack([one[name] for one in samples[:SHARD]]) for name in samples[0]}
        )


def draw_person_samples(
    people: Sequence[Identity], tools: Tools, rng: np.random.Generator, count: int
) -> list[dict[str, np.ndarray]]:
    """``count`` samples of one person with one album, under different damage and at different sizes."""
    person = people[rng.integers(len(people))]
    target, landmarks = view(person, rng, 0, keep=0.5)
    album = _album(people, person, rng)
    samples = [make_sample(target, landmarks, album, tools, rng) for _ in range(count)]
    return [one for one in samples if one is not None]


def view(person: Identity, rng: np.random.Generator, number: int, keep: float) -> tuple[Tensor, np.ndarray]:
    """Another photograph of a person; with probability ``keep`` the picture as it is."""
    number %= len(person.paths)
    picture = photographs.to_tensor(photographs.read_photograph(person.paths[number]))
    if rng.random() < keep:
        return picture, person.landmarks[number]
    return second_view(picture, person.landmarks[number], rng)


def _album(people: Sequence[Identity], person: Identity, rng: np.random.Generator) -> list[tuple[Tensor, np.ndarray]]:
    """Aligned album crops ``[3, 256, 256]`` and their meshes: of the person, of another, or mostly of the person."""
    other = people[rng.integers(len(people))]
    kind = rng.random()
    owners = [other if kind < WRONG else person] * REFERENCES
    if WRONG <= kind < WRONG + MIXED:
        owners[rng.integers(REFERENCES)] = other
    start = rng.integers(1, 3)
    crops = []
    for number, owner in enumerate(owners):
        picture, points = view(owner, rng, start + number, keep=0.2 if len(owner.paths) > 1 and number == 0 else 0)
        jitter = rng.normal(0, 0.01 * np.linalg.norm(points[1] - points[0]), (5, 2))
        crop = crop_face(picture, points[:5] + jitter, 256)[0]
        if rng.random() < 0.3:
            crop = FAMILIES["mild"](int(rng.integers(1 << 30))).apply(crop[None])[0]
        crops.append(crop)
    meshes = mesh_points(torch.stack(crops)).double().numpy()
    return list(zip(crops, meshes, strict=True))


def make_sample(
    target: Tensor,
    landmarks: np.ndarray,
    album: Sequence[tuple[Tensor, np.ndarray]],
    tools: Tools,
    rng: np.random.Generator,
) -> dict[str, np.ndarray] | None:
    """One sample, bytes ``[C, 128, 128]`` and what survived of the face; None where nothing of it is left to work on."""
    width = float(np.exp(rng.uniform(*np.log(FACE_WIDTHS))))
    scale = align(landmarks[:5], 512).scale
    factor = width / TEMPLATE_FACE * scale
    if factor > 1.2:
        return None
    side = max(32, round(target.shape[-1] * factor))
    truth = F.interpolate(target[None], (side, side), mode="bicubic", antialias=True).clamp(0, 1)
    factor = side / target.shape[-1]
    points = (landmarks[:5] + 0.5) * factor - 0.5
    family = rng.choice(list(DAMAGE), p=list(DAMAGE.values()))
    recipe = FAMILIES[family](int(rng.integers(1 << 30)))
    damaged = (for_face(recipe, 1 / align(points, 512).scale) if family in FACE_FAMILIES else recipe).apply(truth)
    scene, scalars = _restored(damaged, points, tools)
    seen = points + rng.normal(0, np.exp(rng.normal(np.log(0.03), 0.6)) * np.linalg.norm(points[1] - points[0]), (5, 2))
    return _registered(truth[0], damaged[0], scene[0], seen, scalars, album, rng)


def _restored(damaged: Tensor, points: np.ndarray, tools: Tools) -> tuple[Tensor, dict[str, float] | None]:
    """The scene restored with its code, and the code's numbers; blindly where the face is too small for one."""
    blind = tools.general.restore(damaged, Conditions())
    reach = 0.9 * np.linalg.norm(points[1] - points[0])
    low, high = np.maximum(points.min(0) - reach, 0).astype(int), (points.max(0) + reach).astype(int)
    pair = torch.cat([blind, damaged], 1)[0, :, low[1] : high[1], low[0] : high[0]]
    if min(pair.shape[-2:]) < 16:
        return blind, None
    code = estimate_code(tools.extractor, pair)
    return tools.general.restore(damaged, Conditions(code=code)), code.scalars


def _registered(
    truth: Tensor,
    damaged: Tensor,
    scene: Tensor,
    seen: np.ndarray,
    scalars: dict[str, float] | None,
    album: Sequence[tuple[Tensor, np.ndarray]],
    rng: np.random.Generator,
) -> dict[str, np.ndarray]:
    frame_side = working_side(align(seen, 512).scale)
    similarity = align(seen, frame_side)
    face, photo, wanted = (take_crop(one, similarity)[0] for one in (scene, damaged, truth))
    survives, frame, found = laid_over(face, album, scalars, similarity.scale)
    # Of a larger crop a window that shows some of the face.
    left, top = (int(rng.integers(0, frame_side - SIDE + 1)) // 16 * 16 for _ in range(2))
    if frame_side > SIDE:
        left, top = max(left, 32), max(top, 48)
        left, top = min(left, 96), min(top, 128)

    def cut(x: Tensor) -> np.ndarray:
        return _bytes(x[..., top : top + SIDE, left : left + SIDE])

    return {
        "truth": cut(wanted),
        "photo": cut(photo),
        "face": cut(face),
        "album": np.stack([cut(one.picture) for one in found]),
        "confidence": np.stack([cut(one.confidence) for one in found]),
        "agreement": np.stack([cut(one.agreement / 2 + 0.5) for one in found]),
        "parts": cut(torch.from_numpy(frame.inside)[None]),
        "survives": band_survival(survives, LEVELS).numpy(),
        "response": _coarser(survives).numpy(),
        "likeness": np.array([one.likeness for one in found], np.float32),
    }


def _coarser(survives: Tensor) -> Tensor:
    """``survives`` of a face for the filters of a sample, half precision: every second frequency of a face of twice the side."""
    step = survives.shape[0] * 2 // (SIDE * 3)
    return survives[::step, ::step].half()


def _bytes(x: Tensor) -> np.ndarray:
    return (x.clamp(0, 1) * 255).round().byte().numpy()
