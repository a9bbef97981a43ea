"""The stages before faces are restored, one by one: where faces are, dlib's points, and the crops."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from torch import Tensor

from ..vocabulary import Faces, UserError
from .broken import reasons
from .detect import Folders, detect_faces, detections_from_boxes, detections_from_mesh, get_detector
from .detection import Detection, FaceLandmarks
from .extract import ALIGNMENTS, extract_face, located

HOW = dict(
    zip(
        ALIGNMENTS,
        (
            "on the five-point template of published face networks",
            "eyes level, eyes and mouth at least 2 % of the crop (PerFuSe)",
        ),
        strict=True,
    )
)


def find_landmarks(
    photos: Tensor,
    *,
    node: str = "Detect Faces",
    backend: str = "auto",
    threshold: float | None = None,
    model_folder: Folders = None,
    looks: Tensor | None = None,
    boxes: Any = None,
    meshes: Any = None,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> FaceLandmarks:
    """The faces of photographs ``[B, 3, H, W]``, by a detector, from boxes that the user drew, or from core's FACE_LANDMARKS.

    looks: the photographs after a first restoration, in which faces are looked for, too. node: named in messages.
    Raises UserError for looks of another size, for boxes or meshes that are none, and for a backend that is not installed.
    """
    if looks is not None and looks.shape != photos.shape:
        raise UserError(f"{node}: second_look must show the same photograph as image, at the same size.")

    def find(index: int) -> list[Detection]:
        photo = photos[index]
        if meshes is not None:
            return detections_from_mesh(_meshes_of(meshes, index, node), photo.shape[-2:])
        if boxes is not None:
            return detections_from_boxes(photo, _boxes_of(boxes, index, node), backend, model_folder)
        look = None if looks is None else looks[index]
        return detect_faces(photo, backend, threshold, model_folder, look)

    frames = []
    for index in range(len(photos)):
        frames.append(tuple(find(index)))
        progress(index + 1, len(photos))
    detector = None if meshes is not None else get_detector(backend, model_folder)
    used = "core's MediaPipe landmarks" if meshes is not None else detector.name if detector else "none installed"
    if boxes is not None and meshes is None:
        used = f"boxes drawn by hand, {used} inside of them"
    if broken := reasons():
        used += "".join(
            f"; {name} is installed but broken, and was not used: {reason}" for name, reason in broken.items()
        )
    return FaceLandmarks(tuple(frames), (photos.shape[-2], photos.shape[-1]), {"detector": used})


def with_dlib_points(photos: Tensor, found: FaceLandmarks) -> FaceLandmarks:
    """With dlib's 68 points where they are found; says in how many faces that is."""
    pairs = zip(photos, found.frames, strict=True)
    frames = tuple(tuple(located(photo, one) for one in frame) for photo, frame in pairs)
    every = [one for frame in frames for one in frame]
    count = sum(one.points is not None for one in every)
    said = f"dlib's 68 points in {count} of {len(every)} faces"
    if count < len(every):
        said += ", five points in the others, because dlib or its predictor is not installed or misses them"
    return replace(found, frames=frames, used=found.used | {"landmarks": said})


def crop_faces(
    photos: Tensor,
    found: FaceLandmarks,
    alignment: str = ALIGNMENTS[0],
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Faces:
    """The faces, their crops cut in one of `ALIGNMENTS` from the photographs in which the landmarks were found."""
    frames = []
    for photo, frame in zip(photos, found.frames, strict=True):
        frames.append(tuple(extract_face(photo, one, alignment) for one in frame))
        progress(len(frames), len(photos))
    return Faces(tuple(frames), found.size, found.used | {"crop": HOW[alignment]})


def described_use(used: dict[str, str]) -> str:
    """One line per stage: what it used, and why."""
    return "\n".join(f"{stage}: {what}" for stage, what in used.items())


def _boxes_of(boxes: Any, index: int, node: str) -> list[dict[str, Any]]:
    """Core sends one box, a list for one picture, or a list of lists, one per picture. Raises UserError for anything else."""
    if isinstance(boxes, dict):
        return [boxes]
    if isinstance(boxes, list) and boxes and all(isinstance(one, list) for one in boxes):
        boxes = boxes[index] if index < len(boxes) else []
    if not isinstance(boxes, list) or not all(isinstance(box, dict) for box in boxes):
        raise UserError(f"{node}: boxes is neither a box, nor a list of them, nor one list per picture.")
    return boxes


def _meshes_of(landmarks: Any, index: int, node: str) -> list[dict[str, Any]]:
    """The faces of one picture in core's FACE_LANDMARKS. Raises UserError for anything else."""
    frames = landmarks.get("frames") if isinstance(landmarks, dict) else None
    if isinstance(frames, list) and index >= len(frames):
        return []
    if not isinstance(frames, list) or not isinstance(faces := frames[index], list):
        raise UserError(f"{node}: landmarks has no list of faces for each picture. Connect core's MediaPipe node.")
    return faces
