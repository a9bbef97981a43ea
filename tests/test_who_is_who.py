"""Who is who on real photographs: damaged ones, groups, a crowd, a stranger, and a child with an album of the adult."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import torch
from personal_restore.lib.faces import detect, embed, library, match, mtcnn
from personal_restore.lib.faces.paste import face_region
from personal_restore.lib.pictures.files import read_picture
from personal_restore.lib.restoring.apply import restore_faces
from personal_restore.lib.vocabulary import Faces, Library
from personal_restore.models.embedded import ready as embedded

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        mtcnn.weight_folder() is None, reason="the detector is not installed; python run.py test installs it"
    ),
]
needs_dlib = pytest.mark.skipif(
    detect.dlib_file("dlib_face_recognition_resnet_model_v1.dat") is None,
    reason="dlib's network is not installed; python run.py test installs it",
)


@dataclass(frozen=True)
class Scene:
    """people: who the faces are, in reading order; albums: files, or (file, number of the face in it)."""

    photo: str
    people: list[str | None]
    albums: dict[str, list]


PRESIDENTS = {
    "obama": ["face_recognition/obama_obama.jpg", "face_recognition/obama_obama2.jpg"],
    "biden": ["face_recognition/biden_biden.jpg", "face_recognition/biden_biden2.jpg"],
}
INTERIOR = {"A": [f"compreface/00{n}_A.jpg" for n in (2, 4, 5, 6)], "C": ["compreface/009_C.jpg"]}
BAND = {name: [("codeformer/02.png", number)] for number, name in enumerate("abcd")}
EINSTEIN = {"einstein": ["uniface/einstein.png", "fastcomposer/einstein.jpeg"]}
TRIPTYCH = "diffbir/whole_img_01.jpg"
SCENES = {
    "four men, three albums": Scene(
        "codeformer/00.jpg",
        ["P1", "P2", "P3", None],
        {
            "P1": ["pulid/lecun.jpg", (TRIPTYCH, 2)],
            "P2": ["pulid/hinton.jpeg", (TRIPTYCH, 1)],
            "P3": [(TRIPTYCH, 0)],
        },
    ),
    "a band, 248 px wide": Scene("codeformer/01.jpg", ["d", "a", "c", "b"], BAND),
    "29 scientists, one album": Scene("uniface/scientists.png", [None] * 24 + ["einstein"] + [None] * 4, EINSTEIN),
    "two known men and a stranger": Scene("face_recognition/obama_and_biden.jpg", ["biden", "obama", None], PRESIDENTS),
    "two men": Scene("face_recognition/face_recognition_two_people.jpg", ["obama", "biden"], PRESIDENTS),
    "a person in an interior": Scene("compreface/001_A.jpg", ["A"], INTERIOR),
    "another interior": Scene("compreface/003_A.jpg", ["A"], INTERIOR),
    "low light, a stranger to both albums": Scene("compreface/008_B.jpg", [None], INTERIOR),
}


def face_of(photos: Path, file: str, number: int) -> torch.Tensor:
    """One face of a group, with its surroundings."""
    photo = read_picture(photos / file)
    x0, y0, x1, y1 = face_region(detect.detect_faces(photo)[number].box, 0.6, photo.shape[-2:])
    return photo[:, y0:y1, x0:x1]


def known(photos: Path, albums: dict[str, list], embedder) -> Library:
    people = Library((), embedder.name)
    for name, files in albums.items():
        for file in files:
            picture = read_picture(photos / file) if isinstance(file, str) else face_of(photos, *file)
            people = library.merge_libraries(people, library.library_from_images(picture[None], name, embedder))
    return people


def faces_of(photo: torch.Tensor) -> Faces:
    """As found, and blindly restored."""
    frame = tuple(detect.make_face(photo, found) for found in detect.detect_faces(photo))
    faces = Faces((frame,), photo.shape[-2:])
    return restore_faces(photo[None], faces, embedded.restorer(lambda module: lambda: module), Library())


def names(faces: Faces) -> list[str | None]:
    return [face.person for face in faces.frames[0]]


@needs_dlib
@pytest.mark.parametrize("scene", SCENES.values(), ids=SCENES)
def test_everybody_is_who_they_are_and_strangers_are_left_alone(photos, scene):
    embedder = embed.by_name("dlib")
    faces = faces_of(read_picture(photos / scene.photo))
    people = known(photos, scene.albums, embedder)
    assert names(match.match_faces(faces, people, embedder)) == scene.people
    backwards = Library(people.people[::-1], embedder.name)
    assert names(match.match_faces(faces, backwards, embedder)) == scene.people
    # The restored faces alone, and the damaged ones alone, say the same.
    for alone in (lambda f: replace(f, crop=f.restored), lambda f: replace(f, restored=None)):
        assert names(match.match_faces(faces.map(alone), people, embedder)) == scene.people


@needs_dlib
def test_in_a_crowd_without_him_nobody_is_taken_for_einstein(photos):
    embedder = embed.by_name("dlib")
    photo = read_picture(photos / "uniface/scientists.png")
    frame = tuple(detect.make_face(photo, found) for found in detect.detect_faces(photo))
    others = Faces((tuple(face for number, face in enumerate(frame) if number != 24),), photo.shape[-2:])
    people = known(photos, EINSTEIN, embedder)
    matched = match.match_faces(others, people, embedder)
    assert len(others) == 28 and set(names(matched)) == {None}
    assert any("perhaps einstein" in face.doubt for face in matched.frames[0]), (
        "else the rule for crowds was not needed"
    )


@needs_dlib
@pytest.mark.parametrize(("photo", "index"), [("codeformer/05.jpg", 0), ("codeformer/06.png", 0)])
def test_a_child_with_an_album_of_the_adult_is_reported_as_doubtful(photos, photo, index):
    embedder = embed.by_name("dlib")
    people = known(photos, {"adult": [f"deepface/img3{n}.jpg" for n in (4, 5, 6, 7)]}, embedder)
    face = match.match_faces(faces_of(read_picture(photos / photo)), people, embedder).frames[0][index]
    assert face.confidence < embedder.sure and "check" in face.doubt


def test_without_an_embedding_network_the_proposals_are_marked_as_such(photos, capsys):
    """How many of them are right is printed; that they are to be checked is always said."""
    embedder = embed.by_name("classical")
    right = wrong = missed = 0
    for title in ("four men, three albums", "a band, 248 px wide", "two men", "a person in an interior"):
        scene = SCENES[title]
        faces = faces_of(read_picture(photos / scene.photo))
        matched = match.match_faces(faces, known(photos, scene.albums, embedder), embedder)
        for face, truth in zip(matched.frames[0], scene.people, strict=True):
            assert face.person is None or face.doubt
            right += face.person is not None and face.person == truth
            wrong += face.person is not None and face.person != truth
            missed += face.person is None and truth is not None
    with capsys.disabled():
        print(f"\nclassical: {right} right, {wrong} wrong, {missed} known people left as strangers")
    assert right > wrong
