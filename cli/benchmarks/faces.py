"""Known faces under synthetic damage: ``python run.py bench faces --photos ALBUM``, a folder with one subfolder per person.

Every picture is damaged in turn and restored with the others of its person as the album: by the general restorer alone
(blind), and as the workflow ``perfuse`` does it. Compared are the faces; what became worse is in the table, too, and so is how
sure each match was, and whom the descriptor that needs no network would have proposed.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from ...lib.degradation.families import FAMILIES
from ...lib.faces.align import crop_face
from ...lib.faces.detect import detect_faces, make_face, merge, reading_order
from ...lib.faces.embed import Embedder, best_embedder, by_name
from ...lib.faces.library import load_library, main_face
from ...lib.faces.match import match_faces
from ...lib.fusion.compose import compose_faces
from ...lib.pictures.files import is_picture, read_picture
from ...lib.pictures.metrics import psnr, ssim
from ...lib.restoring.apply import restore_faces, restore_scene
from ...lib.samples import shrink
from ...lib.vocabulary import Conditions, Face, Faces, Library, UserError
from ...models.embedded import ready as embedded
from ...models.embedded.reference_restorer import ReferenceRestorer
from .quality import keep

METHODS = ("damaged", "blind", "personal")
DAMAGE = ("trial", "s3diff_x4", "pfstorer_heavy")
MISSED, NOBODY = "-", "nobody"


@dataclass(frozen=True)
class Row:
    """One picture under one damage. person: who it is; found: who the face was taken for, or ``NOBODY``, or ``MISSED``.

    confidence, doubt: what is said about that, see ``Face``; proposed: as found, without any embedding network.
    scores: PSNR in dB, SSIM and mean distance to the album, for each method; the distance is 1 less the similarity of the
    embedding in use.
    """

    person: str
    file: str
    family: str
    found: str
    confidence: float
    doubt: str
    proposed: str
    scores: dict[str, tuple[float, float, float]]

    @property
    def worse(self) -> list[str]:
        """What the personal restoration did not improve, against the damaged picture or the blind restoration."""
        values = np.array([self.scores[method] for method in METHODS]) * [1, 1, -1]
        names = ("PSNR", "SSIM", "distance")
        return [
            f"{name} than {method}"
            for method, row in zip(METHODS, values[:2], strict=False)
            for name, before, after in zip(names, row, values[2], strict=True)
            if not after > before
        ]


def bench(album: Path, side: int, families: tuple[str, ...] = DAMAGE) -> dict:
    """Every picture of every person with at least two, at most ``side`` pixels long. Raises UserError if there is none."""
    embedder, proposer = best_embedder(), by_name("classical")
    library, guessed = load_library(album, embedder), load_library(album, proposer)
    jobs = [
        (person.name, path)
        for person in library.people
        if len(person.references) > 1
        for path in sorted((album / person.name).rglob("*"))
        if is_picture(path)
    ]
    if not jobs:
        raise UserError(
            f"--photos {album}: provide a folder with one subfolder per person, each with at least two pictures."
        )
    rows = []
    for seed, (person, path) in enumerate(tqdm(jobs, desc="restoring")):
        truth = shrink(read_picture(path)[None], side)
        known = [(without(one, person, path.name), by) for one, by in ((library, embedder), (guessed, proposer))]
        rows += [measure(person, path.name, truth, *known, family, seed) for family in families]
    rows = [row for row in rows if row is not None]
    return {
        "embedding": embedder.name,
        "rows": [vars(row) | {"worse": row.worse} for row in rows],
        "families": {family: summary([row for row in rows if row.family == family]) for family in families},
    }


def without(library: Library, person: str, file: str) -> Library:
    """The library without one picture of a person."""
    people = tuple(
        replace(one, references=tuple(r for r in one.references if one.name != person or r.name != file))
        for one in library.people
    )
    return replace(library, people=people)


def measure(
    person: str,
    file: str,
    truth: torch.Tensor,
    known: tuple[Library, Embedder],
    guessed: tuple[Library, Embedder],
    family: str,
    seed: int,
) -> Row | None:
    """None if even the undamaged picture ``[1, 3, H, W]`` shows no face. known, guessed: the albums without this picture."""
    library, embedder = known
    seen = detect_faces(truth[0])
    if not seen:
        return None
    face = main_face(seen, truth.shape[-2:])
    damaged = FAMILIES[family](seed).apply(truth)
    blind, faces = restore_blindly(damaged)
    matched, proposed = (match_faces(faces, *one) for one in (known, guessed))
    personal = compose_faces(blind, restore_faces(damaged, matched, ReferenceRestorer(), library))[0]
    x0, y0, x1, y1 = (max(round(value), 0) for value in face.box)
    album = np.stack([reference.embedding for reference in library.get(person).references])

    def score(picture: torch.Tensor) -> tuple[float, float, float]:
        cut = [one[..., y0:y1, x0:x1] for one in (picture, truth)]
        embedding = embedder.embed(crop_face(picture[0], face.landmarks)[0])[None]
        return psnr(*cut), ssim(*cut), 1 - float(embedder.similarity(embedding, album).mean())

    scores = {name: score(one) for name, one in zip(METHODS, (damaged, blind, personal), strict=True)}
    one, other = (face_in(face.box, found) for found in (matched, proposed))
    return Row(
        person,
        file,
        family,
        taken_for(one),
        one.confidence if one else 0.0,
        one.doubt if one else "",
        taken_for(other),
        scores,
    )


def restore_blindly(damaged: torch.Tensor) -> tuple[torch.Tensor, Faces]:
    """The blind restoration of ``[1, 3, H, W]``, and the faces found in either, blindly restored."""
    general = embedded.restorer(keep)
    blind = restore_scene(damaged, general, Conditions())
    found = reading_order(merge(detect_faces(damaged[0]) + detect_faces(blind[0])))
    faces = Faces((tuple(make_face(damaged[0], one) for one in found),), damaged.shape[-2:])
    return blind, restore_faces(damaged, faces, general, Library())


def face_in(box: tuple[float, ...], faces: Faces) -> Face | None:
    """The first face whose box holds the middle of another box."""
    x, y = (box[0] + box[2]) / 2, (box[1] + box[3]) / 2
    inside = (face for face in faces.frames[0] if face.box[0] < x < face.box[2] and face.box[1] < y < face.box[3])
    return next(inside, None)


def taken_for(face: Face | None) -> str:
    return MISSED if face is None else face.person or NOBODY


def summary(rows: list[Row]) -> dict:
    """Means per method, how many faces were found and known, and how many improved in everything."""
    right, wrong = (
        [row for row in rows if row.found not in (MISSED, NOBODY) and (row.found == row.person) == good]
        for good in (True, False)
    )
    means = {m: np.mean([row.scores[m] for row in rows], axis=0).round(4).tolist() for m in METHODS}
    return {
        "faces": len(rows),
        "found": sum(row.found != MISSED for row in rows),
        "known": len(right),
        "known_in_doubt": sum(bool(row.doubt) for row in right),
        "mistaken": len(wrong),
        "mistaken_in_doubt": sum(bool(row.doubt) for row in wrong),
        "proposed_rightly": sum(row.proposed == row.person for row in rows),
        "proposed_wrongly": sum(row.proposed not in (MISSED, NOBODY, row.person) for row in rows),
        "means": means,
        "better_than_damaged": _better(rows, "damaged"),
        "better_than_blind": _better(rows, "blind"),
    }


def _better(rows: list[Row], method: str) -> dict[str, int]:
    return {
        name: sum(f"{name} than {method}" not in row.worse for row in rows) for name in ("PSNR", "SSIM", "distance")
    }


def table(figures: dict) -> str:
    """The human-readable table: a line per face, then the means."""
    lines = [
        f"{'face':34}{'damage':16}{'taken for':14}{'sure':>5}  {'proposed':14}{'PSNR':>18}{'SSIM':>18}{'distance':>18} "
        " worse"
    ]

    def numbers(scores: dict) -> str:
        columns = [[scores[method][column] for method in METHODS] for column in range(3)]
        return "".join(
            "  " + "".join(f"{v:{5 if column else 6}.{2 if column else 1}f}" for v in values).rjust(16)
            for column, values in enumerate(columns)
        )

    for row in figures["rows"]:
        who = f"{row['found']:14.13}{row['confidence']:5.2f}  {row['proposed']:14.13}"
        notes = [*row["worse"], *filter(None, [row["doubt"]])]
        face = f"{row['person']}/{row['file']}"
        lines.append(f"{face:34.33}{row['family']:16}{who}{numbers(row['scores'])}  {', '.join(notes)}")
    for family, one in figures["families"].items():
        lines.append(f"{'mean':34}{family:16}{'':35}{numbers(one['means'])}")
        known = f"{one['known']} known ({one['known_in_doubt']} in doubt)"
        mistaken = f"{one['mistaken']} mistaken ({one['mistaken_in_doubt']} in doubt)"
        lines.append(f"{'':50}of {one['faces']} faces {one['found']} found, {known}, {mistaken}")
        right, wrong = one["proposed_rightly"], one["proposed_wrongly"]
        lines.append(f"{'':50}proposed without an embedding network: {right} rightly, {wrong} wrongly")
        for method in METHODS[:2]:
            better = ", ".join(f"{name} {count}" for name, count in one[f"better_than_{method}"].items())
            lines.append(f"{'':50}better than {method}: {better} of {one['faces']}")
    return "\n".join([*lines, f"Three numbers each: damaged, blind, personal. Distances: {figures['embedding']}."])
