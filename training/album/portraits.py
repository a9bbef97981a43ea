"""Portraits for the training of the learned gate: aligned crops of official photographs in the public domain.

Source: ``Hainish/congress-images-225x275``, works of the United States government, one file per Bioguide id. The people
whose second photograph is the test (``test_pairs``) stay out.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Collection
from pathlib import Path

import numpy as np
from tqdm import tqdm

from ...lib.faces.align import crop_face, moved
from . import photographs

log = logging.getLogger(__name__)

SIZE = 256


def usable(congress: Path, tested: Collection[str]) -> list[Path]:
    """The portraits of a folder, by name, without those of the Bioguide ids in ``tested``."""
    return [path for path in sorted(congress.glob("*.jpg")) if path.name[0] != "." and path.stem not in tested]


def prepare(congress: Path, out: Path, tested: Collection[str], size: int = SIZE) -> list[str]:
    """Aligns the portraits on the five-point template and keeps them in ``out``; what lies there is not made again.

    Per portrait ``<id>.jpg`` (``size`` px), and one ``points.npz``: ids ``[N]``, points ``[N, 5, 2]`` in the crop's pixels,
    eye_distance ``[N]`` in pixels of the source, score ``[N]``. Returns the ids. A picture without exactly one clear face
    is skipped, and named in ``skipped.json``.
    """
    out.mkdir(parents=True, exist_ok=True)
    rows, skipped = {}, []
    for path in tqdm(usable(congress, tested), desc="portraits", disable=None):
        row = _aligned(path, out / f"{path.stem}.jpg", size)
        if row is None:
            skipped.append(path.stem)
        else:
            rows[path.stem] = row
    columns = [np.array(column) for column in zip(*rows.values(), strict=True)] or [np.zeros(0)] * 3
    points, distance, score = columns
    photographs.write_arrays(
        out / "points.npz", ids=np.array(list(rows)), points=points, eye_distance=distance, score=score
    )
    (out / "skipped.json").write_text(json.dumps(skipped))
    log.info("%d portraits, %d without exactly one clear face.", len(rows), len(skipped))
    return list(rows)


def _aligned(source: Path, target: Path, size: int) -> tuple[np.ndarray, float, float] | None:
    """Writes one crop beside its facts: points in the crop ``[5, 2]``, eye distance in the source, score."""
    facts = target.with_suffix(".npz")
    if target.is_file() and facts.is_file():
        with np.load(facts) as kept:
            return kept["points"], float(kept["eye_distance"]), float(kept["score"])
    picture = photographs.read_photograph(source)
    face = photographs.clear_face(picture)
    if face is None:
        return None
    crop, _, similarity = crop_face(photographs.to_tensor(picture), face.landmarks, size)
    row = moved(face.landmarks, similarity.matrix), photographs.landmark_eye_distance(face.landmarks), face.score
    photographs.write_jpeg(target, photographs.to_bytes(crop))
    photographs.write_arrays(facts, points=row[0], eye_distance=np.array(row[1]), score=np.array(row[2]))
    return row
