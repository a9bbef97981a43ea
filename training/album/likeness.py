"""A likeness of our own: how much two faces look like the same person, for the loss of the album's gate.

A small network learns, by contrast, to tell the people of the training pictures apart, whatever the pose and the light.
It ships nowhere, and it never measures a result: that is dlib's part, which takes none in the training.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import Dataset

from ...lib.faces.align import crop_face
from ...lib.storage.tensors import read_tensors, write_tensors
from ...lib.vocabulary import Place, UserError
from ..loop import Schedule, train_loop
from ..randomness import seeded
from . import photographs
from .samples import Identity, view

WEIGHTS = "likeness.safetensors"
SCHEDULE = Schedule(steps=750, batch=48, learning_rate=1.5e-3, workers=0)
SIDE = 128  # pixels of an aligned picture
VIEWS = 4  # pictures kept of everybody
LEFT, TOP, SEEN = 16, 30, 96  # the face itself, without most of hair and background
TEMPERATURE = 0.1
WIDTHS = (32, 64, 128, 192)
DIMENSIONS = 128


class Residual(nn.Module):
    def __init__(self, width: int):
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(width, width, 3, padding=1, bias=False),
            nn.BatchNorm2d(width),
            nn.SiLU(),
            nn.Conv2d(width, width, 3, padding=1, bias=False),
            nn.BatchNorm2d(width),
        )

    def forward(self, x: Tensor) -> Tensor:
        return F.silu(x + self.body(x))


class Likeness(nn.Module):
    """Pictures ``[B, 3, H, W]`` in 0..1 to features, and aligned ones of ``SIDE`` to unit vectors ``[B, DIMENSIONS]``."""

    def __init__(self):
        super().__init__()
        stages = []
        for before, width in zip((3, *WIDTHS), WIDTHS, strict=False):
            stages.append(
                nn.Sequential(
                    nn.Conv2d(before, width, 3, stride=2, padding=1, bias=False),
                    nn.BatchNorm2d(width),
                    nn.SiLU(),
                    *([Residual(width)] if before > 3 else []),
                )
            )
        self.stages = nn.ModuleList(stages)
        self.last = nn.Linear(WIDTHS[-1] * (SEEN >> len(WIDTHS)) ** 2, DIMENSIONS)

    def features(self, picture: Tensor) -> list[Tensor]:
        """``[B, C, H / 2^n, W / 2^n]``, n from 1."""
        x, found = (picture - 0.5) * 4, []
        for stage in self.stages:
            x = stage(x)
            found.append(x)
        return found

    def forward(self, aligned: Tensor) -> Tensor:
        face = aligned[..., TOP : TOP + SEEN, LEFT : LEFT + SEEN]
        return F.normalize(self.last(self.features(face)[-1].flatten(1)).float(), dim=1)


class People(Dataset):
    """Two pictures of somebody, each moved and recolored, in a fixed random order, from one group of people after the other."""

    def __init__(self, groups: list[np.ndarray], length: int, seed: int):
        self.groups, self.length, self.seed = groups, length, seed

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> dict[str, np.ndarray]:
        rng = np.random.default_rng((self.seed, index))
        views = self.groups[index % len(self.groups)]
        row = views[rng.integers(len(views))]
        first, second = rng.choice(len(row), 2, replace=False)
        return {"first": worn(row[first], rng), "second": worn(row[second], rng)}


def worn(picture: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """uint8 ``[3, S, S]`` to float32 in 0..1, moved a little, mirrored as often as not, and recolored.

    Nothing is damaged: to a network that looks through damage, a soft face is like its person already.
    """
    x = torch.from_numpy(picture).float()[None] / 255
    turn = torch.eye(2, 3) + torch.from_numpy(rng.normal(0, 0.012, (2, 3))).float()
    turn = turn * torch.tensor([1.0 if rng.random() < 0.5 else -1.0, 1.0, 1.0])
    grid = F.affine_grid(turn[None], [*x.shape], align_corners=False)
    x = F.grid_sample(x, grid, padding_mode="reflection", align_corners=False)
    gain, shift = torch.from_numpy(rng.normal(0, 1, (2, 3, 1, 1))).float()
    return (x * (1 + 0.15 * gain) + 0.06 * shift)[0].clamp(0, 1).numpy()


def views_of(people: list[Identity], seed: int = 0) -> np.ndarray:
    """uint8 ``[N, VIEWS, 3, SIDE, SIDE]``: everybody as they are, and second views of them."""
    rng = np.random.default_rng(seed)
    out = np.zeros((len(people), VIEWS, 3, SIDE, SIDE), np.uint8)
    for number, person in enumerate(people):
        for index in range(VIEWS):
            picture, points = view(person, rng, index, keep=float(index == 0))
            out[number, index] = photographs.to_bytes(crop_face(picture, points[:5], SIDE)[0])
    return out


def contrast(first: Tensor, second: Tensor) -> Tensor:
    """Everybody's two pictures must be more alike than any two of different people (van den Oord et al. 2018)."""
    scores = first @ second.T / TEMPERATURE
    own = torch.arange(len(first), device=first.device)
    return (F.cross_entropy(scores, own) + F.cross_entropy(scores.T, own)) / 2


def contrast_terms(network: Callable[[Tensor], Tensor], batch: dict[str, Tensor]) -> dict[str, Tensor]:
    first, second = network(torch.cat([batch["first"], batch["second"]])).chunk(2)
    own = (first @ second.T).argmax(1) == torch.arange(len(first), device=first.device)
    return {"loss": contrast(first, second), "own": own.float().mean()}


def train_likeness(
    groups: list[np.ndarray],
    work: Path,
    place: Place,
    schedule: Schedule = SCHEDULE,
    report: Callable[[int, int], None] = lambda done, total: None,
) -> Likeness:
    """Trains or resumes in ``work``, on groups of ``views_of``, and writes the weights there."""
    with seeded(schedule.seed):
        network = Likeness().to(memory_format=torch.channels_last)
    optimizer = torch.optim.AdamW(network.parameters(), schedule.learning_rate, weight_decay=1e-2)

    def dataset(length: int) -> Dataset:
        return People(groups, length, schedule.seed)

    network = train_loop(work, network, optimizer, dataset, contrast_terms, schedule, place, report).eval()
    write_tensors(work / WEIGHTS, network.state_dict(), {"kind": "likeness"})
    return network


def load_likeness(path: Path) -> Likeness:
    """In evaluation mode, frozen. Raises UserError if it has not been trained."""
    if not path.is_file():
        raise UserError(f"{path} is missing. Run 'train album-likeness' with the same --out first.")
    network = Likeness()
    network.load_state_dict(read_tensors(path))
    return network.eval().requires_grad_(False).to(memory_format=torch.channels_last)
