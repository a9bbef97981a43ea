"""Who is who: one-to-one, independent of the order of people, and the user's word is final."""

from __future__ import annotations

import itertools
import time
from dataclasses import replace

import numpy as np
import pytest
import torch
from personal_restore.lib.faces import match
from personal_restore.lib.vocabulary import Face, Faces, Library, Person, Reference, Similarity, UserError


class FakeEmbedder:
    """The embedding of a crop is its mean colour, so that a test paints who a face is."""

    name, threshold, alone, sure, proposes = "fake", 0.9, 0.85, 0.9, False

    def embed(self, crop):
        colour = crop.mean((1, 2)).numpy()
        return (colour / np.linalg.norm(colour)).astype(np.float32)

    def similarity(self, faces, references):
        return np.clip(faces @ references.T, 0, 1)


RED, GREEN, BLUE, GREY = (1.0, 0.1, 0.1), (0.1, 1.0, 0.1), (0.1, 0.1, 1.0), (0.5, 0.5, 0.5)


def crop(colour) -> torch.Tensor:
    return torch.tensor(colour)[:, None, None].expand(3, 8, 8)


def face(colour) -> Face:
    similarity = Similarity(np.eye(2, 3), 8)
    return Face((0, 0, 8, 8), np.zeros((5, 2)), 1.0, similarity, crop(colour), torch.ones(1, 8, 8))


def person(name, *colours) -> Person:
    embed = FakeEmbedder().embed
    return Person(name, tuple(Reference(str(c), crop(c), np.zeros((5, 2)), embed(crop(c))) for c in colours))


LIBRARY = Library((person("Anna", RED), person("Ben", GREY, GREEN)), "fake")


def names(faces: Faces) -> list[list[str | None]]:
    return [[face.person for face in frame] for frame in faces.frames]


def matched(*frames, library=LIBRARY, **options) -> Faces:
    faces = Faces(tuple(tuple(face(colour) for colour in frame) for frame in frames), (8, 8))
    return match.match_faces(faces, library, FakeEmbedder(), **options)


def test_each_photograph_is_matched_on_its_own_and_strangers_stay_strangers():
    result = matched([BLUE, GREEN, RED], [], [RED])
    assert names(result) == [[None, "Ben", "Anna"], [], ["Anna"]]
    assert [face.confidence > 0.9 for face in result.frames[0]] == [False, True, True]


def test_the_only_face_and_the_only_person_need_less_similarity_and_are_doubtful():
    orange, anna = (1.0, 0.7, 0.1), Library(LIBRARY.people[:1], "fake")
    alone = matched([orange], library=anna)
    assert names(alone) == [["Anna"]] and alone.frames[0][0].doubt == "not sure: check"
    assert names(matched([orange, BLUE], [orange], library=anna)) == [[None, None], ["Anna"]]
    assert names(matched([orange])) == [[None]], "somebody else of the library is as likely to be meant"
    assert names(matched([orange], library=anna, threshold=0.9)) == [[None]], "the user's threshold is final"


def test_as_many_faces_as_people_need_less_similarity_if_each_is_like_one_of_them():
    orange, lime = (1.0, 0.7, 0.1), (0.75, 1.0, 0.1)
    assert names(matched([orange, BLUE])) == [[None, None]], "only one of them is like somebody"
    both = matched([orange, lime]).frames[0]
    assert [one.person for one in both] == ["Anna", "Ben"] and all("check" in one.doubt for one in both)
    assert names(matched([orange, lime, BLUE])) == [[None, None, None]]
    assert names(matched([orange, lime, BLUE], override="2=nobody")) == [["Anna", "Ben", None]]
    assert names(matched([orange, BLUE], override="1=Ben")) == [["Anna", "Ben"]]


def test_of_a_person_nobody_was_taken_for_the_most_similar_face_is_named_as_a_doubt():
    orange, yellow = (1.0, 0.7, 0.1), (1.0, 0.75, 0.1)
    first, second, third = matched([yellow, orange, BLUE]).frames[0]
    assert [one.person for one in (first, second, third)] == [None] * 3
    assert second.doubt == "perhaps Anna (0.87), but 0.90 is needed: say who it is"
    assert first.doubt.startswith("perhaps Ben (0.8") and third.doubt == ""
    red, other = matched([RED, orange]).frames[0]
    assert (red.person, red.doubt) == ("Anna", "") and "Anna" not in other.doubt, "Anna is somebody else here"
    anna = Library(LIBRARY.people[:1], "fake")
    assert "but 0.85 is needed" in matched([(1.0, 0.9, 0.1)], library=anna).frames[0][0].doubt
    assert matched([orange], override="0=nobody").frames[0][0].doubt == "", "what was said is no doubt"


def test_a_person_is_given_to_one_face_only():
    assert names(matched([(1.0, 0.3, 0.1), RED, RED])) == [[None, "Anna", None]]


def test_assignment_is_one_to_one_and_blind_to_the_order_of_people():
    people = ["Anna", "Ben", "Cleo", "Dora"]
    for seed in range(20):
        # Coarse values, so that ties are common.
        similarity = np.random.default_rng(seed).integers(0, 5, (5, 4)) / 4
        expected = match.assign(similarity, people, 0.5)
        assigned = [name for name in expected if name]
        assert len(assigned) == len(set(assigned))
        assert all(name is None or similarity[row, people.index(name)] >= 0.5 for row, name in enumerate(expected))
        for order in itertools.permutations(range(4)):
            assert match.assign(similarity[:, order], [people[i] for i in order], 0.5) == expected


