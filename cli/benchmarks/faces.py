"""Known faces under synthetic damage: ``python run.py bench faces --photos ALBUM``, a folder with one subfolder per person.

Every picture in turn is shrunk to each face width, damaged, and restored with the others of its person as the album. Everything is
estimated: the face is detected on the damaged picture and its blind restoration, and the damage is read from the face
pair. Only the undamaged picture's own face box and landmarks are used to measure. A face that is not detected counts with
the scene restoration as its result.

The families codeformer, diffbir, dual_pivot and faceme are meant for aligned crops of 512 px; their lengths are scaled to the size of
the face. ``--pairs`` measures portraits of Congress against headshots of other years; for evaluation only.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from ...lib.degradation.families import FAMILIES
from ...lib.faces.align import crop_face
from ...lib.faces.embed import Embedder, by_name
from ...lib.faces.library import album_fingerprint, load_library
from ...lib.faces.match import match_faces
from ...lib.pictures.files import pictures_below, read_picture
from ...lib.pictures.metrics import psnr, ssim
from ...lib.vocabulary import Library, UserError
from ...models.album import face_mesh
from ...models.album import ready as album_weights
from ...models.embedded import weights as embedded_weights
from ...training.album import test_pairs
from . import faces_methods as methods_of
from . import faces_pictures as sheets
from .faces_cases import Case, at_width, make_case, recipe_of, subject_of
from .faces_figures import MISSED, NOBODY, Row, faces_summary, main_method, table, worst

__all__ = ["Row", "bench", "table"]

SIZES = (24, 48, 96, 192)
DAMAGE = ("trial", "codeformer", "diffbir", "s3diff_x4")
# PSNR of equal pictures: 100 dB.
EPSILON = 1e-10
GOLDEN = 0.618


@dataclass(frozen=True)
class Target:
    """A picture to be damaged. set: "people" or "pairs"."""

    set: str
    person: str
    path: Path


@dataclass(frozen=True)
class Job:
    target: Target
    size: int
    family: str
    draw: int

    @property
    def row(self) -> Row:
        """Without figures."""
        return Row(self.target.set, self.target.person, self.target.path.name, self.size, self.family, self.draw)

    @property
    def seed(self) -> int:
        """The same whatever else is computed."""
        return zlib.crc32(repr(self.row.key).encode()) >> 1


@dataclass(frozen=True)
class Known:
    """The people of a set, in dlib's space and in that of the descriptor that needs no network."""

    library: Library
    proposed: Library


def bench(
    photos: Path | None,
    target: Path,
    *,
    sizes: tuple[int, ...] = SIZES,
    families: tuple[str, ...] = DAMAGE,
    methods: tuple[str, ...] = (),
    draws: int = 1,
    most: int = 0,
    pairs: tuple[Path, ...] = (),
) -> dict:
    """All figures; writes ``rows.jsonl`` while it runs, then ``figures.json``, ``grid.png`` and ``worst.png`` into ``target``.

    methods: the usual ones by default; most: faces per set, sampled evenly, 0 for all. pairs: a JSON of pairs, or the
    folders of Congress, us-senate and us-house. Rows that an earlier run with the same weights, album restorer and albums wrote are
    not computed again. Raises UserError if there is nothing to measure.
    """
    methods = methods or methods_of.available()
    check_options(sizes, families, methods, draws, most)
    embedder = by_name("dlib")
    target.mkdir(parents=True, exist_ok=True)
    rows: list[Row] = []
    left_out: dict[str, int] = {}
    for jobs, known, stamp in sets(photos, pairs, target, embedder, (sizes, families, draws, most)):
        rows += run_jobs(jobs, known, methods, embedder, target, stamp, left_out)
    if not rows:
        raise UserError("bench faces: no face could be measured. Provide larger pictures, or smaller --sizes.")
    worst_rows = worst(rows)
    figures = {
        "faces": len(rows),
        "methods": {name: methods_of.METHODS[name] for name in methods},
        "left_out": left_out,
        "cells": faces_summary(rows),
        "worst": [described(row) for row in worst_rows],
        "pictures": sheets.write_sheets(target, rows, worst_rows),
    }
    (target / "figures.json").write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")
    return figures


def check_options(sizes: Sequence[int], families: Sequence[str], methods: Sequence[str], draws: int, most: int) -> None:
    """Raises UserError for options that make no sense."""
    if draws < 1 or most < 0 or not sizes or min(sizes) < 8:
        raise UserError("--draws must be at least 1, --most at least 0, and --sizes at least 8 pixels each.")
    for family in families:
        if family not in FAMILIES:
            raise UserError(f"--families: there is no family {family!r}. Choose from {', '.join(FAMILIES)}.")
    methods_of.check_methods(tuple(methods))


