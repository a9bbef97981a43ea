"""Which photographs are good enough to train Face2Scene on: the filters of the paper's dataset (supplement, section 6.2).

Three stages, as published: size and face, content, quality. Every gate reports a measured number. A photograph that
fails one stage is not measured by the next, which costs more.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np
import torch
import torch.nn.functional as F

from ..lib.degradation.estimate import SMALLEST
from ..lib.extras import require
from ..lib.faces.detect import Folders, detect_faces, make_face, to_uint8
from ..lib.faces.detection import Detection, main_face
from ..lib.faces.embed import Embedder
from ..lib.faces.match import similarity_matrix
from ..lib.pictures.files import read_picture
from ..lib.vocabulary import Box, Face, Library, Person, UserError

Scorer = Callable[[torch.Tensor], float]


@dataclass(frozen=True)
class Gates:
    """The minimum values for accepting a photograph.

    short_side: pixels of the file; face_share: of the face's box in the square that is cut out; sharpness: variance of the Laplacian of
    the square and of the face in it, 256 levels of gray (the paper gives no number; docs/training.md says where this one is from);
    identity: cosine of ArcFace to the most similar reference; musiq, clipiqa, maniqa: as computed by pyiqa.
    side: of the square, not a gate; most_faces: None for any number.
    """

    short_side: int = 1000
    face_share: float = 0.01
    sharpness: float = 30.0
    identity: float = 0.55
    musiq: float = 65.0
    clipiqa: float = 0.65
    maniqa: float = 0.40
    side: int = 1024
    most_faces: int | None = None


QUALITY = {"musiq", "clipiqa", "maniqa"}
SMALLEST_FACE = 2 * SMALLEST  # pixels; cropping the pair loses a little


@dataclass
class Examined:
    """The results for one photograph.

    measured: numbers by gate; skipped: gates that could not be measured, and why; refused: gates that it failed, with a
    sentence each; empty if it is accepted. picture: the square ``[3, S, S]`` with its main face, and whom it shows.
    """

    measured: dict[str, float] = field(default_factory=dict)
    skipped: dict[str, str] = field(default_factory=dict)
    refused: dict[str, str] = field(default_factory=dict)
    picture: torch.Tensor | None = None
    face: Face | None = None
    person: Person | None = None

    def gate(self, name: str, value: float, least: float, what: str) -> None:
        self.measured[name] = round(float(value), 4)
        if value < least:
            self.refused[name] = f"{what} is {value:.4g}, but at least {least:g} is required."


def examine(
    path: Path,
    name: str | None,
    library: Library,
    gates: Gates,
    embedder: Embedder,
    scorers: Mapping[str, Scorer],
    model_folder: Folders = None,
) -> Examined:
    """Runs a photograph through all gates. name: of the person that its folder is named after, if that person has an
    album.

    Without a name, the most similar person in the library is used, if similar enough. scorers: by QUALITY's names;
    missing ones are skipped. Raises UserError if the file is not a picture.
    """
    found = Examined()
    photo = read_picture(path)
    found.gate("short_side", min(photo.shape[-2:]), gates.short_side, "the shorter side")
    if not found.refused:
        _cut(photo, found, gates, model_folder)
    if not found.refused:
        _content(path.name, name, library, found, gates, embedder)
    found.skipped |= dict.fromkeys(QUALITY - scorers.keys(), "--quality was not requested")
    if not found.refused:
        for score, measure in scorers.items():
            found.gate(score, measure(found.picture), getattr(gates, score), score)
    return found


def _cut(photo: torch.Tensor, found: Examined, gates: Gates, model_folder: Folders) -> None:
    """The photograph, its shorter side resized to the square's, cut along the longer one around the face."""
    factor = gates.side / min(photo.shape[-2:])
    size = [max(gates.side, round(length * factor)) for length in photo.shape[-2:]]
    if size != list(photo.shape[-2:]):
        photo = F.interpolate(photo[None], size, mode="bicubic", antialias=True)[0].clamp(0, 1)
    faces = detect_faces(photo, model_folder=model_folder)
    found.gate("faces", len(faces), 1, "the number of faces")
    if gates.most_faces is not None and len(faces) > gates.most_faces:
        found.refused["faces"] = f"the number of faces is {len(faces)}, but at most {gates.most_faces} are allowed."
    if found.refused:
        return
    main = main_face(faces, photo.shape[-2:])
    x, y = square_window(main.box, photo.shape[-2:], gates.side)
    found.picture = photo[:, y : y + gates.side, x : x + gates.side].contiguous()
    box = tuple(side - offset for side, offset in zip(main.box, (x, y, x, y), strict=True))
    found.face = make_face(found.picture, Detection(box, main.landmarks - [x, y], main.score))
    x0, y0, x1, y1 = (min(max(side, 0), gates.side) for side in box)
    found.gate(
        "face_share", (x1 - x0) * (y1 - y0) / gates.side**2, gates.face_share, "the face area relative to the square"
    )
    found.gate("face_size", min(x1 - x0, y1 - y0), SMALLEST_FACE, "the face's shorter side")
    if max(box[2] - box[0], box[3] - box[1]) > gates.side:
        found.refused["face_size"] = f"the face is larger than the square of {gates.side} pixels."


