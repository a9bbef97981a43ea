"""Detection, landmarks and crops as stages of their own."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from personal_restore.lib.faces import extract, mtcnn
from personal_restore.lib.vocabulary import UserError
from personal_restore.nodes.faces import DetectFaces
from personal_restore.nodes.landmarks import CropFaces, DetectLandmarks, EditLandmarks

pytestmark = pytest.mark.skipif(
    mtcnn.weight_folder() is None, reason="facenet-pytorch's weights are not installed; python run.py test installs it"
)


@pytest.fixture(scope="module")
def image(astronaut) -> torch.Tensor:
    return astronaut[..., :256, 80:336].movedim(1, -1).contiguous()


@pytest.fixture(scope="module")
def found(image):
    return DetectLandmarks.execute(image, "auto", 0.0, "dlib 68").args[0]


@pytest.mark.parametrize("alignment", extract.ALIGNMENTS)
def test_the_stages_give_the_crops_of_detect_faces(image, found, alignment):
    whole = DetectFaces.execute(image, 0.0, alignment=alignment).args[0]
    edited, shown, _ = EditLandmarks.execute(image, found, "").args
    parts, report = CropFaces.execute(image, edited, alignment).args
    (one,), (other,) = whole.frames[0], parts.frames[0]
    assert torch.equal(one.crop, other.crop) and torch.equal(one.valid, other.valid) and one.box == other.box
    assert np.array_equal(one.similarity.matrix, other.similarity.matrix)
    assert parts.used["crop"] in report and whole.used["detector"] == parts.used["detector"]
    assert shown.shape == image.shape and not torch.equal(shown, image)


def test_without_dlib_five_points_take_its_place_and_the_report_says_so(image, monkeypatch):
    monkeypatch.setattr(extract, "predicted", lambda face: None)
    landmarks, report = DetectLandmarks.execute(image, "auto", 0.0, "dlib 68").args
    assert "landmarks: dlib's 68 points in 0 of 1 faces, five points in the others" in report
    assert len(CropFaces.execute(image, landmarks, "perfuse").args[0]) == 1


def test_an_edited_eye_turns_the_crop(image, found):
    eye = found.frames[0][0].landmarks[0]
    edited, _, text = EditLandmarks.execute(image, found, f"0 left_eye {eye[0]:.1f} {eye[1] + 9:.1f}").args
    assert f"0 left_eye {eye[0]:.1f} {eye[1] + 9:.1f}" in text.splitlines()
    before, after = (CropFaces.execute(image, one, "perfuse").args[0].frames[0][0] for one in (found, edited))
    across = edited.frames[0][0].landmarks[1] - edited.frames[0][0].landmarks[0]
    assert after.similarity.turn == pytest.approx(np.degrees(np.arctan2(across[1], across[0])), abs=1e-6)
    assert abs(after.similarity.turn - before.similarity.turn) > 5


def test_a_face_is_dropped_and_one_from_elsewhere_is_added_by_the_text_of_the_first(image, found):
    (face,) = found.frames[0]
    points = " ".join(f"{value:.1f}" for value in face.landmarks.flatten())
    edited, _, text = EditLandmarks.execute(image, found, f"0 drop\n\nnew {points}\n").args
    assert len(edited.frames[0]) == 1 and text.splitlines()[0].startswith("0 left_eye ")
    crop, own = (CropFaces.execute(image, one, "ffhq").args[0].frames[0][0].crop for one in (edited, found))
    assert (crop - own).abs().mean() < 0.01
    x0, y0, x1, y1 = edited.frames[0][0].box
    centre = face.landmarks.mean(0)
    assert x0 < centre[0] < x1 and y0 < centre[1] < y1
    assert len(EditLandmarks.execute(image, found, "0 drop").args[0].frames[0]) == 0


@pytest.mark.parametrize(
    ("edits", "why"),
    [
        ("1 drop", "there are 1 faces"),
        ("0 ear 3 4", "the points are left_eye"),
        ("0 nose 3", "the points are left_eye"),
        ("0 nose 3 east", "it needs 2 numbers"),
        ("0 nose 3 nan", "lies outside the 256 x 256 photograph"),
        ("new 1 2 3", "it needs 10 numbers"),
        ("0 drop\n0 nose 3 4", "left out by an earlier line"),
        ("hello", "there are 1 faces"),
    ],
)
def test_an_edit_that_cannot_be_meant_is_named(image, found, edits, why):
    with pytest.raises(UserError, match=why):
        EditLandmarks.execute(image, found, edits)


def test_landmarks_of_another_photograph_are_refused(image, found):
    with pytest.raises(UserError, match="Crop Faces: the faces were found in 1 picture"):
        CropFaces.execute(image[:, :100], found, "ffhq")
