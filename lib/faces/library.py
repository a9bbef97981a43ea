"""Albums: load people with aligned references from a folder of good pictures."""

from __future__ import annotations

import hashlib
import os
import unicodedata
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
from torch import Tensor

from ..pictures.files import is_picture, pictures_below, read_picture, read_reduced
from ..vocabulary import Face, Library, Person, Reference, UserError
from .align import align, moved
from .detect import Folders, detect_portrait, make_face
from .detection import Detection, main_face
from .embed import Embedder
from .gate import fine_detail, objection, outliers

MOST_REFERENCES = 10
FEW_REFERENCES = 3
# Pixels that a JPEG keeps along its shorter side when fewer are read than it has, and along the crop of its main face.
REDUCED_SIDE, REDUCED_CROP = 1280, 768


def load_library(
    folder: str | Path,
    embedder: Embedder | None,
    model_folder: Folders = None,
    allowed: Callable[[Path], object] = Path.resolve,
) -> Library:
    """The people of an album folder: one subfolder per person, or just pictures of one person.

    Names are folder names. Unusable pictures are skipped and listed in the library's notes; an empty album gives an
    empty library. embedder: None leaves the references without embeddings. allowed: raises UserError for a picture that
    must not be read, because a link leads out of the album. Raises UserError if the folder does not exist.
    """
    folder = Path(folder).expanduser()
    if not folder.is_dir():
        raise UserError(
            f"There is no album folder {folder.name!r}. Enter the folder that contains the people's pictures."
        )
    notes: list[str] = []
    people = []
    for name, paths in _albums(folder, notes):
        person = _person(name, _read_album(name, paths, notes, allowed, model_folder), embedder, notes)
        if person is not None:
            people.append(person)
    if not people:
        notes.append("The album is empty. All faces are restored as strangers.")
    return Library(tuple(people), _space(embedder), tuple(notes))


def library_from_images(
    images: Iterable[Tensor], name: str, embedder: Embedder | None, model_folder: Folders = None
) -> Library:
    """A library of one person from pictures ``[3, H, W]`` in 0..1 that show them."""
    notes: list[str] = []
    pictures = ((f"image {number}", image, detect_portrait(image, model_folder)) for number, image in enumerate(images))
    person = _person(name, pictures, embedder, notes)
    return Library((person,) if person else (), _space(embedder), tuple(notes))


def merge_libraries(first: Library, second: Library) -> Library:
    """The people of both libraries; the references of a person in both are merged, keeping the ten most detailed.

    Raises UserError for two embedding spaces.
    """
    if first.people and second.people and first.embedder != second.embedder:
        raise UserError(
            f"One library was made with the identity embedding {first.embedder}, the other with {second.embedder}. "
            "Make both with the same one."
        )
    people = {person.name: person for person in first.people}
    # Notes about an empty library no longer apply.
    notes = [note for one in (first, second) if one.people or not (first.people or second.people) for note in one.notes]
    for person in second.people:
        known = people.get(person.name)
        if known:
            # Notes about few references no longer apply.
            outdated = {*_too_few(person.name, known.references), *_too_few(person.name, person.references)}
            notes = [note for note in notes if note not in outdated]
            person = replace(known, references=_best(person.name, known.references + person.references, notes))
            notes.extend(_too_few(person.name, person.references))
        people[person.name] = person
    space = first.embedder if first.people else second.embedder
    return Library(tuple(people.values()), space, tuple(notes))


def album_fingerprint(folder: str | Path) -> str:
    """A short text that changes with everything that `load_library` reads of an album: people, pictures, and what is in them.

    Reads names, sizes and times, never contents, through links as the reader does; a folder that does not exist has a fingerprint too.
    """
    folder = Path(folder).expanduser()
    digest = hashlib.sha256()
    for name, paths in _everything(folder) if folder.is_dir() else ():
        digest.update(os.fsencode(f"{name}\0\0"))
        for path in paths:
            digest.update(os.fsencode(f"{path.relative_to(folder).as_posix()}\0{_state(path)}\n"))
    return digest.hexdigest()[:16]


def _state(path: Path) -> tuple[int, ...]:
    try:
        status = path.stat()
    except OSError:  # it has just gone, or must not be looked at
        return ()
    # The last two tell a file that was replaced by one of the same size and time.
    return status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino


def _everything(folder: Path) -> Iterator[tuple[str, list[Path]]]:
    """Every subfolder's name with its pictures, and those beside the subfolders, under the folder's own name."""
    content = sorted(folder.iterdir())
    yield folder.resolve().name, [path for path in content if is_picture(path)]
    for sub in content:
        if sub.is_dir() and not sub.name.startswith("."):
            yield sub.name, pictures_below(sub)


