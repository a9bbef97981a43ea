"""What is compared on a damaged face: each method gives the whole picture, with the face blended into the restored scene."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from tqdm import tqdm

from ...lib.bridge import keep
from ...lib.faces.detect import make_face
from ...lib.faces.detection import Detection
from ...lib.faces.embed import DLIB_NORM, Embedder
from ...lib.faces.library import library_from_images
from ...lib.faces.match import match_faces
from ...lib.fusion.compose import compose_faces
from ...lib.restoring.apply import restore_faces
from ...lib.vocabulary import DegradationCode, Face, Library, Person, Restorer, UserError
from ...models.album import ready as album
from ...models.album.restorer import AlbumRestorer
from ...models.embedded.reference_restorer import ReferenceRestorer
from .faces_cases import Case, lone_face

METHODS = {
    "damaged": "the picture as it is",
    "scene": "the embedded restorer with the estimated code, without an album",
    "old": "the reference restorer of before",
    "fusion": "the album restorer by rules alone",
    "gate": "the album restorer with its learned gate",
    "wrong": "the best album method, forced to use another person's album",
    "lookalike": "the same with the album of the most similar other person",
    "matched": "the best album method, if the face is recognized among all people",
    "matched_wrong": "the best album method, if the face is recognized in another person's album",
    "truth_help": "the best album method with the true landmarks and the true damage",
}
USUAL = ("damaged", "scene", "old", "fusion", "gate", "wrong")


@dataclass(frozen=True)
class Albums:
    """person: who is in the picture, without that picture; everybody: all people, likewise; wrong, lookalike: two others."""

    person: Person
    everybody: Library
    wrong: Person | None
    lookalike: Person | None


@dataclass(frozen=True)
class Result:
    """picture: ``[1, 3, h, w]``; refused: the matching found nobody (only methods that match)."""

    picture: torch.Tensor
    refused: bool | None = None


def available() -> tuple[str, ...]:
    """The usual methods for which all weights are present."""
    return tuple(name for name in USUAL if name != "gate" or album.WEIGHTS.is_file())


def check_methods(methods: tuple[str, ...]) -> None:
    """Raises UserError for a method that does not exist or cannot run."""
    for name in methods:
        if name not in METHODS:
            raise UserError(f"--methods: there is no method {name!r}. Choose from {', '.join(METHODS)}.")
        if name == "gate" and not album.WEIGHTS.is_file():
            raise UserError(f"--methods: gate needs {album.WEIGHTS.name}, which is missing. Leave gate out.")


def best_album() -> AlbumRestorer:
    """With the learned gate if its weights are present, else by rules."""
    return album.restorer(keep) if album.WEIGHTS.is_file() else AlbumRestorer(None)


def apply(name: str, case: Case, albums: Albums, embedder: Embedder) -> Result | None:
    """None where the method does not apply because there is no other person. embedder: of the albums."""
    match name:
        case "damaged":
            return Result(case.damaged)
        case "scene":
            return Result(case.scene)
        case "old":
            return Result(scene_with_album(case, ReferenceRestorer(), albums.person))
        case "fusion":
            return Result(scene_with_album(case, AlbumRestorer(None), albums.person))
        case "gate":
            return Result(scene_with_album(case, album.restorer(keep), albums.person))
        case "wrong":
            return None if albums.wrong is None else Result(scene_with_album(case, best_album(), albums.wrong))
        case "lookalike":
            return None if albums.lookalike is None else Result(scene_with_album(case, best_album(), albums.lookalike))
        case "matched":
            return recognized(case, albums.everybody, embedder)
        case "matched_wrong":
            if albums.wrong is None:
                return None
            return recognized(case, replace(albums.everybody, people=(albums.wrong,)), embedder)
        case "truth_help":
            return Result(with_truth(case, albums.person))
    raise UserError(f"--methods: there is no method {name!r}. Choose from {', '.join(METHODS)}.")


def scene_with_album(
    case: Case,
    restorer: Restorer,
    person: Person,
    face: Face | None = None,
    code: DegradationCode | None = None,
    confidence: float = 1.0,
) -> torch.Tensor:
    """The scene ``[1, 3, h, w]`` with the face restored from a person's album, as if the user had named the person.

    face, code: instead of the estimated ones. A face that was not found stays as the scene restoration left it.
    """
    face = case.face if face is None else face
    if face is None:
        return case.scene
    known = lone_face(replace(face, person=person.name, confidence=confidence), case.faces.size)
    library = Library((person,), "dlib")
    done = restore_faces(case.damaged, known, restorer, library, code=case.code if code is None else code)
    return compose_faces(case.scene, done)[0]


def recognized(case: Case, library: Library, embedder: Embedder) -> Result:
    """As in the workflows: matched with the usual threshold, restored from the album only if that finds somebody."""
    if case.index is None:
        return Result(case.scene, True)
    found = match_faces(case.faces, library, embedder).frames[0][case.index]
    person = library.get(found.person)
    if person is None:
        return Result(case.scene, True)
    return Result(scene_with_album(case, best_album(), person, confidence=found.confidence), False)


def with_truth(case: Case, person: Person) -> torch.Tensor:
    """With the landmarks of the undamaged picture and the numbers of the recipe; the scene restoration stays the same."""
    detection = Detection(case.subject.box, case.subject.landmarks, 1.0)
    face = make_face(case.damaged[0], detection)
    face = replace(face, restored=make_face(case.scene[0], detection).crop)
    code = DegradationCode(torch.zeros(1, 1, 1, 1), torch.zeros(1, 21, 1), "truth", case.scalars)
    return scene_with_album(case, best_album(), person, face, code)


def albums_for(library: Library, person: str, file: str, seed: int) -> Albums | None:
    """None if nothing of the person is left without that picture."""
    everybody = without(library, person, file)
    own = everybody.get(person)
    if own is None or not own.references:
        return None
    others = [one for one in everybody.people if one.name != person and one.references]
    if not others:
        return Albums(own, everybody, None, None)
    wrong = others[np.random.default_rng(seed).integers(len(others))]
    nearest = min(
        others, key=lambda one: float(np.mean(distances(reference_embeddings(own), reference_embeddings(one))))
    )
    return Albums(own, everybody, wrong, nearest)


def without(library: Library, person: str, file: str) -> Library:
    """The library without one picture of a person."""
    people = tuple(
        replace(one, references=tuple(r for r in one.references if one.name != person or r.name != file))
        for one in library.people
    )
    return replace(library, people=people)


def proposing(library: Library, embedder: Embedder) -> Library:
    """The same people with the embeddings of another space."""
    people = tuple(
        replace(one, references=tuple(replace(r, embedding=embedder.embed(r.crop)) for r in one.references))
        for one in library.people
    )
    return replace(library, people=people, embedder=embedder.name)


def reference_embeddings(person: Person) -> np.ndarray:
    """``[R, D]``."""
    return np.stack([reference.embedding for reference in person.references])


def distances(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """dlib's distance of unit vectors ``[N, D]`` and ``[M, D]``: ``[N, M]``; .6 is its published decision threshold."""
    return DLIB_NORM * np.sqrt(np.clip(2 - 2 * first @ second.T, 0, None))


def single_albums(portraits: dict[str, torch.Tensor], embedder: Embedder) -> Library:
    """A library with one picture ``[3, H, W]`` per name; names whose picture shows no usable face are left out."""
    people = []
    for name, picture in tqdm(portraits.items(), desc="albums"):
        people += library_from_images(picture[None], name, embedder).people
    return Library(tuple(people), embedder.name)
