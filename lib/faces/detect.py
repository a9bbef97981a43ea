"""Face detection: one function with several detectors, and detections from boxes or landmarks in the workflow.

``detect_faces`` uses the best detector whose files are present: SCRFD (insightface), MTCNN (the weights of the
facenet-pytorch wheel) or dlib's histogram detector with its landmark predictor. Nothing is ever downloaded here.
"""

from __future__ import annotations

import importlib.util
import logging
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ..extras import command
from ..vocabulary import Box, Face, Size, UserError
from . import mtcnn
from .align import crop_face
from .paste import face_region

log = logging.getLogger(__name__)

Folders = Path | Iterable[Path] | None  # of models: ComfyUI's user may have several for one kind of file

SMALL_PICTURE = 640
ENLARGED_PIXELS = 16e6
# Smaller faces contain nothing to restore, and are mostly false alarms.
SMALLEST_FACE = 16
MERGE_OVERLAP = 0.6
# Mean landmarks of a detected face, as fractions of its box.
TYPICAL_LANDMARKS = np.array([[0.28, 0.395], [0.72, 0.395], [0.5, 0.6], [0.31, 0.765], [0.69, 0.765]])
GUESSED_SCORE = 0.1


@dataclass(frozen=True)
class Detection:
    """box: in the photograph; landmarks: float64 ``[5, 2]``; score: 0..1."""

    box: Box
    landmarks: np.ndarray
    score: float


@dataclass(frozen=True)
class Detector:
    """scan(photo ``[3, H, W]`` in 0..1, threshold) -> detections; threshold: the detector's usual one."""

    name: str
    threshold: float
    scan: Callable[[Tensor, float], list[Detection]]


def detect_faces(
    photo: Tensor, backend: str = "auto", threshold: float | None = None, model_folder: Folders = None
) -> list[Detection]:
    """The faces of a photograph ``[3, H, W]`` in 0..1, in reading order.

    A small picture, or one in which nothing was found, is scanned once more at twice its size.
    threshold: minimum score, 0..1; None uses the detector's default. model_folder: where SCRFD's .onnx may be.
    Raises UserError if the backend asked for is not installed.
    """
    detector = get_detector(backend, model_folder)
    if detector is None:
        return []
    threshold = detector.threshold if threshold is None else threshold
    found = detector.scan(photo, threshold)
    height, width = photo.shape[-2:]
    if (not found or min(height, width) < SMALL_PICTURE) and 4 * height * width <= ENLARGED_PIXELS:
        found += _scan_scaled(detector, photo, threshold, 2)
    return reading_order(merge_detections([face for face in found if face.box[3] - face.box[1] >= SMALLEST_FACE]))


def get_detector(backend: str = "auto", model_folder: Folders = None) -> Detector | None:
    """A detector by name. For "auto", the best one available, or None with a log message if there is none."""
    if backend != "auto":
        if backend not in DETECTORS:
            raise UserError(f"There is no face detector {backend!r}. Choose auto or one of {', '.join(DETECTORS)}.")
        detector = DETECTORS[backend](model_folder)
        if detector is None:
            raise UserError(
                f"The face detector {backend} is not available. To use it, {how_to_get_detector(backend)} Or choose auto."
            )
        return detector
    present = (build(model_folder) for build in DETECTORS.values())
    detector = next((detector for detector in present if detector is not None), None)
    if detector is None:
        log.warning(
            "No face detector is installed, so no faces are found. To add one, %s", how_to_get_detector("mtcnn")
        )
    return detector


def merge_detections(detections: Sequence[Detection]) -> list[Detection]:
    """One detection per face: the most confident one, if several passes found the same face."""
    if not detections:
        return []
    boxes = torch.tensor([detection.box for detection in detections])
    scores = torch.tensor([detection.score for detection in detections])
    return [detections[index] for index in mtcnn.suppress(boxes, scores, MERGE_OVERLAP).tolist()]


def reading_order(detections: Sequence[Detection]) -> list[Detection]:
    """Rows from top to bottom, each from left to right; a row holds centers within half a face of its topmost one."""

    def centre(detection: Detection) -> tuple[float, float]:
        x0, y0, x1, y1 = detection.box
        return (y0 + y1) / 2, (x0 + x1) / 2

    rows: list[list[Detection]] = []
    for detection in sorted(detections, key=centre):
        top = rows[-1][0] if rows else None
        if top is not None and centre(detection)[0] - centre(top)[0] < (top.box[3] - top.box[1]) / 2:
            rows[-1].append(detection)
        else:
            rows.append([detection])
    return [detection for row in rows for detection in sorted(row, key=lambda face: centre(face)[1])]