def _albums(folder: Path, notes: list[str]) -> Iterator[tuple[str, list[Path]]]:
    """Every person's name with their pictures."""
    (own, loose), *subs = _everything(folder)
    albums = [(name, paths) for name, paths in subs if paths]
    if not albums:
        albums = [(own, loose)] if loose else []
    else:
        notes.extend(
            f"{path.name}: skipped, it is next to the people's folders instead of inside one." for path in loose
        )
    for name, paths in albums:
        # The same name is spelled in different code points by different file systems.
        yield unicodedata.normalize("NFC", name), paths


def _read_album(
    name: str, paths: Iterable[Path], notes: list[str], allowed: Callable[[Path], object], model_folder: Folders
) -> Iterator[tuple[str, Tensor, list[Detection]]]:
    """Every picture that can be read, and its faces."""
    for path in paths:
        try:
            allowed(path)
        except UserError:
            notes.append(f"{name}: skipped {path.name}, it is a link that leads out of the folders that may be read.")
            continue
        try:
            picture, found = _read_portrait(path, model_folder)
        except UserError as error:
            notes.append(f"{name}: skipped {error}")
        else:
            yield path.name, picture, found


def _read_portrait(path: Path, model_folder: Folders) -> tuple[Tensor, list[Detection]]:
    """A picture and its faces. A large one is read with fewer pixels, unless its main face then has too few of them."""
    picture, reduced = read_reduced(path, REDUCED_SIDE)
    found = detect_portrait(picture, model_folder)
    if reduced and not (found and _crop_side(main_face(found, picture.shape[-2:])) >= REDUCED_CROP):
        picture = read_picture(path)
        found = detect_portrait(picture, model_folder)
    return picture, found


def _crop_side(detection: Detection) -> float:
    """Of the aligned crop, in pixels of the picture."""
    similarity = align(detection.landmarks)
    return similarity.size / similarity.scale


def _person(
    name: str,
    pictures: Iterable[tuple[str, Tensor, list[Detection]]],
    embedder: Embedder | None,
    notes: list[str],
) -> Person | None:
    references = []
    for file, picture, found in pictures:
        if not found:
            notes.append(f"{name}: skipped {file}, no face was found in it.")
            continue
        if len(found) > 1:
            notes.append(f"{name}: {file} shows {len(found)} faces. The largest and most central one was used.")
        face = make_face(picture, main_face(found, picture.shape[-2:]))
        reason = objection(face)
        if reason is not None:
            notes.append(f"{name}: skipped {file}, {reason}")
            continue
        references.append(_reference(file, face, embedder))
    kept = _best(name, _same_person(name, references, embedder, notes), notes)
    notes.extend(_too_few(name, kept))
    return Person(name, kept) if kept else None


def _too_few(name: str, references: tuple[Reference, ...]) -> list[str]:
    """The note that a person has few references, if that is the case."""
    if not 0 < len(references) < FEW_REFERENCES:
        return []
    return [f"{name}: only {len(references)} usable. {FEW_REFERENCES} or more pictures give a better likeness."]


def _same_person(
    name: str, references: list[Reference], embedder: Embedder | None, notes: list[str]
) -> tuple[Reference, ...]:
    """The references without those that show someone else; an embedder that only proposes cannot tell, and keeps them
    all."""
    if embedder is None or embedder.proposes or len(references) < 2:
        return tuple(references)
    embeddings = np.stack([one.embedding for one in references if one.embedding is not None])
    others = outliers(embedder.similarity(embeddings, embeddings), embedder.threshold)
    if others is None:
        notes.append(
            f"{name}: the pictures do not look like the same person, and there is no majority. All are used. Check "
            "them."
        )
        return tuple(references)
    notes.extend(
        f"{name}: skipped {references[index].name}, it does not look like the person in the other pictures."
        for index in sorted(others)
    )
    return tuple(reference for index, reference in enumerate(references) if index not in others)


def _best(name: str, references: tuple[Reference, ...], notes: list[str]) -> tuple[Reference, ...]:
    """At most ten references."""
    if len(references) <= MOST_REFERENCES:
        return references
    notes.append(f"{name}: the {MOST_REFERENCES} largest and sharpest of {len(references)} pictures were kept.")
    return tuple(sorted(references, key=lambda reference: detail(reference.crop), reverse=True)[:MOST_REFERENCES])


def _reference(file: str, face: Face, embedder: Embedder | None) -> Reference:
    matrix = face.similarity.matrix
    landmarks = moved(face.landmarks, matrix)
    return Reference(file, face.crop, landmarks, None if embedder is None else embedder.embed(face.crop))


def detail(crop: Tensor) -> float:
    """How much fine detail an aligned crop holds: mean absolute Laplacian of the inner face.

    All crops have one size, so a small face, enlarged, has little of it: this one number ranks size and sharpness.
    """
    return fine_detail(crop[:, 128:448, 96:416].mean(0))


def _space(embedder: Embedder | None) -> str:
    return "none" if embedder is None else embedder.name