def sets(
    photos: Path | None, pairs: tuple[Path, ...], target: Path, embedder: Embedder, wanted: tuple
) -> Iterator[tuple[list[Job], Known, str]]:
    """The jobs of each set with its people, and a text that changes with the weights and the albums."""
    if photos is None and not pairs:
        raise UserError("bench faces: provide --photos, a folder with one subfolder per person, or --pairs.")
    if photos is not None:
        targets = pictures_of(photos)
        library = load_library(photos, embedder)
        yield plan(targets, *wanted), known_as(library), f"{weights_stamp()} {album_fingerprint(photos)}"
    if pairs:
        chosen = pairs_of(pairs, target)
        jobs = plan([Target("pairs", pair.id, pair.headshot) for pair in chosen], *wanted)
        needed = {job.target.person for job in jobs}
        portraits = {pair.id: read_picture(pair.congress) for pair in chosen if pair.id in needed}
        library = methods_of.single_albums(portraits, embedder)
        yield jobs, known_as(library), f"{weights_stamp()} pairs"


def pictures_of(album: Path) -> list[Target]:
    """Every picture of every person with at least two. Raises UserError if there is none."""
    folders = [one for one in sorted(album.iterdir()) if one.is_dir()] if album.is_dir() else []
    people = {one.name: pictures_below(one) for one in folders}
    found = [Target("people", name, path) for name, paths in people.items() if len(paths) > 1 for path in paths]
    if not found:
        raise UserError(
            f"--photos {album}: provide a folder with one subfolder per person, each with at least two pictures."
        )
    return found


def in_turn(photos: Path) -> list[Target]:
    """Every picture of ``pictures_of``: the first of everybody, then the second of everybody, and so on."""
    people: dict[str, list[Target]] = {}
    for one in pictures_of(photos):
        people.setdefault(one.person, []).append(one)
    return [one for turn in itertools.zip_longest(*people.values()) for one in turn if one]


def pairs_of(given: tuple[Path, ...], target: Path) -> list[test_pairs.Pair]:
    """Pairs that are not the same shot, from a JSON or from the three folders; those are compared once, which takes minutes."""
    if len(given) not in (1, 3):
        raise UserError("--pairs: provide one JSON of pairs, or three folders: CONGRESS SENATE HOUSE.")
    file = given[0] if len(given) == 1 else target / "pairs.json"
    if len(given) == 3 and not file.is_file():
        found = test_pairs.measured(test_pairs.joined_people(*given))
        texts = [asdict(pair) | {"congress": str(pair.congress), "headshot": str(pair.headshot)} for pair in found]
        file.write_text(json.dumps(texts, indent=1) + "\n", encoding="utf-8")
    try:
        data = json.loads(file.read_text(encoding="utf-8"))
        read = [test_pairs.Pair(p["id"], Path(p["congress"]), Path(p["headshot"]), p["correlation"]) for p in data]
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise UserError(f"--pairs {file}: not a list of pairs that can be read. Write it again.") from error
    chosen = [pair for pair in test_pairs.different(read) if pair.congress.is_file() and pair.headshot.is_file()]
    if not chosen:
        raise UserError(f"--pairs {file}: there is no pair whose two pictures differ and are on this computer.")
    return chosen


def plan(
    targets: Sequence[Target], sizes: Sequence[int], families: Sequence[str], draws: int = 1, most: int = 0
) -> list[Job]:
    """All combinations, picture by picture; or ``most`` of them, spread evenly over sizes, families and pictures and shuffled, so
    that a run that is stopped early has measured a fair sample."""
    cells = list(itertools.product(sizes, families))
    items = [(target, draw) for draw in range(draws) for target in targets]
    if not most or most >= len(cells) * len(items):
        return [Job(target, *cell, draw) for target, draw in items for cell in cells]
    rng = np.random.default_rng(0)
    jobs = []
    for number, cell in enumerate(rng.permutation(len(cells))):
        count = most // len(cells) + (number < most % len(cells))
        start = number * GOLDEN % 1
        for step in range(count):
            target, draw = items[int((step + start) * len(items) / count) % len(items)]
            jobs.append(Job(target, *cells[cell], draw))
    return [jobs[number] for number in rng.permutation(len(jobs))]


def known_as(library: Library) -> Known:
    return Known(library, methods_of.proposing(library, by_name("classical")))


def weights_stamp() -> str:
    """Changes when a file of weights that takes part does, or the code of the album restorer."""
    files = [embedded_weights.RESTORER, embedded_weights.EXTRACTOR, face_mesh.WEIGHTS, album_weights.WEIGHTS]
    files += sorted(Path(face_mesh.__file__).parent.glob("*.py"))
    digest = hashlib.sha256()
    for path in map(Path, files):
        digest.update(path.read_bytes() if path.is_file() else b"-")
    return digest.hexdigest()[:12]


def run_jobs(
    jobs: Sequence[Job],
    known: Known,
    methods: tuple[str, ...],
    embedder: Embedder,
    target: Path,
    stamp: str,
    left_out: dict[str, int],
) -> list[Row]:
    """The rows of the jobs in order, from disk where they are complete; left_out counts the others by reason."""
    done = read_rows(target / "rows.jsonl", stamp)
    rows = []
    for job in tqdm(jobs, desc="restoring"):
        row = done.get(job.row.key)
        if row is None or not set(methods) <= set(row.asked):
            row = measure_job(job, known, methods, embedder, target)
            if isinstance(row, str):
                left_out[row] = left_out.get(row, 0) + 1
                continue
            with (target / "rows.jsonl").open("a", encoding="utf-8") as file:
                file.write(json.dumps({"stamp": stamp} | asdict(row)) + "\n")
        rows.append(row)
    return rows