def square_window(box: Box, size: tuple[int, int], side: int) -> tuple[int, int]:
    """Left and top of a square inside a picture of ``size`` (H, W), its middle as near to the box's as can be."""
    middles = (box[0] + box[2]) / 2, (box[1] + box[3]) / 2
    x, y = (round(min(max(m - side / 2, 0), length - side)) for m, length in zip(middles, size[::-1], strict=True))
    return x, y


def _content(file: str, name: str | None, library: Library, found: Examined, gates: Gates, embedder: Embedder) -> None:
    """Sharpness of the square and of the face, and whether the face shows the right person."""
    grey = cv2.cvtColor(to_uint8(found.picture), cv2.COLOR_RGB2GRAY)
    x0, y0, x1, y1 = (round(min(max(side, 0), gates.side)) for side in found.face.box)
    found.gate("sharpness", laplacian_variance(grey), gates.sharpness, "the sharpness")
    found.gate("face_sharpness", laplacian_variance(grey[y0:y1, x0:x1]), gates.sharpness, "the face's sharpness")
    # A photograph is not a reference for itself.
    people = [_without(person, file) for person in library.people if name in (None, person.name)]
    people = [person for person in people if person.references]
    if not people:
        found.skipped["identity"] = "no album is known" if name is None else f"{name} has no other picture"
        return
    if embedder.proposes:
        found.skipped["identity"] = f"the identity embedding {embedder.name} can only propose"
        found.person = people[0] if name is not None else None
        return
    alike = similarity_matrix([found.face], Library(tuple(people), embedder.name), embedder)[0]
    best, least = int(alike.argmax()), least_alike(embedder, gates)
    if name is not None:
        found.gate("identity", alike[best], least, f"the similarity to {name}")
    else:
        found.measured["identity"] = round(float(alike[best]), 4)
    if alike[best] >= least:
        found.person = people[best]


def least_alike(embedder: Embedder, gates: Gates) -> float:
    """The gate's cosine is ArcFace's; another embedding has a scale of its own, and a value that needs no check."""
    return gates.identity if embedder.name == "arcface" else embedder.sure


def _without(person: Person, file: str) -> Person:
    return Person(person.name, tuple(one for one in person.references if one.name != file), person.noun)


def laplacian_variance(grey: np.ndarray) -> float:
    """Variance of the Laplacian of uint8 ``[H, W]``: large where there is fine detail, but also where there is noise."""
    return float(cv2.Laplacian(grey, cv2.CV_64F).var()) if grey.size else 0.0


def pyiqa_scorers(device: torch.device) -> dict[str, Scorer]:
    """MUSIQ, CLIP-IQA and MANIQA by pyiqa, which downloads their weights itself if necessary: only on request.

    Raises UserError if pyiqa is not installed or cannot load one of them.
    """
    require("--quality", "metrics")
    import pyiqa

    def scorer(name: str) -> Scorer:
        try:
            metric = pyiqa.create_metric(name, device=device)
        except (OSError, RuntimeError, ValueError) as error:
            raise UserError(
                f"--quality: pyiqa cannot load {name} ({error}). Fix the problem, or omit --quality."
            ) from error
        return lambda picture: float(metric(picture[None].to(device)))

    return {name: scorer(name) for name in sorted(QUALITY)}