def detections_from_boxes(
    photo: Tensor, boxes: Sequence[dict[str, Any]], backend: str = "auto", model_folder: Folders = None
) -> list[Detection]:
    """One detection per box ``{x, y, width, height}`` that the user drew, in the order given.

    The detector searches the enlarged box. If it finds nothing, the landmarks are those of a typical upright face and
    the score is low. Raises UserError for a box without area or outside the photograph.
    """
    detector = get_detector(backend, model_folder)
    checked = [_checked_box(box, photo.shape[-2:], number) for number, box in enumerate(boxes)]
    return [_detect_in_box(photo, box, detector) for box in checked]


def detections_from_mesh(faces: Sequence[dict[str, Any]]) -> list[Detection]:
    """Detections from one frame of ComfyUI's FACE_LANDMARKS (MediaPipe's mesh of 468 points, or 478 with irises)."""
    return [_from_mesh(face) for face in faces]


def make_face(photo: Tensor, detection: Detection, size: int = 512) -> Face:
    """The aligned Face of a detection in ``[3, H, W]``; see ``align.crop_face``."""
    crop, valid, similarity = crop_face(photo, detection.landmarks, size)
    return Face(detection.box, detection.landmarks, detection.score, similarity, crop, valid)


def _scan_scaled(detector: Detector, photo: Tensor, threshold: float, factor: float) -> list[Detection]:
    """Detections of the resized photograph, in the photograph's own pixels."""
    scaled = F.interpolate(
        photo[None], scale_factor=factor, mode="bilinear", antialias=factor < 1, recompute_scale_factor=False
    )[0]
    return [_moved(detection, 1 / factor, 0, 0) for detection in detector.scan(scaled, threshold)]


def _moved(detection: Detection, factor: float, x: float, y: float) -> Detection:
    """The detection after its picture is scaled by ``factor`` and then shifted by (x, y)."""
    x0, y0, x1, y1 = (side * factor for side in detection.box)
    landmarks = (detection.landmarks + 0.5) * factor - 0.5 + [x, y]
    return replace(detection, box=(x0 + x, y0 + y, x1 + x, y1 + y), landmarks=landmarks)


def _checked_box(box: dict[str, Any], size: Size, number: int) -> Box:
    x, y, width, height = (float(box[key]) for key in ("x", "y", "width", "height"))
    if width <= 0 or height <= 0 or x >= size[1] or y >= size[0] or x + width <= 0 or y + height <= 0:
        raise UserError(
            f"Box {number} (x {x:g}, y {y:g}, width {width:g}, height {height:g}) is outside the {size[1]} x {size[0]} "
            "photograph. Draw it around a face."
        )
    return x, y, x + width, y + height


def _detect_in_box(photo: Tensor, box: Box, detector: Detector | None) -> Detection:
    corner, side = np.array(box[:2]), np.array([box[2] - box[0], box[3] - box[1]])
    if detector is not None:
        x0, y0, x1, y1 = face_region(box, 0.5, photo.shape[-2:])
        # The size at which detectors work best.
        factor = 160 / max(side)
        # The user marked this face, so a weak response counts.
        found = _scan_scaled(detector, photo[:, y0:y1, x0:x1], detector.threshold * 0.6, factor)
        found = [_moved(detection, 1, x0, y0) for detection in found]
        best = max(found, key=lambda detection: _overlap(detection.box, box), default=None)
        if best is not None and _overlap(best.box, box) > 0.25:
            return best
    return Detection(box, corner + TYPICAL_LANDMARKS * side - 0.5, GUESSED_SCORE)


def _overlap(a: Box, b: Box) -> float:
    """Intersection over union."""
    shared = max(min(a[2], b[2]) - max(a[0], b[0]), 0) * max(min(a[3], b[3]) - max(a[1], b[1]), 0)
    return shared / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - shared)


def _from_mesh(face: dict[str, Any]) -> Detection:
    points = np.asarray(face["landmarks_xy"], np.float64)[:, :2]
    if len(points) >= 478:
        eyes = points[[468, 473]]
    else:
        eyes = np.stack([points[[33, 133]].mean(0), points[[362, 263]].mean(0)])
    x0, y0, x1, y1 = (float(side) for side in face["bbox_xyxy"])
    return Detection((x0, y0, x1, y1), np.concatenate([eyes, points[[1, 61, 291]]]), float(face["score"]))


def to_uint8(picture: Tensor) -> np.ndarray:
    """``[3, H, W]`` in 0..1 to uint8 ``[H, W, 3]``, the layout of foreign libraries."""
    return (picture.clamp(0, 1) * 255).round().byte().permute(1, 2, 0).contiguous().cpu().numpy()


