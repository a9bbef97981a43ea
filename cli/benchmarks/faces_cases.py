"""One face under synthetic damage, and what the workflows make of it before an album speaks.

The picture is shrunk so that the detector's box has the stated width; only the surroundings of the face are computed.
After the damage everything is estimated as in the workflow ``face2scene``: the face is detected on the damaged picture and on its blind
restoration, its code is read from the face pair, and the scene is restored with that code.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F

from ...lib.bridge import keep
from ...lib.degradation.estimate import face_pair
from ...lib.degradation.families import FAMILIES
from ...lib.degradation.recipe import Recipe
from ...lib.faces.align import align
from ...lib.faces.detect import detect_faces, make_face, merge_detections, reading_order
from ...lib.faces.detection import main_face
from ...lib.faces.paste import face_region
from ...lib.pictures.files import read_picture
from ...lib.restoring.apply import restore_faces, restore_scene
from ...lib.vocabulary import Box, Conditions, DegradationCode, Face, Faces, Library
from ...models.embedded import ready as embedded
from ...models.embedded.estimate import estimate_code
from ...training.album.samples import FACE_FAMILIES, for_face

# What is computed around a face on each side, in boxes.
SURROUNDINGS = 1.0
# How far a face may be enlarged to reach the stated width.
LARGEST_FACTOR = 1.05


@dataclass(frozen=True)
class Subject:
    """An undamaged face ``[3, h, w]`` with its surroundings, the detector's box and landmarks ``[5, 2]`` in it."""

    picture: torch.Tensor
    box: Box
    landmarks: np.ndarray

    @property
    def width(self) -> float:
        return self.box[2] - self.box[0]


@dataclass(frozen=True)
class Case:
    """One damaged face.

    truth, damaged, scene: ``[1, 3, h, w]``; the scene is restored with the estimated code. subject: the undamaged face at this size;
    scalars: the true damage. faces: all that were found, blindly restored; index: which of them is the face, None if it was
    not found. face: the same, restored with the code.
    """

    subject: Subject
    damaged: torch.Tensor
    scene: torch.Tensor
    scalars: dict[str, float]
    faces: Faces
    index: int | None
    face: Face | None
    code: DegradationCode | None

    @property
    def truth(self) -> torch.Tensor:
        return self.subject.picture[None]


@lru_cache(maxsize=1)
def subject_of(path: Path, surroundings: float = SURROUNDINGS) -> Subject | None:
    """The main face of a picture on disk, None if no face is found in it. Raises UserError if it cannot be read."""
    photo = read_picture(path)
    seen = detect_faces(photo)
    if not seen:
        return None
    face = main_face(seen, photo.shape[-2:])
    x0, y0, x1, y1 = face_region(face.box, surroundings, photo.shape[-2:])
    box = tuple(value - corner for value, corner in zip(face.box, (x0, y0, x0, y0), strict=True))
    return Subject(photo[:, y0:y1, x0:x1], box, face.landmarks - [x0, y0])


def at_width(subject: Subject, width: float) -> Subject | None:
    """The same face with a box of that width; None if it would have to be enlarged."""
    factor = width / subject.width
    if factor > LARGEST_FACTOR:
        return None
    before = np.array(subject.picture.shape[-2:])
    after = np.maximum(np.round(before * factor), 1).astype(int)
    small = F.interpolate(subject.picture[None], tuple(after.tolist()), mode="bicubic", antialias=True)[0].clamp(0, 1)
    x, y = (after / before)[::-1]
    box = tuple(float(side) for side in np.array(subject.box) * [x, y, x, y])
    return Subject(small, box, (subject.landmarks + 0.5) * [x, y] - 0.5)


def recipe_of(family: str, seed: int, landmarks: np.ndarray) -> Recipe:
    """The family's recipe for a face with those landmarks.

    Families that are meant for aligned crops of 512 px are scaled to the size of the face.
    """
    recipe = FAMILIES[family](seed)
    return for_face(recipe, 1 / align(landmarks, 512).scale) if family in FACE_FAMILIES else recipe


def make_case(subject: Subject, recipe: Recipe) -> Case:
    """The face damaged, found again and restored with its scene. subject: at the size wanted."""
    general = embedded.restorer(keep)
    damaged = recipe.apply(subject.picture[None])
    scene = restore_scene(damaged, general, Conditions())
    found = reading_order(merge_detections(detect_faces(damaged[0]) + detect_faces(scene[0])))
    faces = Faces((tuple(make_face(damaged[0], one) for one in found),), damaged.shape[-2:])
    faces = restore_faces(damaged, faces, general, Library())
    index = face_at(subject.box, faces.frames[0])
    if index is None:
        return Case(subject, damaged, scene, recipe.summary(), faces, None, None, None)
    face = faces.frames[0][index]
    pair = face_pair(damaged[0], face)
    if pair is None:
        return Case(subject, damaged, scene, recipe.summary(), faces, index, face, None)
    code = estimate_code(embedded.extractor(keep)(), pair)
    scene = restore_scene(damaged, general, Conditions(code=code))
    guided = restore_faces(damaged, lone_face(face, faces.size), general, Library(), code=code).frames[0][0]
    return Case(subject, damaged, scene, recipe.summary(), faces, index, guided, code)


def face_at(box: Box, frame: tuple[Face, ...]) -> int | None:
    """The number of the first face whose box holds the middle of another box."""
    x, y = (box[0] + box[2]) / 2, (box[1] + box[3]) / 2
    inside = (n for n, face in enumerate(frame) if face.box[0] < x < face.box[2] and face.box[1] < y < face.box[3])
    return next(inside, None)


def lone_face(face: Face, size: tuple[int, int]) -> Faces:
    """One face of one photograph of ``size`` (H, W)."""
    return Faces(((face,),), size)
