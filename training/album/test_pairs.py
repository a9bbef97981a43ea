"""Pairs for the test across years: a portrait of Congress and a headshot of the same person from another day.

``Hainish/congress-images-225x275`` names its files by Bioguide id; ``CivilServiceUSA/us-senate`` and ``us-house`` list the
ids of their 1024 px headshots. The headshots serve evaluation only. Where both are the same shot, the pair is dropped.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from ...lib.faces.align import crop_face
from ...lib.pictures.color import luma_of
from . import photographs

COMPARED = 128  # px: side of the crops that are compared
SAME_SHOT = 0.8
# The headshots show another man of the same name.
TWO_PEOPLE = {"R000575"}
STEPS = 60  # of the registration
LOCAL = 6.0  # px: sigma of the window of the local contrast


@dataclass(frozen=True)
class Pair:
    """id: Bioguide; congress, headshot: files; correlation: of the aligned faces, None where a face was not found."""

    id: str
    congress: Path
    headshot: Path
    correlation: float | None = None


def joined_people(congress: Path, senate: Path, house: Path) -> list[Pair]:
    """Everyone who is in ``congress`` (folder of portraits) and in one of the two repositories, by id."""
    pairs = {}
    for repository, name in ((senate, "us-senate"), (house, "us-house")):
        headshots = repository / name / "images" / "headshots" / "1024x1024"
        for person in json.loads((repository / name / "data" / f"{name}.json").read_text(encoding="utf-8")):
            files = congress / f"{person['bioguide']}.jpg", headshots / f"{person['name_slug']}.jpg"
            if person["bioguide"] not in TWO_PEOPLE and person["bioguide"] and all(file.is_file() for file in files):
                pairs[person["bioguide"]] = Pair(person["bioguide"], *files)
    return [pairs[key] for key in sorted(pairs)]


def measured(pairs: Sequence[Pair]) -> list[Pair]:
    """The same pairs with the correlation of their aligned faces."""
    result = []
    for pair in pairs:
        faces = [_compared(path) for path in (pair.congress, pair.headshot)]
        correlation = None if faces[0] is None or faces[1] is None else face_correlation(*faces)
        result.append(Pair(pair.id, pair.congress, pair.headshot, correlation))
    return result


def different(pairs: Sequence[Pair], limit: float = SAME_SHOT) -> list[Pair]:
    """Measured pairs that are not the same shot: correlation below ``limit``."""
    return [pair for pair in pairs if pair.correlation is not None and pair.correlation < limit]


def face_correlation(first: np.ndarray, second: np.ndarray) -> float:
    """Normalized cross-correlation, -1..1, of two aligned lumas ``[S, S]`` in the template's oval.

    Both are first divided by their local contrast, so that neither the light nor the tone of a print decides, and
    smoothed by 1 px, because they come from different resolutions. The second is brought onto the first by the affine map
    with the highest correlation (Evangelidis and Psarakis 2008): landmarks alone leave the same shot at .6 to .8.
    """
    first, second = (_local_contrast(luma) for luma in (first, second))
    weight = oval(len(first))
    best = _weighted_correlation(first, second, weight)
    matrix = np.eye(2, 3, dtype=np.float32)
    stop = (cv2.TERM_CRITERIA_EPS | cv2.TERM_CRITERIA_COUNT, STEPS, 1e-5)
    mask = (weight * 255).astype(np.uint8)
    try:
        cv2.findTransformECC(first, second, matrix, cv2.MOTION_AFFINE, stop, mask, 5)
    except cv2.error:  # nothing in common to climb on
        return best
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    moved = cv2.warpAffine(second, matrix, first.shape[::-1], flags=flags, borderMode=cv2.BORDER_REPLICATE)
    return max(best, _weighted_correlation(first, moved, weight))


def oval(size: int) -> np.ndarray:
    """``[S, S]``, 1 in the oval of a face on the five-point template (brows to chin, cheek to cheek), else 0."""
    y, x = np.mgrid[:size, :size] / size
    return (((x - 0.5) / 0.24) ** 2 + ((y - 0.6) / 0.31) ** 2 < 1).astype(np.float32)


def _local_contrast(luma: np.ndarray) -> np.ndarray:
    smooth = cv2.GaussianBlur(luma.astype(np.float32), (0, 0), 1)
    difference = smooth - cv2.GaussianBlur(smooth, (0, 0), LOCAL)
    return difference / np.sqrt(cv2.GaussianBlur(difference**2, (0, 0), LOCAL) + 1e-4)


def _weighted_correlation(first: np.ndarray, second: np.ndarray, weight: np.ndarray) -> float:
    total = weight.sum()
    first, second = (values - (weight * values).sum() / total for values in (first, second))
    product = (weight * first * second).sum()
    return float(product / np.sqrt((weight * first**2).sum() * (weight * second**2).sum() + 1e-12))


def _compared(path: Path) -> np.ndarray | None:
    """The aligned luma ``[S, S]`` in 0..1 of a portrait's face, or None where it has not exactly one clear face."""
    picture = photographs.read_photograph(path)
    face = photographs.clear_face(picture)
    if face is None:
        return None
    crop, _, _ = crop_face(photographs.to_tensor(picture), face.landmarks, COMPARED)
    return luma_of(crop.numpy().transpose(1, 2, 0))
