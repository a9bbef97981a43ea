"""Face detection: one function with several detectors, and detections from boxes or landmarks in the workflow.

``detect_faces`` uses the best detector whose files are present: SCRFD (insightface), MTCNN (the weights of the
facenet-pytorch wheel) or dlib's histogram detector with its landmark predictor. Nothing is ever downloaded here.
"""

from __future__ import annotations

import importlib.util
import logging
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import torch.nn.functional as F
from torch import Tensor

from ..extras import command
from ..vocabulary import Box, Face, Size, UserError, enlargement
from . import mtcnn
from .align import crop_face
from .broken import attempt, why
from .detection import Detection, main_face, merge_detections, overlap, reading_order
from .paste import face_region
from .turned import MARGIN, face_evidence, search, search_upright

log = logging.getLogger(__name__)

Folders = Path | Iterable[Path] | None  # of models: ComfyUI's user may have several for one kind of file

SMALL_PICTURE = 640
ENLARGED_PIXELS = 16e6
# Smaller faces contain nothing to restore, and are mostly false alarms.
SMALLEST_FACE = 16
# Mean landmarks of a detected face, as fractions of its box.
TYPICAL_LANDMARKS = np.array([[0.28, 0.395], [0.72, 0.395], [0.5, 0.6], [0.31, 0.765], [0.69, 0.765]])
GUESSED_SCORE = 0.1
SCANNED_BOX = 160  # pixels
# Shares of the shorter side: of faces that are looked for first in portraits, and of one that must be the main one.
LARGE_FACE, MAIN_FACE = 1 / 20, 1 / 7


@dataclass(frozen=True)
class Detector:
    """scan(photo ``[3, H, W]`` in 0..1, threshold) -> detections; threshold: the detector's usual one; sure: the score that
    nothing but an upright face reaches; large: a scan for faces of at least ``LARGE_FACE`` of the photograph's shorter side, None
    if that takes as long."""

    name: str
    threshold: float
    scan: Callable[[Tensor, float], list[Detection]]
    sure: float = 0.75
    large: Callable[[Tensor, float], list[Detection]] | None = None


def detect_faces(
    photo: Tensor,
    backend: str = "auto",
    threshold: float | None = None,
    model_folder: Folders = None,
    second_look: Tensor | None = None,
) -> list[Detection]:
    """The faces of a photograph ``[3, H, W]`` in 0..1, in reading order.

    A small picture, or one in which nothing was found, is scanned once more at twice its size. Where no face is certain, the
    photograph is turned, see `turned.search`.
    threshold: minimum score, 0..1; None uses the detector's default. model_folder: where SCRFD's .onnx may be.
    second_look: another version of the photograph, which is scanned, too.
    Raises UserError if the backend asked for is not installed.
    """
    detector = get_detector(backend, model_folder)
    if detector is None:
        return []
    threshold = detector.threshold if threshold is None else threshold
    looks = [photo] if second_look is None else [photo, second_look]
    return reading_order(search(_looking(detector, threshold), looks, threshold, detector.sure))


def detect_portrait(photo: Tensor, model_folder: Folders = None) -> list[Detection]:
    """The faces of a photograph ``[3, H, W]`` in 0..1 of which only the main one counts, in reading order.

    Large faces are looked for first. If the main one of them is so large that no smaller one can be it, they alone are the
    result; otherwise smaller ones are looked for, too, but only in the photograph as it stands.
    """
    detector = get_detector("auto", model_folder)
    if detector is None or detector.large is None:
        return detect_faces(photo, model_folder=model_folder)
    shortest = min(photo.shape[-2:])
    # Large faces have enough pixels in a smaller picture.
    factor = 2 ** int(math.log2(max(shortest / SMALL_PICTURE, 1)))
    scan = _looking(replace(detector, scan=detector.large), detector.threshold, twice=shortest < SMALL_PICTURE)
    seen = search(scan, [F.avg_pool2d(photo, factor)], detector.threshold, detector.sure)
    found = [face.placed(enlargement(factor, factor)[:2]) for face in seen]
    main = main_face(found, photo.shape[-2:]) if found else None
    if main is None or main.box[2] - main.box[0] < MAIN_FACE * shortest:
        every = search_upright(_looking(detector, detector.threshold), [photo])
        # Large faces in a turned photograph need more evidence than all that is seen in it as it stands.
        if face_evidence(found, detector.threshold) <= face_evidence(every, detector.threshold) + MARGIN:
            found = every
    return reading_order(found)


def _looking(detector: Detector, threshold: float, twice: bool = True) -> Callable[[Tensor], list[Detection]]:
    """Scans a picture; ``twice``: a small one and one in which nothing was found at twice its size, too."""

    def scan(look: Tensor) -> list[Detection]:
        found = detector.scan(look, threshold)
        height, width = look.shape[-2:]
        if twice and (not found or min(height, width) < SMALL_PICTURE) and 4 * height * width <= ENLARGED_PIXELS:
            found += _scan_scaled(detector, look, threshold, 2)
        return [face for face in found if face.box[3] - face.box[1] >= SMALLEST_FACE]

    return scan