def _mtcnn(model_folder: Folders) -> Detector | None:
    folder = mtcnn.weight_folder()
    if folder is None:
        return None

    def scan(photo: Tensor, threshold: float) -> list[Detection]:
        # In a large photograph, the smallest faces are irrelevant, and they determine the time of the scan.
        min_face = max(20.0, min(photo.shape[-2:]) / 100)
        boxes, landmarks, scores = mtcnn.detect(photo.cpu(), mtcnn.load_mtcnn(folder), min_face, threshold)
        found = zip(boxes.tolist(), landmarks.double().numpy(), scores.tolist(), strict=True)
        return [Detection(tuple(box), points, score) for box, points, score in found]

    return Detector("mtcnn", 0.85, scan)


def scrfd_file(folders: Folders) -> Path | None:
    """The SCRFD model in the folders of insightface models, by the names under which they are published."""
    return model_file(folders, ("det_", "scrfd_"))


def model_file(folders: Folders, beginnings: tuple[str, ...]) -> Path | None:
    """The first .onnx whose name begins so, in the first of the folders that has one."""
    files = (path for folder in there(folders) for path in sorted(folder.rglob("*.onnx")))
    return next((path for path in files if path.name.startswith(beginnings)), None)


def there(folders: Folders) -> list[Path]:
    """Those that exist; of one folder, of several, or of none."""
    every = [] if folders is None else [folders] if isinstance(folders, Path) else folders
    return [folder for folder in every if folder.is_dir()]


@lru_cache(maxsize=1)
def _load_scrfd(path: Path) -> Any:
    from insightface.model_zoo import get_model

    return get_model(str(path))


def _scrfd(model_folder: Folders) -> Detector | None:
    path = scrfd_file(model_folder)
    if path is None or importlib.util.find_spec("insightface") is None:
        return None

    def scan(photo: Tensor, threshold: float) -> list[Detection]:
        network = _load_scrfd(path)
        network.prepare(0, det_thresh=threshold)
        picture = np.ascontiguousarray(to_uint8(photo)[..., ::-1])
        # The smallest size is for faces that fill the picture, the largest for those of a crowd.
        sizes = (128, 640, 1280) if max(photo.shape[-2:]) > 640 else (128, 640)
        found = []
        for size in sizes:
            boxes, landmarks = network.detect(picture, input_size=(size, size))
            pairs = zip(boxes.tolist(), landmarks.astype(np.float64), strict=True)
            found += [Detection(tuple(box[:4]), points, box[4]) for box, points in pairs]
        return merge_detections(found)

    return Detector("insightface", 0.5, scan)


def dlib_file(name: str) -> Path | None:
    """A .dat file of the installed face_recognition_models package, found without importing it."""
    spec = importlib.util.find_spec("face_recognition_models")
    if spec is None or not spec.submodule_search_locations or importlib.util.find_spec("dlib") is None:
        return None
    path = Path(spec.submodule_search_locations[0]) / "models" / name
    return path if path.is_file() else None


@lru_cache(maxsize=1)
def _load_dlib(path: Path) -> tuple[Any, Any]:
    import dlib

    return dlib.get_frontal_face_detector(), dlib.shape_predictor(str(path))


def _dlib(model_folder: Folders) -> Detector | None:
    path = dlib_file("shape_predictor_68_face_landmarks.dat")
    if path is None:
        return None

    def scan(photo: Tensor, threshold: float) -> list[Detection]:
        detector, predictor = _load_dlib(path)
        picture = to_uint8(photo)
        # dlib's margin has no upper end; the logistic function brings it into 0..1 with the usual threshold at .5.
        rectangles, margins, _ = detector.run(picture, 0, float(np.log(threshold / (1 - threshold))))
        found = []
        for rectangle, margin in zip(rectangles, margins, strict=True):
            points = np.array([(point.x, point.y) for point in predictor(picture, rectangle).parts()], np.float64)
            left, top, right, bottom = rectangle.left(), rectangle.top(), rectangle.right(), rectangle.bottom()
            score = float(1 / (1 + np.exp(-margin)))
            found.append(Detection((float(left), float(top), right + 1.0, bottom + 1.0), five_of_68(points), score))
        return found

    return Detector("dlib", 0.5, scan)


def five_of_68(points: np.ndarray) -> np.ndarray:
    """dlib's 68 points ``[68, 2]`` reduced to the five of the template ``[5, 2]``."""
    return np.stack([points[36:42].mean(0), points[42:48].mean(0), points[30], points[48], points[54]])


DETECTORS: dict[str, Callable[[Folders], Detector | None]] = {"insightface": _scrfd, "mtcnn": _mtcnn, "dlib": _dlib}


def how_to_get_detector(backend: str) -> str:
    """What a detector needs that is missing, as the end of a sentence."""
    return {
        "insightface": f"run {command('insightface')} and put its SCRFD model (det_*.onnx) into the models folder.",
        "mtcnn": 'run pip install --no-deps "facenet-pytorch>=2.5,<2.6", which contains its weights.',
        "dlib": f"run {command('identity')}.",
    }[backend]
