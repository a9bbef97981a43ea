"""Edits that gave people other faces, and their own faces given back: ``python run.py bench keep --photos ALBUM``.

ALBUM has one subfolder per person. Every chosen picture is damaged; an editor is simulated on the undamaged picture, who draws somebody
else's face (``keep_edits.py``); the face is restored from the damaged picture and the person's other pictures, and put back. Nothing comes
from the truth but the measure: dlib's distance of the edit and of the result to the undamaged face. What the edit had added is its
distance less the damaged picture's.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from tqdm import tqdm

from ...lib.bridge import keep as kept_by_host
from ...lib.faces.align import crop_face
from ...lib.faces.detect import detect_faces
from ...lib.faces.embed import Embedder, by_name
from ...lib.faces.library import load_library
from ...lib.pictures.files import to_pil
from ...lib.restoring.apply import restore_faces
from ...lib.restoring.keep import keep_people
from ...lib.vocabulary import Face, Library, UserError
from ...models.album import ready as album
from .faces import in_turn
from .faces_cases import Case, Subject, at_width, lone_face, make_case, recipe_of, subject_of
from .faces_methods import distances, without
from .keep_edits import KINDS, other_crop, simulated

# Boxes of surroundings on every side: an edit is registered by what is around a face.
SURROUNDINGS = 2.0
FAMILY = "trial"
TILE = 160


@dataclass(frozen=True)
class Row:
    """One edit. Distances are dlib's to the undamaged face, NaN where there is none: of the damaged picture, of the edit with the true
    face, of the edit, of the result, and of the result when nobody knows the person. unchanged: every pixel outside is the edit's."""

    person: str
    file: str
    kind: str
    damaged: float
    plain: float
    edit: float
    known: float
    stranger: float
    reason: str
    unchanged: bool

    @property
    def picture(self) -> str:
        return f"{self.person}/{self.file}"

    @property
    def added(self) -> float:
        return self.edit - self.damaged


def bench(
    photos: Path, target: Path, *, most: int = 24, width: int = 96, kinds: tuple[str, ...] = tuple(KINDS)
) -> dict:
    """All figures; writes ``keep.json`` and ``keep.png`` into ``target``. most: faces, taken from all people in turn; width: of the face
    in the damaged picture, pixels. Raises UserError if there is nothing to measure."""
    unknown = [kind for kind in kinds if kind not in KINDS]
    if unknown or most < 1 or width < 16:
        raise UserError(f"--kinds are {', '.join(KINDS)}; --most is at least 1, and --width at least 16 pixels.")
    embedder = by_name("dlib")
    library = load_library(photos, embedder)
    rows: list[Row] = []
    tiles: list[torch.Tensor] = []
    missed = 0
    every = in_turn(photos)
    first = {one.person: one.path for one in reversed(every)}
    if len(first) < 2:
        raise UserError(
            f"--photos {photos}: provide pictures of at least two people, as the edits show another one's face."
        )
    for person, path in tqdm([(one.person, one.path) for one in every], desc="faces"):
        if len({row.picture for row in rows}) == most:
            break
        subject = subject_of(path, SURROUNDINGS)
        small = None if subject is None else at_width(subject, width)
        others = sorted(first.keys() - {person})
        other = subject_of(first[others[zlib.crc32(path.name.encode()) % len(others)]], SURROUNDINGS)
        if small is None or other is None:
            continue
        case, face = restored(small, path, person, library)
        if case is None or face is None:
            missed += 1
            continue
        for kind in kinds:
            row, shown = measured_edit(case, face, (person, path.name, kind), other_crop(other), embedder)
            rows.append(row)
            if kind == kinds[-1]:
                tiles.append(shown)
    if not rows:
        raise UserError("bench keep: no face could be measured. Provide larger pictures, or a smaller --width.")
    target.mkdir(parents=True, exist_ok=True)
    to_pil(torch.cat(tiles, 1)).save(target / "keep.png")
    figures = {
        "people": len({row.person for row in rows}),
        "faces": len(tiles),
        "not_found": missed,
        "kinds": {kind: summary_of_edits([row for row in rows if row.kind == kind]) for kind in kinds}
        | {"together": summary_of_edits(rows)},
        "rows": [asdict(row) for row in rows],
    }
    (target / "keep.json").write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")
    return figures


def restored(small: Subject, path: Path, person: str, library: Library) -> tuple[Case | None, Face | None]:
    """The damaged case, and its face restored from the person's other pictures; None where it was not found."""
    case = make_case(small, recipe_of(FAMILY, zlib.crc32(path.name.encode()) >> 1, small.landmarks))
    own = without(library, person, path.name).get(person)
    if case.face is None or own is None or not own.references:
        return None, None
    known = lone_face(replace(case.face, person=person, confidence=1.0), case.faces.size)
    done = restore_faces(case.damaged, known, album.restorer(kept_by_host), Library((own,), "dlib"), code=case.code)
    return case, done.frames[0][0]