def get_detector(backend: str = "auto", model_folder: Folders = None) -> Detector | None:
    """A detector by name. For "auto", the best one available, or None with a log message if there is none."""
    if backend != "auto":
        if backend not in DETECTORS:
            raise UserError(f"There is no face detector {backend!r}. Choose auto or one of {', '.join(DETECTORS)}.")
        detector = DETECTORS[backend](model_folder)
        if detector is None:
            raise UserError(
                f"The face detector {backend} is not available.{why(_named(backend))} To use it, {how_to_get_detector(backend)} Or "
                "choose auto."
            )
        return detector
    present = (build(model_folder) for build in DETECTORS.values())
    detector = next((detector for detector in present if detector is not None), None)
    if detector is None:
        log.warning(
            "No face detector is installed, so no faces are found. To add one, %s", how_to_get_detector("mtcnn")
        )
    return detector


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


def detections_from_mesh(faces: Sequence[dict[str, Any]], size: Size) -> list[Detection]:
    """Detections from one frame of ComfyUI's FACE_LANDMARKS (MediaPipe's mesh of 468 points, or 478 with irises).

    size: (height, width) of the photograph. Raises UserError for a face that does not lie in it.
    """
    return [_from_mesh(face, size, number) for number, face in enumerate(faces)]


def make_face(photo: Tensor, detection: Detection, size: int = 512) -> Face:
    """The aligned Face of a detection in ``[3, H, W]``; see ``align.crop_face``."""
    crop, valid, similarity = crop_face(photo, detection.landmarks, size)
    return Face(detection.box, detection.landmarks, detection.score, similarity, crop, valid)


def _scan_scaled(detector: Detector, photo: Tensor, threshold: float, factor: float) -> list[Detection]:
    """Detections of the resized photograph, in the photograph's own pixels."""
    scaled = F.interpolate(
        photo[None], scale_factor=factor, mode="bilinear", antialias=factor < 1, recompute_scale_factor=False
    )[0]
    back = enlargement(1 / factor, 1 / factor)[:2]
    return [face.placed(back) for face in detector.scan(scaled, threshold)]


def _checked_box(box: dict[str, Any], size: Size, number: int) -> Box:
    """The part of a box that lies in the photograph."""
    try:
        x, y, width, height = (float(box[key]) for key in ("x", "y", "width", "height"))
    except (TypeError, ValueError, LookupError, OverflowError) as error:
        raise UserError(f"Box {number} is not a box. A box has the numbers x, y, width and height.") from error
    x0, y0, x1, y1 = max(x, 0.0), max(y, 0.0), min(x + width, size[1]), min(y + height, size[0])
    if not (x1 - x0 > 0 and y1 - y0 > 0):  # also for NaN
        raise UserError(
            f"Box {number} (x {x:g}, y {y:g}, width {width:g}, height {height:g}) is outside the {size[1]} x {size[0]} "
            "photograph. Draw it around a face."
        )
    return x0, y0, x1, y1


def _detect_in_box(photo: Tensor, box: Box, detector: Detector | None) -> Detection:
    corner, side = np.array(box[:2]), np.array([box[2] - box[0], box[3] - box[1]])
    if detector is not None:
        x0, y0, x1, y1 = face_region(box, 0.5, photo.shape[-2:])
        # The size at which detectors work best; a box of a pixel or two is not worth a larger picture.
        factor = SCANNED_BOX / max(*side, SMALLEST_FACE)
        # The user marked this face, so a weak response counts.
        threshold, shift = detector.threshold * 0.6, np.array([[1.0, 0, x0], [0, 1, y0]])

        def scan(region: Tensor) -> list[Detection]:
            return _scan_scaled(detector, region, threshold, factor)

        found = [face.placed(shift) for face in search(scan, [photo[:, y0:y1, x0:x1]], threshold, detector.sure)]
        best = max(found, key=lambda detection: overlap(detection.box, box), default=None)
        if best is not None and overlap(best.box, box) > 0.25:
            return best
    return Detection(box, corner + TYPICAL_LANDMARKS * side - 0.5, GUESSED_SCORE)


def _from_mesh(face: dict[str, Any], size: Size, number: int) -> Detection:
    try:
        points = np.asarray(face["landmarks_xy"], np.float64)[:, :2]
        x0, y0, x1, y1 = (float(side) for side in face["bbox_xyxy"])
        score = float(face["score"])
        if points.shape != (len(points), 2) or len(points) < 468 or not 0 <= score <= 1:
            raise ValueError("fewer than 468 points, or a score that is none")
    except (TypeError, ValueError, LookupError, OverflowError) as error:
        raise UserError(f"Face {number} of the landmarks is not one of core's MediaPipe node ({error}).") from error
    if len(points) >= 478:
        eyes = points[[468, 473]]
    else:
        eyes = np.stack([points[[33, 133]].mean(0), points[[362, 263]].mean(0)])
    landmarks = np.concatenate([eyes, points[[1, 61, 291]]])
    height, width = size
    # A face may reach beyond the photograph, but never by more than its size.
    if not (np.abs(landmarks - [width / 2, height / 2]) <= [1.5 * width, 1.5 * height]).all():
        raise UserError(
            f"The landmarks of face {number} do not lie in the {width} x {height} photograph. Connect those of this photograph."
        )
    box = {"x": x0, "y": y0, "width": x1 - x0, "height": y1 - y0}
    return Detection(_checked_box(box, size, number), landmarks, score)


