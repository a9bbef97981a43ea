"""Faces marked for people to check."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from personal_restore.lib.faces.detect import detect_faces, make_face
from personal_restore.lib.faces.review import KNOWN, STRANGER, face_label, mark
from personal_restore.lib.vocabulary import Faces, UserError
from personal_restore.nodes.faces import ReviewFaces
from PIL import Image


@pytest.fixture(scope="module")
def face(astronaut):
    return make_face(astronaut[0], detect_faces(astronaut[0])[0])


def colours(picture: Image.Image) -> set:
    return {colour for _, colour in picture.getcolors(picture.width * picture.height)}


def test_known_people_and_strangers_have_their_own_colour_and_the_original_stays():
    blank = Image.new("RGB", (200, 100))
    marked = mark(blank, [((10, 10, 60, 60), "0 Anna 83 %", True)])
    assert KNOWN in colours(marked) and STRANGER not in colours(marked)
    assert STRANGER in colours(mark(blank, [((10, 10, 60, 60), "0 ?", False)]))
    assert colours(blank) == {(0, 0, 0)}


@pytest.mark.parametrize("box", [(0, 0, 40, 100), (170, 60, 200, 100), (-20, -20, 230, 130), (5, 5, 6, 6)])
def test_a_box_at_any_border_keeps_its_label_inside(box):
    marked = mark(Image.new("RGB", (200, 100)), [(box, "0 Anna", True)])
    assert marked.size == (200, 100) and len(colours(marked)) > 1


def test_the_label_carries_the_number_that_an_override_names(face):
    assert face_label(2, replace(face, person="Anna", confidence=0.834)) == "2 Anna 83%"
    assert face_label(0, face) == "0 ?"


def test_the_node_marks_only_the_face(face, astronaut):
    image = astronaut.permute(0, 2, 3, 1)
    out = ReviewFaces.execute(image, Faces(((face,),), (512, 512))).args[0]
    changed = ((out - image).abs().amax(-1) > 0.01)[0].nonzero()
    assert out.shape == image.shape and len(changed) > 100
    x0, y0, x1, y1 = face.box
    assert changed[:, 0].min() >= y0 - 1 and changed[:, 1].min() >= x0 - 1
    assert changed[:, 0].max() <= y1 + 20


def test_faces_of_another_photograph_are_refused(face, astronaut):
    with pytest.raises(UserError, match="Review Faces"):
        ReviewFaces.execute(torch.rand(1, 20, 20, 3), Faces(((face,),), (512, 512)))