def read_rows(file: Path, stamp: str) -> dict[tuple, Row]:
    """What an earlier run wrote, by ``Row.key``; a line that was cut short is ignored."""
    rows = {}
    names = {field.name for field in fields(Row)}
    for line in file.read_text(encoding="utf-8").splitlines() if file.is_file() else ():
        try:
            data = json.loads(line)
            if data.pop("stamp") != stamp or data.keys() != names:
                continue
            row = Row(**data | {name: tuple(data[name]) for name in ("asked", "tiles")})
        except (ValueError, TypeError, KeyError, AttributeError):
            continue
        rows[row.key] = row
    return rows


def measure_job(job: Job, known: Known, methods: tuple[str, ...], embedder: Embedder, target: Path) -> Row | str:
    """One row, or why there is none; writes the strip of pictures."""
    albums = methods_of.albums_for(known.library, job.target.person, job.target.path.name, job.seed)
    if albums is None:
        return "no other picture of the person can serve as the album"
    large = subject_of(job.target.path)
    if large is None:
        return "no face is found even in the undamaged picture"
    subject = at_width(large, job.size)
    if subject is None:
        return "the face is smaller than the stated width"
    case = make_case(subject, recipe_of(job.family, job.seed, subject.landmarks))
    results = {name: methods_of.apply(name, case, albums, embedder) for name in methods}
    results = {name: result for name, result in results.items() if result is not None}
    pictures = {name: result.picture for name, result in results.items()}
    row = replace(
        who(job, case, known, albums, embedder),
        scores=scored(case, pictures, methods_of.reference_embeddings(albums.person), embedder),
        refused={name: one.refused for name, one in results.items() if one.refused is not None},
        wrong=albums.wrong.name if albums.wrong else "",
        lookalike=albums.lookalike.name if albums.lookalike else "",
        asked=methods,
        tiles=(*pictures, "truth", "album"),
    )
    shown = pictures | {"truth": case.truth}
    sheets.save_strip(target, row, shown, subject.landmarks, albums.person.references[0].crop)
    return row


def who(job: Job, case: Case, known: Known, albums: methods_of.Albums, embedder: Embedder) -> Row:
    """The row with who the face was taken for among all people."""
    if case.index is None:
        return job.row
    proposals = methods_of.without(known.proposed, job.target.person, job.target.path.name)
    matched, proposed = (
        match_faces(case.faces, people, by).frames[0][case.index]
        for people, by in ((albums.everybody, embedder), (proposals, by_name("classical")))
    )
    return replace(
        job.row,
        found=matched.person or NOBODY,
        confidence=round(matched.confidence, 4),
        doubt=matched.doubt,
        proposed=proposed.person or NOBODY if proposed else MISSED,
        coded=case.code is not None,
    )


def scored(
    case: Case, pictures: dict[str, torch.Tensor], album: np.ndarray, embedder: Embedder
) -> dict[str, dict[str, float]]:
    """See ``Row.scores``; inside the face's box in the undamaged picture, distances with its landmarks. album: ``[R, D]``."""
    undamaged = case.truth
    height, width = undamaged.shape[-2:]
    x0, y0, x1, y1 = (round(side) for side in case.subject.box)
    window = slice(max(y0, 0), min(y1, height)), slice(max(x0, 0), min(x1, width))
    cut = lambda picture: picture[..., window[0], window[1]]  # noqa: E731
    looks: dict[int, np.ndarray] = {}

    def look(picture: torch.Tensor) -> np.ndarray:
        """``[1, D]``; methods that change nothing return the same picture."""
        if id(picture) not in looks:
            looks[id(picture)] = embedder.embed(crop_face(picture[0], case.subject.landmarks)[0])[None]
        return looks[id(picture)]

    truth, damaged = look(undamaged), look(case.damaged)
    scores = {}
    for name, picture in pictures.items():
        own = look(picture)
        values = {
            "psnr": psnr(cut(picture), cut(undamaged), epsilon=EPSILON),
            "ssim": ssim(cut(picture), cut(undamaged)),
            "truth": methods_of.distances(own, truth).mean(),
            "album": methods_of.distances(own, album).mean(),
            "kept": psnr(cut(picture), cut(case.damaged), epsilon=EPSILON),
            "moved": methods_of.distances(own, damaged).mean(),
        }
        scores[name] = {measure: round(float(value), 5) for measure, value in values.items()}
    return scores


def described(row: Row) -> dict:
    """One of the worst faces for the table and the JSON."""
    name = main_method([row])
    return {
        "face": f"{row.person}/{row.file} {row.size} px {row.family}",
        "method": name,
        "before": row.scores["scene"]["truth"],
        "after": row.scores[name]["truth"],
        "worse": ", ".join(filter(None, [*row.worse(name), row.doubt])),
    }
