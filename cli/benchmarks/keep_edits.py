"""Simulated edits of a photograph, as editing models make them: sharp, recolored, bent, cropped, with somebody else's face."""

from __future__ import annotations

from dataclasses import dataclass, replace

import cv2
import numpy as np
import torch
import torch.nn.functional as F

from ...lib.degradation.operators import unsharp_mask
from ...lib.faces.align import crop_face
from ...lib.faces.detect import make_face
from ...lib.faces.detection import Detection
from ...lib.fusion.compose import compose_faces
from ...lib.fusion.light import relit
from ...lib.fusion.mask import face_mask
from ...lib.vocabulary import Faces
from .faces_cases import Subject

# What is done beside the other face.
KINDS: dict[str, tuple[str, ...]] = {
    "face": (),
    "color": ("color",),
    "enlarged": ("enlarged",),
    "warp": ("warp",),
    "crop": ("crop",),
    "all": ("color", "enlarged", "warp", "crop"),
}
ENLARGED = 2
# Of the longer side; ``GRID`` random displacements across.
WARP, GRID = 0.03, 4
WIDE = 16 / 9


@dataclass(frozen=True)
class Simulated:
    """picture: ``[3, h, w]``; plain: the same edit with the true face; landmarks: float64 ``[5, 2]``, of the face in both."""

    picture: torch.Tensor
    plain: torch.Tensor
    landmarks: np.ndarray


def simulated(subject: Subject, other: torch.Tensor, kind: str, seed: int) -> Simulated:
    """An edit of an undamaged picture. other: the crop ``[3, 512, 512]`` of another person. The same seed gives the same edit."""
    random = np.random.default_rng(seed)
    pictures = torch.stack([another_face(subject, other), subject.picture])
    landmarks = subject.landmarks
    for step in KINDS[kind]:
        if step == "color":
            pictures = recolored(pictures, random)
        elif step == "enlarged":
            pictures = F.interpolate(pictures, scale_factor=ENLARGED, mode="bicubic").clamp(0, 1)
            pictures = unsharp_mask(pictures, weight=0.6, radius=4, threshold=0).clamp(0, 1)
            landmarks = (landmarks + 0.5) * ENLARGED - 0.5
        elif step == "warp":
            pictures, landmarks = warped(pictures, landmarks, random)
        else:
            factor = ENLARGED if "enlarged" in KINDS[kind] else 1
            pictures, landmarks = cropped(pictures, landmarks, subject.width * factor)
    return Simulated(pictures[0], pictures[1], landmarks)


def another_face(subject: Subject, other: torch.Tensor) -> torch.Tensor:
    """The picture ``[3, h, w]`` with the other person's face in the colors of the first."""
    face = make_face(subject.picture, Detection(subject.box, subject.landmarks, 1.0))
    drawn = replace(face, restored=relit(other, face.crop, face.valid * face_mask(), face.similarity.size))
    faces = Faces(((drawn,),), (subject.picture.shape[-2], subject.picture.shape[-1]))
    return compose_faces(subject.picture[None], faces, color="none")[0][0]


def recolored(pictures: torch.Tensor, random: np.random.Generator) -> torch.Tensor:
    """Other curves per channel, another saturation, another white."""
    gamma = torch.from_numpy(random.uniform(0.75, 1.35, 3)).float()[:, None, None]
    white = torch.from_numpy(random.uniform(0.85, 1.0, 3)).float()[:, None, None]
    gray = pictures.mean(1, keepdim=True)
    return ((gray + float(random.uniform(0.4, 1.5)) * (pictures - gray)).clamp(0, 1) ** gamma) * white


def warped(
    pictures: torch.Tensor, landmarks: np.ndarray, random: np.random.Generator
) -> tuple[torch.Tensor, np.ndarray]:
    """Bent smoothly by up to ``WARP`` of the longer side."""
    height, width = pictures.shape[-2:]
    coarse = random.normal(size=(GRID, GRID, 2)).astype(np.float32)
    field = cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)
    field *= WARP * max(height, width) / np.linalg.norm(field, axis=2).max()
    y, x = np.mgrid[:height, :width].astype(np.float32)
    place = torch.from_numpy(np.dstack([x, y]) + field)
    grid = (2 * place + 1) / place.new_tensor([width, height]) - 1
    bent = F.grid_sample(pictures, grid.expand(2, -1, -1, -1), "bicubic", "reflection", align_corners=False).clamp(0, 1)
    moved = landmarks.copy()
    for _ in range(20):
        columns, rows = moved.T.astype(np.float32)
        moved = landmarks - cv2.remap(field, columns[None], rows[None], cv2.INTER_LINEAR)[0]
    return bent, moved


def cropped(pictures: torch.Tensor, landmarks: np.ndarray, face: float) -> tuple[torch.Tensor, np.ndarray]:
    """16:9 around the face, as wide as the picture or the face's height allow. face: its width."""
    height, width = pictures.shape[-2:]
    tall = min(max(width / WIDE, 1.8 * face), height)
    wide = min(tall * WIDE, width)
    middle = landmarks.mean(0)
    left, top = (
        int(np.clip(center - side / 2, 0, whole - side))
        for center, side, whole in zip(middle, (wide, tall), (width, height), strict=True)
    )
    return pictures[..., top : top + int(tall), left : left + int(wide)], landmarks - [left, top]


def other_crop(subject: Subject) -> torch.Tensor:
    """The aligned crop ``[3, 512, 512]`` of a face."""
    return crop_face(subject.picture, subject.landmarks)[0]
