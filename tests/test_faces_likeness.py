"""Strangers are known again from photograph to photograph."""

from __future__ import annotations

import base64

import numpy as np
import pytest
from personal_restore.lib.faces import likeness
from personal_restore.lib.faces.likeness import Groups, vector_of


def text(vector, space: str = "dlib") -> str:
    return f"{space}:{base64.b64encode(np.asarray(vector, '<f2').tobytes()).decode()}"


def near(vector, rng) -> str:
    return text(vector + 0.02 * rng.normal(size=len(vector)))


@pytest.fixture
def people() -> np.ndarray:
    vectors = np.random.default_rng(0).normal(size=(3, 128))
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def test_faces_of_one_person_share_a_group_and_those_of_others_do_not(people):
    groups, rng = Groups(), np.random.default_rng(1)
    numbers = [[groups.add(near(person, rng), set()) for person in people] for _ in range(5)]
    assert numbers == [[0, 1, 2]] * 5


def test_one_photograph_shows_a_person_once(people):
    groups, taken = Groups(), set()
    assert [groups.add(text(people[0]), taken) for _ in range(3)] == [0, 1, 2] and taken == {0, 1, 2}


def test_two_spaces_never_mix_and_one_that_only_proposes_makes_no_groups(people):
    groups = Groups()
    assert groups.add(text(people[0]), set()) == 0 and groups.add(text(people[0], "arcface"), set()) == 1
    assert [groups.add(text(people[0], "classical"), set()) for _ in range(2)] == [2, 3]


@pytest.mark.parametrize(
    "bad", [None, 3, "", "dlib", "dlib:%%%", "dlib:AA==", "x:AAA=", text([np.nan, 1]), text([0, 0])]
)
def test_what_describes_no_face_has_no_group(bad):
    assert vector_of(bad) is None and Groups().add(bad, set()) is None


def test_memory_is_bounded_and_the_groups_that_live_are_still_found(people, monkeypatch):
    monkeypatch.setattr(likeness, "LIVELY", 100)
    groups, rng = Groups(), np.random.default_rng(2)
    for number in range(300):
        groups.add(text(rng.normal(size=128)), set())
        assert groups.add(near(people[0], rng), set()) == 1, number
    (space,) = groups._spaces.values()
    assert len(space._sums) == 100


def test_real_faces_of_one_person_are_one_stranger(photos):
    """dlib's network, where it is installed."""
    from personal_restore.lib.faces.detect import detect_faces, make_face
    from personal_restore.lib.faces.detection import main_face
    from personal_restore.lib.faces.embed import best_embedder
    from personal_restore.lib.pictures.files import read_picture

    embedder = best_embedder()
    if embedder.proposes:
        pytest.skip("no identity network: pip install dlib-bin face_recognition_models")
    groups, numbers = Groups(), []
    for name in ("human/stock-emotions-a-1.jpg", "human/stock-emotions-a-3.jpg", "face_recognition/obama1.jpg"):
        picture = read_picture(photos / name)
        face = make_face(picture, main_face(detect_faces(picture), picture.shape[-2:]))
        numbers.append(groups.add(likeness.description(face, embedder), set()))
    assert numbers[0] == numbers[1] != numbers[2]