def measured_edit(
    case: Case, face: Face, of: tuple[str, str, str], other: torch.Tensor, embedder: Embedder
) -> tuple[Row, torch.Tensor]:
    """One edit's row, and its tiles ``[3, h, w]``: truth, damaged, edit, result, result for a stranger."""
    person, file, kind = of
    edit = simulated(case.subject, other, kind, zlib.crc32(repr(of).encode()) >> 1)
    seen = detect_faces(edit.picture)
    scalars = case.code.scalars if case.code else None
    results = [
        keep_people(case.damaged[0], edit.picture, [one], seen, scalars=scalars)
        for one in (face, replace(case.face or face, person=None))
    ]
    looks = [(case.truth[0], case.subject.landmarks), (case.damaged[0], case.subject.landmarks)]
    looks += [(picture, edit.landmarks) for picture in (edit.plain, edit.picture, *(one.picture for one in results))]
    crops = [crop_face(picture, landmarks)[0] for picture, landmarks in looks]
    vectors = np.stack([embedder.embed(crop) for crop in crops])
    values = [round(float(value), 4) for value in distances(vectors[:1], vectors[1:])[0]]
    outside = F.max_pool2d(results[0].mask[None, None], 33, 1, 16)[0, 0] == 0
    unchanged = bool((results[0].picture == edit.picture)[:, outside].all())
    row = Row(person, file, kind, *values, results[0].people[0].reason, unchanged)
    small = F.interpolate(torch.stack([*crops[:2], *crops[3:]]), (TILE, TILE), mode="bicubic", antialias=True)
    return row, torch.cat(list(small.clamp(0, 1)), 2)


def summary_of_edits(rows: Sequence[Row]) -> dict[str, float]:
    """Means with standard errors over pictures, and the share of what the edit had added that was taken back."""
    result: dict[str, float] = {"edits": len(rows), "put_back": sum(not row.reason for row in rows)}
    result["unchanged_outside"] = sum(row.unchanged for row in rows)
    for name in ("damaged", "plain", "edit", "known", "stranger"):
        result[name], result[f"{name}_error"] = mean_of([(row.picture, getattr(row, name)) for row in rows])
    added = [(row.picture, row.added) for row in rows]
    for name in ("known", "stranger"):
        fell = [(row.picture, row.edit - getattr(row, name)) for row in rows]
        result[f"{name}_taken_back"] = sum(value for _, value in fell) / sum(value for _, value in added)
        # Of a ratio of means (delta method), a picture counting once however many edits it has.
        left = [
            (file, value - result[f"{name}_taken_back"] * more)
            for (file, value), (_, more) in zip(fell, added, strict=True)
        ]
        result[f"{name}_taken_back_error"] = mean_of(left)[1] / mean_of(added)[0]
    return {name: round(value, 4) for name, value in result.items()}


def mean_of(values: Sequence[tuple[str, float]]) -> tuple[float, float]:
    """The mean of (picture, value) and its standard error, each picture one sample."""
    by_picture: dict[str, list[float]] = {}
    for file, value in values:
        by_picture.setdefault(file, []).append(value)
    means = [float(np.mean(some)) for some in by_picture.values()]
    error = float(np.std(means, ddof=1) / np.sqrt(len(means))) if len(means) > 1 else float("nan")
    return float(np.mean([value for _, value in values])), error


def table(figures: dict) -> str:
    """dlib's distances to the undamaged face, and what share of what the edit had added was taken back."""
    lines = [
        f"{figures['faces']} faces of {figures['people']} people; {figures['not_found']} not found. dlib's distance to the undamaged face:",
        f"{'edit':10} {'put back':>9} {'damaged':>14} {'edit':>14} {'result':>14} {'taken back':>14} {'as a stranger':>14}",
    ]
    for kind, one in figures["kinds"].items():
        cells = [f"{one[name]:.3f} +-{one[f'{name}_error']:.3f}" for name in ("damaged", "edit", "known")]
        cells += [
            f"{one[f'{name}_taken_back']:.0%} +-{one[f'{name}_taken_back_error']:.0%}" for name in ("known", "stranger")
        ]
        lines.append(f"{kind:10} {one['put_back']:>4}/{one['edits']:<4} " + " ".join(f"{cell:>14}" for cell in cells))
    whole = figures["kinds"]["together"]
    lines.append(f"Bit for bit the edit outside of the faces: {whole['unchanged_outside']} of {whole['edits']}.")
    return "\n".join(lines)