def to_uint8(picture: Tensor) -> np.ndarray:
    """``[3, H, W]`` in 0..1 to uint8 ``[H, W, 3]``, the layout of foreign libraries."""
    return (picture.clamp(0, 1) * 255).round().byte().permute(1, 2, 0).contiguous().cpu().numpy()


def _mtcnn(model_folder: Folders) -> Detector | None:
    folder = mtcnn.weight_folder()
    files = [] if folder is None else [folder / f"{name}.pt" for name in mtcnn.SHA256]
    networks = None if folder is None else attempt(_named("mtcnn"), partial(mtcnn.load_mtcnn, folder), *files)
    if networks is None:
        return None

    def scan(photo: Tensor, threshold: float, least: float = 0.0) -> list[Detection]:
        # In a large photograph, the smallest faces are irrelevant, and they determine the time of the scan.
        min_face = max(20.0, min(photo.shape[-2:]) / 100)
        least *= min(photo.shape[-2:])
        boxes, landmarks, scores = mtcnn.detect(photo.cpu(), networks, min_face, threshold, least)
        found = zip(boxes.tolist(), landmarks.double().numpy(), scores.tolist(), strict=True)
        return [Detection(tuple(box), points, score) for box, points, score in found]

    return Detector("mtcnn", 0.85, scan, sure=0.995, large=partial(scan, least=LARGE_FACE))


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

    network = get_model(str(path))
    network.prepare(0, det_thresh=0.5)
    network.detect(np.zeros((64, 64, 3), np.uint8), input_size=(128, 128))  # what is broken shows when it runs
    return network


def _scrfd(model_folder: Folders) -> Detector | None:
    path = scrfd_file(model_folder)
    if path is None or importlib.util.find_spec("insightface") is None:
        return None
    network = attempt(_named("insightface"), partial(_load_scrfd, path), path)
    if network is None:
        return None

    def scan(photo: Tensor, threshold: float) -> list[Detection]:
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

    detector, predictor = dlib.get_frontal_face_detector(), dlib.shape_predictor(str(path))
    predictor(np.zeros((64, 64, 3), np.uint8), dlib.rectangle(8, 8, 56, 56))  # what is broken shows when it runs
    return detector, predictor


def _dlib(model_folder: Folders) -> Detector | None:
    path = dlib_file("shape_predictor_68_face_landmarks.dat")
    networks = None if path is None else attempt(_named("dlib"), partial(_load_dlib, path), path)
    if networks is None:
        return None
    detector, predictor = networks

    def scan(photo: Tensor, threshold: float) -> list[Detection]:
        picture = to_uint8(photo)
        # dlib's margin has no end; the logistic function brings it into 0..1 with the usual threshold at .5.
        share = min(max(threshold, 1e-6), 1 - 1e-6)
        rectangles, margins, _ = detector.run(picture, 0, math.log(share / (1 - share)))
        found = []
        for rectangle, margin in zip(rectangles, margins, strict=True):
            points = np.array([(point.x, point.y) for point in predictor(picture, rectangle).parts()], np.float64)
            left, top, right, bottom = rectangle.left(), rectangle.top(), rectangle.right(), rectangle.bottom()
            score = float(1 / (1 + np.exp(-margin)))
            found.append(Detection((float(left), float(top), right + 1.0, bottom + 1.0), five_of_68(points), score))
        return found

    # Of 91 photographs, turned in three ways, none reaches .64; 76 % of those that show a face do as they stand.
    return Detector("dlib", 0.5, scan, sure=0.7)


def five_of_68(points: np.ndarray) -> np.ndarray:
    """dlib's 68 points ``[68, 2]`` reduced to the five of the template ``[5, 2]``."""
    return np.stack([points[36:42].mean(0), points[42:48].mean(0), points[30], points[48], points[54]])


DETECTORS: dict[str, Callable[[Folders], Detector | None]] = {"insightface": _scrfd, "mtcnn": _mtcnn, "dlib": _dlib}


def _named(backend: str) -> str:
    return f"The face detector {backend}"


def how_to_get_detector(backend: str) -> str:
    """What a detector needs that is missing, as the end of a sentence."""
    return {
        "insightface": f"run {command('insightface')} and put its SCRFD model (det_*.onnx) into the models folder.",
        "mtcnn": 'run pip install --no-deps "facenet-pytorch>=2.5,<2.6", which contains its weights.',
        "dlib": f"run {command('identity')}.",
    }[backend]