def test_an_empty_library_leaves_everybody_a_stranger():
    assert names(matched([RED, GREEN], library=Library())) == [[None, None]]


def test_no_faces_are_no_trouble():
    assert names(matched([], [])) == [[], []]


def test_references_without_embeddings_match_nobody():
    bare = Person("Anna", (Reference("a", crop(RED), np.zeros((5, 2))),))
    assert names(matched([RED], library=Library((bare,), "fake"))) == [[None]]


def test_a_library_from_another_embedding_space_is_refused():
    with pytest.raises(UserError, match="dlib.*fake"):
        matched([RED], library=Library(LIBRARY.people, "dlib"))


def test_the_override_counts_over_the_whole_batch_and_is_final():
    result = matched([BLUE, RED], [RED, GREEN], override="0=anna, 3 = nobody")
    assert names(result) == [["Anna", None], ["Anna", None]]
    assert result.frames[0][0].confidence == 1 and result.frames[1][1].confidence == 0


def test_names_with_commas_can_be_overridden():
    people = ["Smith, Anna", "Ben"]
    assert match.parse_override("0=Smith, Anna, 1=Ben\n2=nobody,", 3, people) == {0: "Smith, Anna", 1: "Ben", 2: None}
    assert match.parse_override("  ", 3, people) == {}


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("Anna", "not valid"),
        ("x=Anna", "not valid"),
        ("-1=Anna", "not valid"),
        ("2=Anna", "last face is number 1"),
        ("0=Zoe", "no 'Zoe'.*Anna, Ben"),
        ("0=Anna, 0=Ben", "twice"),
    ],
)
def test_an_override_that_cannot_be_meant_is_explained(text, complaint):
    with pytest.raises(UserError, match=complaint):
        match.parse_override(text, 2, ["Anna", "Ben"])


def test_names_with_semicolons_keep_them():
    assert match.parse_override("0=Smith; Anna;1=Ben", 2, ["Smith; Anna", "Ben"]) == {0: "Smith; Anna", 1: "Ben"}


@pytest.mark.parametrize(
    "text", ["\n" * 40_000, ", " * 40_000 + "x", "0=Anna" + "\n" * 40_000 + "x", "0=" + "1" * 40_000]
)
def test_a_long_text_takes_no_time(text):
    start = time.perf_counter()
    for parse in (lambda: match.parse_override(text, 2, ["Anna"]), lambda: match.chosen_people(text, ["Anna"])):
        try:
            parse()
        except UserError as error:
            assert len(str(error)) < 1000
    match.chosen_people(text, ["Anna"], complete=False)
    assert time.perf_counter() - start < 2


@pytest.mark.parametrize("number", ["9" * 5000, "\u00b2", "1e3"])
def test_a_number_that_no_face_has_is_explained(number):
    with pytest.raises(UserError, match="override"):
        match.parse_override(f"{number}=Anna", 2, ["Anna"])


def test_an_override_without_any_face_says_so():
    with pytest.raises(UserError, match="no face was found"):
        match.parse_override("0=Anna", 0, ["Anna"])


def test_a_face_is_known_by_its_restoration_as_well_as_by_itself():
    hidden = replace(face(BLUE), restored=crop(RED))
    seen = replace(face(RED), restored=crop(BLUE))
    for one in (hidden, seen):
        assert names(match.match_faces(Faces(((one,),), (8, 8)), LIBRARY, FakeEmbedder())) == [["Anna"]]


def test_below_the_sure_limit_a_face_must_stand_out_from_those_that_nobody_claims():
    """In a crowd somebody always looks a little like a known person, and somebody else nearly as much."""

    def weigh(column, names):
        return match.weigh(np.array(column)[:, None], ["Anna"], names, sure=0.6)

    crowd = weigh([0.51, 0.55, 0.54], [None, "Anna", None])
    assert [one.person for one in crowd] == [None] * 3 and "perhaps Anna (0.55)" in crowd[1].doubt
    alone = weigh([0.2, 0.55], [None, "Anna"])[1]
    assert alone == match.Match("Anna", 0.55, "not sure: check")
    assert weigh([0.62, 0.60], ["Anna", None])[0] == match.Match("Anna", 0.62)


def test_two_people_who_look_nearly_alike_are_to_be_checked():
    similarity = np.array([[0.7, 0.68], [0.1, 0.65]])
    first, second = match.weigh(similarity, ["Anna", "Ben"], ["Anna", "Ben"], sure=0.6)
    assert first.person == "Anna" and "Ben, 0.68" in first.doubt and second.doubt == ""


def test_whom_a_restorer_is_for():
    people = ["Smith, Anna", "Smith", "Ben"]

    def meant(text, **options):
        wanted = match.chosen_people(text, people, **options)
        return [person for person in (*people, None) if wanted(person)]

    assert meant("") == meant(" , ") == meant("known, strangers") == [*people, None]
    assert meant("smith, anna; BEN") == ["Smith, Anna", "Ben"]
    assert meant("Smith\nstrangers") == ["Smith", None]
    assert meant("known") == people and meant("strangers") == [None]
    with pytest.raises(UserError, match="called 'zoe'.*Ben.*'strangers'"):
        meant("Ben, Zoe")
    assert meant("Zoe", complete=False) == [] and meant("Zoe, Ben", complete=False) == ["Ben"]
