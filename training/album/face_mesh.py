"""Trains the face mesh: a student that sees damaged faces and is told where the points are on the undamaged ones.

The folder of pictures holds ``labels.npz`` (training/album/face_mesh_labels.py): for each picture's path relative to the folder
its 468 points, float32 ``[468, 3]`` in pixels.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from scipy.optimize import linear_sum_assignment
from scipy.spatial import Delaunay
from torch import Tensor
from torch.utils.data import Dataset

from ...lib.faces.align import least_squares_similarity, template
from ...lib.vocabulary import Place, UserError
from ...models.album.face_mesh import (
    ANCHORS,
    COEFFICIENTS,
    LIPS_INNER,
    LIPS_OUTER,
    PARTS,
    POINTS,
    WEIGHTS,
    FaceMesh,
    five_of_mesh,
    mesh_eye_distance,
    save_face_mesh,
)
from ..loop import Schedule, train_loop
from ..randomness import seeded
from .face_mesh_views import FRAME, View, _moved, batch, framed, turned_face

SCHEDULE = Schedule(steps=6000, batch=64, learning_rate=2e-3, warmup=100, save_every=200, workers=0)
VERSIONS = 7
ALIKE, FRESH = 8, 16
"""Views that share one damage, and how many of a batch are new; the others were seen before."""
MEMORY = 6000
Z_WEIGHT, DETAIL_WEIGHT, LIP_WEIGHT, ANCHOR_WEIGHT = 0.3, 2.5, 2.0, 1.0


def train_face_mesh(
    pictures: Path,
    work: Path,
    place: Place,
    schedule: Schedule = SCHEDULE,
    weights: Path = WEIGHTS,
    report: Callable[[int, int], None] = lambda done, total: None,
) -> FaceMesh:
    """Trains or resumes in ``work`` and writes the weights. pictures: the folder with ``labels.npz``."""
    views, points = prepared_pictures(pictures, work)
    with seeded(schedule.seed):
        network = begin(points).to(memory_format=torch.channels_last)
    optimizer = torch.optim.AdamW(network.parameters(), schedule.learning_rate, weight_decay=0.01)
    importance = weight_of_points()

    def loss(module, sample: dict[str, Tensor]) -> dict[str, Tensor]:
        crops = sample["crop"].float().div(255).contiguous(memory_format=torch.channels_last)
        points, anchors = module(crops, detailed=True)
        return loss_of(points.float(), anchors.float(), sample["points"], importance)

    def dataset(length: int) -> Dataset:
        return DamagedFaces(views, points, network.mirror, length, schedule)

    trained = train_loop(work, network, optimizer, dataset, loss, schedule, place, report)
    trained.eval()
    save_face_mesh(trained, provenance(pictures, schedule), weights)
    return trained


def loss_of(found: Tensor, anchors: Tensor, wanted: Tensor, importance: Tensor) -> dict[str, Tensor]:
    """Smooth L1 of ``[B, 468, 3]`` in -1..1 of the crop and of the anchors' maps ``[B, A, 2]``; to be read: the mean errors
    in shares of the eye distance."""
    difference = F.smooth_l1_loss(found, wanted, reduction="none", beta=0.02)
    flat = (difference[..., :2].mean(-1) * importance).mean()
    deep = (difference[..., 2] * importance).mean()
    places = wanted[:, list(ANCHORS), :2].clamp(-0.96, 0.96)
    sought = F.smooth_l1_loss(anchors, places, beta=0.02)
    error = (found - wanted)[..., :2].norm(dim=-1).mean(-1)
    astray = (anchors - places).norm(dim=-1).mean(-1)
    # A turned face has its eyes close together: no less than half the template's distance counts.
    share, astray = (one.detach() / mesh_eye_distance(wanted).clamp(min=0.25) for one in (error, astray))
    # Most faces are hardly damaged, and some not to be read at all: the median says how the former go.
    terms = {"error": share.mean(), "median": share.median(), "anchors": astray.median()}
    return {"loss": 10 * (flat + Z_WEIGHT * deep + ANCHOR_WEIGHT * sought), **terms}


def weight_of_points() -> Tensor:
    """``[468]`` with mean 1: eyes, brows, nose and lips count more than cheeks and forehead."""
    weight = torch.ones(POINTS)
    for name, part in PARTS.items():
        if name != "face_oval":
            weight[list(part)] = DETAIL_WEIGHT
    weight[[*LIPS_OUTER, *LIPS_INNER]] *= LIP_WEIGHT / 1.5
    return weight / weight.mean()


def begin(points: np.ndarray) -> FaceMesh:
    """The network whose last layer knows the mean and the principal components of the views' points ``[N, 468, 3]``."""
    network = FaceMesh(norm=True)
    upright = np.stack([_upright(face) for face in points[:: 1 + len(points) // 4000]])
    mean = upright.mean(0)
    mirror = mirror_of(mean)
    mean = (mean + mean[mirror] * [-1, 1, 1]) / 2
    network.mean.copy_(torch.from_numpy(mean))
    network.mirror.copy_(torch.from_numpy(mirror))
    # As the crops are: shifted, turned and scaled like a detector's.
    rng = np.random.default_rng(0)
    scattered = np.concatenate([[_scattered(face, rng) for face in upright] for _ in range(2)])
    middle = scattered.mean(0)
    _, values, basis = np.linalg.svd((scattered - middle).reshape(len(scattered), -1), full_matrices=False)
    scale = values[:COEFFICIENTS] / np.sqrt(len(scattered))
    with torch.no_grad():
        network.shape.weight.copy_(torch.from_numpy((basis[:COEFFICIENTS] * scale[:, None]).T))
        network.shape.bias.copy_(torch.from_numpy(middle.ravel()))
        network.coefficients.weight.mul_(0.1)
        network.coefficients.bias.zero_()
        components = (scattered - middle).reshape(len(scattered), -1) @ basis[:COEFFICIENTS].T / scale
        follow_anchors(network, scattered[:, list(ANCHORS), :2].reshape(len(scattered), -1), components)
        for module in network.modules():
            if hasattr(module, "second"):
                module.second.weight.mul_(0.2)
    return network


@torch.no_grad()
def follow_anchors(network: FaceMesh, places: np.ndarray, components: np.ndarray, noise: float = 0.03) -> None:
    """The linear way from the anchors ``[N, 2 A]`` to the coefficients ``[N, C]`` begins as the best one for so noisy anchors."""
    middle = places.mean(0)
    centred = places - middle
    square = centred.T @ centred + len(places) * noise**2 * np.eye(len(middle))
    gain = np.linalg.solve(square, centred.T @ components)
    network.direct.weight.copy_(torch.from_numpy(gain.T))
    network.direct.bias.copy_(torch.from_numpy(components.mean(0) - middle @ gain))


def mirror_of(mean: np.ndarray) -> np.ndarray:
    """``[468]``: the pairs of points that lie nearest to each other's mirror image, one to one and mutual."""
    centred = mean - [mean[:, 0].mean(), 0, 0]
    reflected = centred * [-1, 1, 1]
    cost = ((centred[:, None] - reflected[None]) ** 2).sum(-1)
    mirror = linear_sum_assignment(cost + cost.T)[1]
    if (mirror[mirror] != np.arange(POINTS)).any():
        raise UserError(
            "The labels' mean face is not symmetric enough to tell left from right: more pictures are needed."
        )
    return mirror


def _upright(points: np.ndarray) -> np.ndarray:
    """``[468, 3]`` laid onto the template of -1..1."""
    return _moved(points, least_squares_similarity(five_of_mesh(points), template(2) - 1))


def _scattered(points: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    scale, angle = rng.uniform(0.86, 1.16), np.radians(rng.uniform(-15, 15))
    turn = scale * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    return _moved(points, np.column_stack([turn, rng.uniform(-0.16, 0.16, 2)]))


def prepared_pictures(pictures: Path, work: Path) -> tuple[np.ndarray, np.ndarray]:
    """uint8 ``[N, 256, 256, 3]`` (mapped from the disk) and float32 ``[N, 468, 3]``: all pictures, each also turned and bent.

    Made once, then read from ``work``.
    """
    labels = dict(np.load(pictures / "labels.npz"))
    if not labels:
        raise UserError(f"{pictures / 'labels.npz'}: no labels in it.")
    file, points_file = work / "views.npy", work / "points.npy"
    if not points_file.is_file():
        work.mkdir(parents=True, exist_ok=True)
        rng = np.random.default_rng(0)
        shape = (len(labels) * VERSIONS, FRAME, FRAME, 3)
        store = np.lib.format.open_memmap(file, "w+", np.uint8, shape)
        frontal = np.mean([_upright(face) for face in labels.values()], 0)
        triangles = Delaunay(frontal[:, :2]).simplices
        points = []
        for name, label in sorted(labels.items()):
            with Image.open(pictures / name) as picture:
                view = framed(np.array(picture.convert("RGB")), label)
            for version in range(VERSIONS):
                shown, at = turned_face(view, triangles, rng) if version else view
                store[len(points)] = shown
                points.append(at)
        store.flush()
        np.save(points_file, np.stack(points).astype(np.float32))
    return np.load(file, mmap_mode="r"), np.load(points_file)


class DamagedFaces(Dataset):
    """Items by index: {"crop": uint8 ``[3, 128, 128]``, "points": ``[468, 3]``}. Most of a batch comes again, maybe mirrored."""

    def __init__(self, views: np.ndarray, points: np.ndarray, mirror: Tensor, length: int, schedule: Schedule):
        self.views, self.points, self.mirror = views, points, mirror.clone()
        self.length, self.schedule = length, schedule
        self.group, self.memory = (-1, ()), []

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        rng = np.random.default_rng((self.schedule.seed, index))
        if index % self.schedule.batch >= FRESH and len(self.memory) > 500:
            crop, points = self.memory[rng.integers(len(self.memory))]
        else:
            crop, points = self._fresh(index)
        if rng.random() < 0.5:
            crop, points = crop.flip(-1), points[self.mirror] * torch.tensor([-1.0, 1, 1])
        return {"crop": crop, "points": points}

    def _fresh(self, index: int) -> tuple[Tensor, Tensor]:
        number = index // ALIKE
        if self.group[0] != number:
            rng = np.random.default_rng((self.schedule.seed, 1, number))
            chosen = rng.integers(len(self.views), size=ALIKE)
            views: list[View] = [(self.views[n], self.points[n]) for n in chosen]
            self.group = number, tuple(zip(*batch(views, rng), strict=True))
        item = self.group[1][index % ALIKE]
        if len(self.memory) < MEMORY:
            self.memory.append(item)
        else:
            self.memory[index * 7919 % MEMORY] = item
        return item


def provenance(pictures: Path, schedule: Schedule) -> dict:
    """What the weights were made from: number of pictures, a hash of the labels, the schedule."""
    labels = pictures / "labels.npz"
    digest = hashlib.sha256(labels.read_bytes()).hexdigest()[:16]
    return {"pictures": len(np.load(labels).files), "labels": digest, "steps": schedule.steps, "batch": schedule.batch}


def shortened(schedule: Schedule, steps: int) -> Schedule:
    """The same schedule for a try of so many steps."""
    return replace(schedule, steps=steps, warmup=min(schedule.warmup, steps))
